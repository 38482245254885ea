"""Search by meaning and by keywords, fused.

Each half (`documents.nearest`, `documents.matching`) proposes its best chunks; both scores are then
known for every proposed chunk, standardised over the proposal (mean 0, deviation 1) and added with fixed
weights. Words count in the chunk, in its heading and in its document's title. Fusing scores rather than
ranks, with these weights, found the most answers of the ways that were measured. What is given back are
passages: the best chunks, each with its neighbours (`documents.neighbours`).
"""

import logging
import re
from collections.abc import Sequence
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
from documents.nearest import COMPARED, cosines_of, nearest
from documents.neighbours import Place, passages
from documents.vectors import Vector
from leases.database import in_database

logger = logging.getLogger(__name__)

PROPOSED = 100  # chunks that each half proposes
MEANING, KEYWORDS = 0.7, 0.3
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


class Ranked(NamedTuple):
    """A chunk that was proposed."""

    id: int
    place: Place
    score: float


class Ranking(NamedTuple):
    """Chunks, best first; `by_meaning` tells whether vectors took part."""

    chunks: list[Ranked]
    by_meaning: bool


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
    embedder = get_embedder()
    try:
        vector = (await embedder.embed([query]))[0]
    except EmbeddingError as error:
        count_error(error)
        logger.exception("The query could not be embedded: searching by keywords alone.")
        vector = None
    return await in_database(search, documents, query, vector, embedder.model, limit)


def search(documents: QuerySet[Document], query: str, vector: Vector | None, model: str, limit: int) -> Found:
    """The best passages of these documents for the query.

    `vector` is the query's embedding by `model`, of unit length, or None to search by keywords alone.
    Only vectors of the same model are compared; chunks without one are found by their words.
    """
    ranking = rank(documents, query, vector, model)
    found = passages([(one.id, one.place) for one in ranking.chunks], limit)
    whole = Chunk.objects.select_related("document").defer("vector", "document__text", "document__pages")
    chunks = whole.in_bulk(list(found))
    return Found(
        hits=[
            Hit(chunks[one.id].document, chunks[one.id], found[one.id].text, round(one.score, 4))
            for one in ranking.chunks
            if one.id in chunks  # the others are not wanted, or gone meanwhile
        ],
        by_meaning=ranking.by_meaning,
        unconverted=documents.exclude(embedding_model=model).count(),
    )


def rank(documents: QuerySet[Document], query: str, vector: Vector | None, model: str) -> Ranking:
    """What both halves propose, the best first; for the arguments see `search`."""
    words = list(dict.fromkeys(_WORD.findall(query.lower())))[:QUERY_WORDS]
    converted = documents.filter(embedding_model=model)
    if vector is not None:
        converted = converted.filter(embedding_dimensions=vector.size)
    size = Chunk.objects.filter(document__in=documents.order_by())[: COMPARED + 1].count()
    cosines = nearest(converted, vector, PROPOSED, many=size > COMPARED) if vector is not None else {}
    ids = set(cosines) | set(matching(documents, words, PROPOSED, among=size))
    proposed = list(
        Chunk.objects.filter(id__in=ids).values_list(
            "id", "document_id", "index", "document__title", "heading", "text"
        )
    )
    if vector is not None:
        cosines |= cosines_of(converted, {pk: of for pk, of, *_ in proposed if pk not in cosines}, vector)
    scores = _fuse(
        np.array([cosines.get(pk, np.nan) for pk, *_ in proposed], dtype=np.float64),
        bm25(words, ["\n".join(written) for _, _, _, *written in proposed]),
    )
    chunks = [
        Ranked(pk, Place(document, index), float(score))
        for (pk, document, index, *_), score in zip(proposed, scores, strict=True)
        if score > 0
    ]
    return Ranking(sorted(chunks, key=lambda one: (-one.score, one.place)), by_meaning=bool(cosines))


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
    every query. A chunk without a vector counts as an average one in meaning."""
    known = cosines[~np.isnan(cosines)]
    if not known.size:
        return keywords
    meaning = np.clip(np.where(np.isnan(cosines), known.mean(), cosines), 0.0, 1.0)
    spread_meaning, spread_keywords = float(meaning.std()), float(keywords.std())
    if not spread_meaning or not spread_keywords:
        share = MEANING if spread_keywords or keywords.any() else 1.0
    else:
        share = MEANING / spread_meaning / (MEANING / spread_meaning + KEYWORDS / spread_keywords)
    return share * meaning + (1 - share) * keywords
