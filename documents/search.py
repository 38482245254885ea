"""Search by meaning and by keywords, fused.

Each half (`documents.nearest`, `documents.matching`) proposes its best chunks; both scores of every proposed
chunk are standardised over the proposal (mean 0, deviation 1) and added with fixed weights. The best of them
are looked at again, for words that are alike (`documents.likeness`). Words count in the chunk, in its heading
and in its document's title. Fusing scores rather than ranks, with these weights, found the most answers of
the ways that were measured. What is given back are passages: the best chunks, each
with its neighbours (`documents.neighbours`). A server named by RERANK_BASE_URL orders the best of them anew
(`documents.reranker`).
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from django.conf import settings
from django.db.models import QuerySet
from numpy.typing import NDArray

from documents.bm25 import bm25, words_in
from documents.embedders import get_embedder
from documents.embedders.base import EmbeddingError
from documents.likeness import likeness
from documents.matching import matching
from documents.metrics import count_error
from documents.models import Document
from documents.nearest import nearest
from documents.neighbours import passages
from documents.statements import Written, written
from documents.vectors import Vector
from leases.database import in_database

logger = logging.getLogger(__name__)

PROPOSED = 50  # chunks that each half proposes
MEANING, KEYWORDS = 0.55, 0.45
QUERY_WORDS = 64
EQUAL = 1e-6  # scores that deviate by no more tell nothing apart
SNIPPET = 300  # characters
LOOKED_AT_AGAIN = 24  # chunks, the best by both
LIKENESS = 0.3  # its weight then; the rest is the score of before
RERANKED = 24  # passages, at most


@dataclass(frozen=True)
class Hit:
    """A found chunk, and the `passage` that it and its neighbours make; `score` is 0 to 1, the same order
    as the ranking. A reranker, whose scores have a scale of their own, moves hits and leaves the scores to
    their ranks."""

    chunk: Written
    passage: str
    score: float

    @property
    def snippet(self) -> str:
        """The chunk on one line, cut between words."""
        line = " ".join(self.chunk.text.split())
        return line if len(line) <= SNIPPET else line[:SNIPPET].rsplit(" ", 1)[0] + " …"


class Proposed(NamedTuple):
    """A chunk that one of the halves proposed, the words of its title, its heading and its text, and its
    score, once it has one."""

    chunk: Written
    words: list[str]
    score: float = 0.0


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
    answers, the search is by keywords alone, and `by_meaning` says so; without a reranker that does, what
    is found stays in its order.
    """
    documents = Document.objects.for_owner(owner)
    if document_ids is not None:
        documents = await in_database(documents.pick, document_ids)
    words = words_of(query)
    (matched, unconverted), cosines = await asyncio.gather(
        in_database(_by_words, documents, words), _near(documents, query)
    )
    reranking = bool(settings.RERANK_BASE_URL)
    hits = await in_database(found, words, matched, cosines, max(limit, RERANKED) if reranking else limit)
    if reranking:
        hits = (await reranked(query, hits))[:limit]
    return Found(hits, by_meaning=bool(cosines), unconverted=unconverted)


def _by_words(documents: QuerySet[Document], words: Sequence[str]) -> tuple[list[Proposed], int]:
    """What the half of keywords proposes, and how many documents only it can find: asked, and read, while
    the other half is looking."""
    unconverted = documents.exclude(embedding_model=get_embedder().model).count()
    return proposed(matching(documents, words, PROPOSED)), unconverted


async def reranked(query: str, hits: Sequence[Hit]) -> list[Hit]:
    """The same hits, the best of them in the order that the reranker gives their passages; as they are, if
    it fails."""
    # Only here: aiohttp takes 0.2 s to import.
    from documents.reranker import RerankError, order  # noqa: PLC0415

    if len(hits) < 2:
        return list(hits)
    best = hits[:RERANKED]
    try:
        positions = await order(query, [hit.passage for hit in best])
    except RerankError:
        logger.exception("What was found could not be ordered anew: it stays as it was.")
        return list(hits)
    moved = [replace(best[position], score=hit.score) for position, hit in zip(positions, best, strict=True)]
    return [*moved, *hits[RERANKED:]]


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
    return list(dict.fromkeys(words_in(query)))[:QUERY_WORDS]


