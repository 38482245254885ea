"""Search by meaning and by keywords, fused. The only similarity code.

Each half proposes its best chunks; both scores are then known for every proposed chunk, standardised
over the proposal (mean 0, deviation 1) and added with fixed weights. Fusing scores rather than ranks,
with these weights, found the most answers of the ways that were measured.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from threading import local

import numpy as np
import Stemmer
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from numpy.typing import NDArray
from pgvector.django import CosineDistance

from documents.embedders import get_embedder
from documents.embedders.base import EmbeddingError
from documents.models import Chunk, Document
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
    """A found chunk; `score` is 0 to 1, the same order as the ranking."""

    document: Document
    chunk: Chunk
    score: float

    @property
    def snippet(self) -> str:
        """The beginning of the passage on one line, cut between words."""
        line = " ".join(self.chunk.text.split())
        return line if len(line) <= SNIPPET else line[:SNIPPET].rsplit(" ", 1)[0] + " …"


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
    except EmbeddingError:
        logger.exception("The query could not be embedded: searching by keywords alone.")
        vector = None
    return await in_database(search, documents, query, vector, embedder.model, limit)


def search(documents: QuerySet[Document], query: str, vector: Vector | None, model: str, limit: int) -> Found:
    """The best chunks of these documents for the query.

    `vector` is the query's embedding by `model`, of unit length, or None to search by keywords alone.
    Only vectors of the same model are compared; chunks without one are found by their words.
    """
    words = list(dict.fromkeys(_WORD.findall(query.lower())))[:QUERY_WORDS]
    converted = documents.filter(embedding_model=model)
    if vector is not None:
        converted = converted.filter(embedding_dimensions=vector.size)
    cosines = _nearest(converted, vector) if vector is not None else {}
    ids = set(cosines) | set(_matching(documents, words))
    chunks = list(
        Chunk.objects.filter(id__in=ids).select_related("document").defer("vector", "document__text")
    )
    if vector is not None:
        cosines |= _cosines(converted, [chunk.id for chunk in chunks if chunk.id not in cosines], vector)
    scores = _fuse(
        np.array([cosines.get(chunk.id, np.nan) for chunk in chunks], dtype=np.float64),
        bm25(words, [chunk.text for chunk in chunks]),
    )
    best = sorted(range(len(chunks)), key=lambda i: (-scores[i], chunks[i].document_id, chunks[i].index))[
        :limit
    ]
    return Found(
        hits=[Hit(chunks[i].document, chunks[i], round(float(scores[i]), 4)) for i in best if scores[i] > 0],
        by_meaning=bool(cosines),
        unconverted=documents.exclude(embedding_model=model).count(),
    )


def bm25(words: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """How well each text matches the words, 0 to 1: BM25 over these texts, as a share of the most that
    the words could score (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009)."""
    if not words or not texts:
        return np.zeros(len(texts))
    bags = [Counter(_stems(_WORD.findall(text.lower()))) for text in texts]
    counts = np.array(
        [[bag[stem] for stem in dict.fromkeys(_stems(words))] for bag in bags], dtype=np.float64
    )
    lengths = np.array([bag.total() for bag in bags], dtype=np.float64)
    having = (counts > 0).sum(axis=0)
    idf = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
    damping = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
    scores: NDArray[np.float64] = (idf * counts * (K1 + 1) / (counts + damping[:, None])).sum(axis=1)
    shares: NDArray[np.float64] = scores / (idf.sum() * (K1 + 1))
    return shares


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


def _nearest(documents: QuerySet[Document], vector: Vector) -> dict[int, float]:
    """Chunk id -> cosine, for the chunks nearest to the vector."""
    chunks = Chunk.objects.filter(document__in=documents.order_by(), vector__isnull=False)
    if connection.vendor == "postgresql":
        nearest = chunks.annotate(distance=CosineDistance("vector", vector)).order_by("distance")[:PROPOSED]
        return {pk: 1.0 - distance for pk, distance in nearest.values_list("id", "distance")}
    ids, cosines = _stored_cosines(chunks, vector)
    best = np.argsort(-cosines)[:PROPOSED]
    return {int(ids[i]): float(cosines[i]) for i in best}


def _cosines(documents: QuerySet[Document], ids: Sequence[int], vector: Vector) -> dict[int, float]:
    """Chunk id -> cosine, for those of these chunks that belong to the documents."""
    chunks = Chunk.objects.filter(id__in=ids, document__in=documents.order_by(), vector__isnull=False)
    if connection.vendor == "postgresql":
        known = chunks.annotate(distance=CosineDistance("vector", vector))
        return {pk: 1.0 - distance for pk, distance in known.values_list("id", "distance")}
    found, cosines = _stored_cosines(chunks, vector)
    return dict(zip(found.tolist(), cosines.tolist(), strict=True))


def _stored_cosines(chunks: QuerySet[Chunk], vector: Vector) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows = list(chunks.values_list("id", "vector"))
    ids = np.array([pk for pk, _ in rows], dtype=np.int64)
    if not rows:
        return ids, np.zeros(0, dtype=np.float32)
    return ids, np.stack([stored for _, stored in rows if stored is not None]) @ vector


def _matching(documents: QuerySet[Document], words: Sequence[str]) -> list[int]:
    """The ids of the chunks that hold most of the words, as the database's own index ranks them."""
    if not words:
        return []
    chunks = Chunk.objects.filter(document__in=documents.order_by())
    if connection.vendor == "postgresql":
        asked = reduce(or_, (SearchQuery(word, config="english") for word in words))
        text = SearchVector("text", config="english")
        ranked = chunks.annotate(words=text).filter(words=asked).order_by(-SearchRank(text, asked))
        return list(ranked.values_list("id", flat=True)[:PROPOSED])
    try:
        sql, params = chunks.values("id").query.sql_with_params()
    except EmptyResultSet:  # Django knows without asking that there are none
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT rowid FROM documents_chunk_words
                WHERE documents_chunk_words MATCH %s AND rowid IN ({sql}) ORDER BY rank LIMIT %s""",  # noqa: S608
            [" OR ".join(f'"{word}"' for word in words), *params, PROPOSED],
        )
        return [row[0] for row in cursor.fetchall()]
