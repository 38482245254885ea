"""Search by meaning and by keywords, fused.

Each half (`documents.nearest`, `documents.matching`) proposes its best chunks; both scores of every proposed
chunk are standardised over the proposal (mean 0, deviation 1) and added with fixed weights. Words count in
the chunk, in its heading and in its document's title. Fusing scores rather than ranks, with these weights,
found the most answers of the ways that were measured. What is given back are passages: the best chunks, each
with its neighbours (`documents.neighbours`).
"""

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import local
from typing import NamedTuple

import numpy as np
import Stemmer
from django.db.models import QuerySet
from numpy.typing import NDArray

from documents.embedders import get_embedder
from documents.embedders.base import EmbeddingError
from documents.matching import matching
from documents.metrics import count_error
from documents.models import Chunk, Document
from documents.nearest import nearest
from documents.neighbours import Place, passages
from documents.vectors import Vector
from leases.database import in_database

logger = logging.getLogger(__name__)

PROPOSED = 50  # chunks that each half proposes
MEANING, KEYWORDS = 0.55, 0.45
QUERY_WORDS = 64
SNIPPET = 300  # characters
K1, B = 1.5, 0.75  # the usual constants of BM25

_WORD = re.compile(r"\w+")
_threads = local()


@dataclass(frozen=True)
class Hit:
    """A found chunk, and the `passage` that it and its neighbours make; `score` is 0 to 1, the same order
    as the ranking."""

    document: Document
    chunk: Chunk
    passage: str
    score: float

    @property
    def snippet(self) -> str:
        """The chunk on one line, cut between words."""
        line = " ".join(self.chunk.text.split())
        return line if len(line) <= SNIPPET else line[:SNIPPET].rsplit(" ", 1)[0] + " …"


class Proposed(NamedTuple):
    """A chunk that one of the halves proposed; `written` is what its words are counted in."""

    id: int
    place: Place
    written: str


class Ranked(NamedTuple):
    """A chunk that was proposed."""

    id: int
    place: Place
    score: float


@dataclass(frozen=True)
class Found:
    """Hits, best first.

    `by_meaning` tells whether vectors took part, `unconverted` counts the searched documents that have
    none of the present model and so could be found by their words only.
    """

    hits: list[Hit]
    by_meaning: bool
    unconverted: int


async def find(owner: str | None, query: str, *, document_ids: Sequence[str] | None, limit: int) -> Found:
    """The best chunks for the query in these documents of the owner's, or in all of them.

    Raises Http404 if one of the ids is not a document of the owner's. Without an embedding engine that
    answers, the search is by keywords alone, and `by_meaning` says so.
    """
    documents = await in_database(Document.objects.for_owner(owner).pick, document_ids)
    words = words_of(query)
    matched, cosines = await asyncio.gather(
        in_database(matching, documents, words, PROPOSED), _near(documents, query)
    )
    return await in_database(found, documents, words, matched, cosines, limit=limit)


async def _near(documents: QuerySet[Document], query: str) -> dict[int, float]:
    """What the half of meaning proposes: nothing, if the query could not be embedded."""
    embedder = get_embedder()
    try:
        vector = (await embedder.embed([query]))[0]
    except EmbeddingError as error:
        count_error(error)
        logger.exception("The query could not be embedded: searching by keywords alone.")
        return {}
    return await in_database(near, documents, vector, embedder.model)


def near(documents: QuerySet[Document], vector: Vector, model: str) -> dict[int, float]:
    """What the half of meaning proposes for a query's embedding by `model`, of unit length: chunks with
    their cosines. Only vectors of the same model are compared."""
    converted = documents.filter(embedding_model=model, embedding_dimensions=vector.size)
    return nearest(converted, vector, PROPOSED)


def words_of(query: str) -> list[str]:
    """The words that are looked for, each once."""
    return list(dict.fromkeys(_WORD.findall(query.lower())))[:QUERY_WORDS]