def found(
    words: Sequence[str], matched: Sequence[Proposed], cosines: Mapping[int, float], limit: int
) -> list[Hit]:
    """The best passages for a query of these words: of the chunks `matched` by them and of those nearest in
    meaning, with their `cosines`; without any, the search is by keywords alone."""
    ranked = rank(words, matched, cosines)
    joined = passages([(one.chunk.id, one.chunk.place) for one in ranked], limit)
    return [
        Hit(one.chunk, joined[one.chunk.id].text, round(one.score, 4))
        for one in ranked
        if one.chunk.id in joined  # the others are not wanted, or gone meanwhile
    ]


def rank(words: Sequence[str], matched: Sequence[Proposed], cosines: Mapping[int, float]) -> list[Proposed]:
    """The chunks `matched` by the words and those nearest in meaning, with their `cosines`, best first."""
    ranked = fused(words, matched, cosines)
    best, others = ranked[:LOOKED_AT_AGAIN], ranked[LOOKED_AT_AGAIN:]
    if not best:
        return []
    alike = likeness(words, [one.words for one in best])
    again = _ordered(best, _joined(np.array([one.score for one in best]), alike, 1 - LIKENESS))
    return again + [one._replace(score=min(one.score, again[-1].score)) for one in others]


def fused(words: Sequence[str], matched: Sequence[Proposed], cosines: Mapping[int, float]) -> list[Proposed]:
    """The same by the scores of the two halves alone."""
    both = [*matched, *proposed(cosines.keys() - {one.chunk.id for one in matched})]
    scores = _fuse(
        np.array([cosines.get(one.chunk.id, np.nan) for one in both], dtype=np.float64),
        bm25(words, [one.words for one in both]),
    )
    return _ordered(both, scores)


def _ordered(chunks: Sequence[Proposed], scores: NDArray[np.float64]) -> list[Proposed]:
    """The best first, without those that nothing speaks for."""
    pairs = zip(chunks, scores, strict=True)
    ranked = [chunk._replace(score=float(score)) for chunk, score in pairs if score > 0]
    return sorted(ranked, key=lambda one: (-one.score, one.chunk.place))


def proposed(ids: Collection[int]) -> list[Proposed]:
    """What is needed of these chunks to rank them: of those that there are, in no order."""
    return [
        Proposed(chunk, words_in(f"{chunk.title}\n{chunk.heading}\n{chunk.text}")) for chunk in written(ids)
    ]


def _fuse(cosines: NDArray[np.float64], keywords: NDArray[np.float64]) -> NDArray[np.float64]:
    """What meaning and keywords say of each chunk, in one score. A chunk that is not among the nearest
    (NaN) counts as the last of them: how much farther away it is must not outweigh a rare word."""
    known = cosines[~np.isnan(cosines)]
    if not known.size:
        return keywords
    meaning = np.clip(np.where(np.isnan(cosines), known.min(), cosines), 0.0, 1.0)
    return _joined(meaning, keywords, MEANING) if keywords.any() else meaning


def _joined(first: NDArray[np.float64], second: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Two scores in one, 0 to 1, the first with this weight and the second with the rest. A weighted sum of
    standardised scores is, up to a constant, a mean of the plain ones weighted by weight / deviation; the
    mean keeps that order and means the same for every query."""
    deviations = float(first.std()), float(second.std())
    if min(deviations) > EQUAL:
        parts = weight / deviations[0], (1 - weight) / deviations[1]
        weight = parts[0] / sum(parts)
    return weight * first + (1 - weight) * second