def found(
    documents: QuerySet[Document],
    words: Sequence[str],
    matched: Collection[int],
    cosines: Mapping[int, float],
    *,
    limit: int,
) -> Found:
    """The best passages for a query of these words: of the chunks `matched` by them and of those nearest in
    meaning, with their `cosines`; without any, the search is by keywords alone."""
    ranked = rank(words, matched, cosines)
    joined = passages([(one.id, one.place) for one in ranked], limit)
    whole = Chunk.objects.select_related("document").defer("vector", "document__text", "document__pages")
    chunks = whole.in_bulk(list(joined))
    return Found(
        hits=[
            Hit(chunks[one.id].document, chunks[one.id], joined[one.id].text, round(one.score, 4))
            for one in ranked
            if one.id in chunks  # the others are not wanted, or gone meanwhile
        ],
        by_meaning=bool(cosines),
        unconverted=documents.exclude(embedding_model=get_embedder().model).count(),
    )


def rank(words: Sequence[str], matched: Collection[int], cosines: Mapping[int, float]) -> list[Ranked]:
    """What both halves propose, the best first: the chunks `matched` by the words, and those nearest in
    meaning with their `cosines`."""
    proposed = _proposed({*cosines, *matched})
    scores = _fuse(
        np.array([cosines.get(one.id, np.nan) for one in proposed], dtype=np.float64),
        bm25(words, [one.written for one in proposed]),
    )
    ranked = [
        Ranked(one.id, one.place, float(score))
        for one, score in zip(proposed, scores, strict=True)
        if score > 0
    ]
    return sorted(ranked, key=lambda one: (-one.score, one.place))


def _proposed(ids: Collection[int]) -> list[Proposed]:
    """What is needed of these chunks to rank them."""
    rows = Chunk.objects.filter(id__in=ids).values_list(
        "id", "document_id", "index", "document__title", "heading", "text"
    )
    return [
        Proposed(pk, Place(document, index), "\n".join(written)) for pk, document, index, *written in rows
    ]


def bm25(words: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """How well each text matches the words, 0 to 1: BM25 over these texts, as a share of the most that
    the words could score (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009)."""
    if not words or not texts:
        return np.zeros(len(texts))
    spoken = [_WORD.findall(text.lower()) for text in texts]
    counts = _counts(words, spoken)
    lengths = np.array([len(all_words) for all_words in spoken], dtype=np.float64)
    having = (counts > 0).sum(axis=0)
    idf = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
    damping = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
    scores: NDArray[np.float64] = (idf * counts * (K1 + 1) / (counts + damping[:, None])).sum(axis=1)
    shares: NDArray[np.float64] = scores / (idf.sum() * (K1 + 1))
    return shares


def _counts(words: Sequence[str], spoken: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How often each text (a row) has the stem of each word (a column)."""
    columns = {stem: column for column, stem in enumerate(dict.fromkeys(_stems(words)))}
    initials = {stem[:1] for stem in columns}  # a stem begins as its word does
    vocabulary = [word for word in set().union(*spoken) if word[:1] in initials]
    stems = zip(vocabulary, _stems(vocabulary), strict=True)
    asked = {word: columns[stem] for word, stem in stems if stem in columns}
    counts = np.zeros((len(spoken), len(columns)))
    for row, all_words in enumerate(spoken):
        for word in all_words:
            if word in asked:
                counts[row, asked[word]] += 1
    return counts


def _stems(words: Sequence[str]) -> list[str]:
    if not hasattr(_threads, "stemmer"):
        _threads.stemmer = Stemmer.Stemmer("english")  # not safe to share between threads
    stems: list[str] = _threads.stemmer.stemWords(words)
    return stems


def _fuse(cosines: NDArray[np.float64], keywords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Both scores in one, 0 to 1. A weighted sum of standardised scores is, up to a constant, a mean of
    the plain ones weighted by weight / deviation; the mean keeps that order and means the same for
    every query. A chunk that is not among the nearest (NaN) counts as the last of them: how much farther
    away it is must not outweigh a rare word."""
    known = cosines[~np.isnan(cosines)]
    if not known.size:
        return keywords
    meaning = np.clip(np.where(np.isnan(cosines), known.min(), cosines), 0.0, 1.0)
    spread_meaning, spread_keywords = float(meaning.std()), float(keywords.std())
    if not spread_meaning or not spread_keywords:
        share = MEANING if spread_keywords or keywords.any() else 1.0
    else:
        share = MEANING / spread_meaning / (MEANING / spread_meaning + KEYWORDS / spread_keywords)
    return share * meaning + (1 - share) * keywords
