"""How often the passage that answers a question is found: the search beside its halves and rank fusion.

`python -m benchmarks.answers` in the root of the project. It uploads the documents of `golden/` into a
database of its own, converts them, asks every question and removes the database. All ways rank the same
chunks and give passages, as the search does; there is nothing random in it, so one round tells all. With
RERANK_BASE_URL (and RERANK_MODEL and so on) that server orders anew what the search finds, one way more.
"""

import asyncio
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from uuid import UUID

import django
import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from benchmarks.databases import DATABASES
from benchmarks.rounds import Table, finish, machine, parser
from benchmarks.server import AS_A_PUBLIC_SITE
from documents.vectors import Vector

if TYPE_CHECKING:
    from documents.neighbours import Passage

GOLDEN = Path(__file__).parent / "golden"
OWNER = "benchmark"
LEAST_SHARE = 0.5  # of what answers the question that a passage must hold to count as found
RANKED = 100  # passages; what comes later counts as not found
RANK_FUSION = 60  # the usual constant of reciprocal rank fusion
RESAMPLES = 10_000
OURS, MEANING, KEYWORDS, FUSION = "search", "vectors alone", "keywords alone", "rank fusion"
RERANKED = "search, reranked"
FIGURES = ("hit@1", "hit@5", "MRR", "nDCG@10")
HIT_GOAL = 0.97


class Question(TypedDict):
    question: str
    kind: str
    document: str
    passage: str


class Span(NamedTuple):
    document: str
    start: int
    end: int


@dataclass(frozen=True)
class Asked:
    """One question; `first` is the rank of its answer, `figures` has a row of FIGURES, by way to rank."""

    question: Question
    first: dict[str, int | None]
    figures: dict[str, list[float]]


def questions() -> list[Question]:
    return [json.loads(line) for line in (GOLDEN / "questions.jsonl").read_text("utf-8").splitlines()]


def texts() -> dict[str, str]:
    """The documents by the names of their files."""
    return {path.name: path.read_text("utf-8") for path in sorted((GOLDEN / "documents").iterdir())}


async def upload() -> dict[Any, Span]:
    """Upload and convert the documents as a person would; where each chunk stands in its document."""
    from leases.database import in_database  # noqa: PLC0415 - Django is set up by now

    names = {await _converted(name, text): name for name, text in texts().items()}
    return await in_database(_spans, names)


async def ask(spans: dict[Any, Span]) -> list[Asked]:
    """Ask every question."""
    from documents.embedders import get_embedder  # noqa: PLC0415
    from leases.database import in_database  # noqa: PLC0415

    uploaded = texts()
    asked = []
    for question in questions():
        vector = (await get_embedder().embed([question["question"]]))[0]
        found = await in_database(_found, question["question"], vector, get_embedder().model)
        if settings.RERANK_BASE_URL:
            found[RERANKED] = await _reranked(question["question"], found[OURS])
        hits = {
            way: [
                _holds(_span(passage, spans), question, uploaded[question["document"]]) for passage in ranked
            ]
            for way, ranked in found.items()
        }
        asked.append(
            Asked(
                question,
                first={way: each.index(True) + 1 if any(each) else None for way, each in hits.items()},
                figures={way: figures(each) for way, each in hits.items()},
            )
        )
    return asked


async def _converted(name: str, text: str) -> UUID:
    from documents.conversion import convert  # noqa: PLC0415
    from documents.uploads import store_pasted, title_of  # noqa: PLC0415
    from leases.database import in_database  # noqa: PLC0415

    sent: dict[str, Any] = {
        "title": title_of(name),
        "content": text,
        "contentType": "markdown" if name.endswith(".md") else "text",
        "summary": "",
        "tags": [],
    }
    document = await in_database(store_pasted, sent, lambda: OWNER)
    await convert(document, OWNER)
    return document.pk


def _spans(names: dict[UUID, str]) -> dict[Any, Span]:
    from documents.models import Chunk  # noqa: PLC0415
    from documents.statements import Place  # noqa: PLC0415

    places = Chunk.objects.values_list("document_id", "index", "start", "end")
    return {Place(of, number): Span(names[of], start, end) for of, number, start, end in places}


def _span(passage: "Passage", spans: dict[Any, Span]) -> Span:
    first, last = spans[passage.places[0]], spans[passage.places[-1]]
    return Span(first.document, first.start, last.end)


def _found(query: str, vector: Vector, model: str) -> "dict[str, list[Passage]]":
    """The passages, best first, for each way to rank."""
    from documents import search  # noqa: PLC0415
    from documents.matching import matching  # noqa: PLC0415
    from documents.models import Chunk, Document  # noqa: PLC0415
    from documents.nearest import nearest  # noqa: PLC0415
    from documents.neighbours import passages  # noqa: PLC0415
    from documents.statements import Place  # noqa: PLC0415

    documents = Document.objects.for_owner(OWNER)
    words = search.words_of(query)
    matched, cosines = matching(documents, words, RANKED), search.near(documents, vector, model)
    both, by_words = (
        [one.chunk.id for one in ranked]
        for ranked in (
            search.rank(words, search.proposed(matched[: search.PROPOSED]), cosines),
            search.fused(words, search.proposed(matched), {}),
        )
    )
    alone = nearest(documents, vector, RANKED)
    near = sorted(alone, key=lambda chunk: -alone[chunk])
    ranked = {OURS: both, MEANING: near, KEYWORDS: by_words, FUSION: rank_fusion([near, by_words])}
    chunks = Chunk.objects.values_list("id", "document_id", "index")
    places = {pk: Place(document, number) for pk, document, number in chunks}
    return {
        way: list(passages([(pk, places[pk]) for pk in ids], RANKED).values()) for way, ids in ranked.items()
    }


async def _reranked(query: str, found: "list[Passage]") -> "list[Passage]":
    from documents.reranker import order  # noqa: PLC0415
    from documents.search import RERANKED as SO_MANY  # noqa: PLC0415

    positions = await order(query, [passage.text for passage in found[:SO_MANY]])
    return [found[position] for position in positions] + found[SO_MANY:]


def rank_fusion(lists: Sequence[Sequence[int]]) -> list[int]:
    scores: dict[int, float] = {}
    for ranked in lists:
        for rank, chunk in enumerate(ranked, 1):
            scores[chunk] = scores.get(chunk, 0.0) + 1 / (RANK_FUSION + rank)
    return sorted(scores, key=lambda chunk: -scores[chunk])


def _holds(span: Span, question: Question, text: str) -> bool:
    start = text.index(question["passage"])
    end = start + len(question["passage"])
    shared = min(end, span.end) - max(start, span.start)
    return span.document == question["document"] and shared >= LEAST_SHARE * (end - start)


def figures(hits: Sequence[bool]) -> list[float]:
    """FIGURES of one ranking. What answers a question may be parted between two passages."""
    first = hits.index(True) + 1 if any(hits) else math.inf
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits[:10], 1) if hit)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(sum(hits), 10) + 1))
    return [float(first <= 1), float(first <= 5), 1 / first, gain / ideal if ideal else 0.0]


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Where 95 of 100 means of resampled questions lie: a paired bootstrap."""
    random = np.random.default_rng(1)
    means = [
        differences[random.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def rows(asked: Sequence[Asked], way: str) -> NDArray[np.float64]:
    """A row for each question, a column for each of FIGURES."""
    return np.array([one.figures[way] for one in asked])


def summary(asked: Sequence[Asked], database: str) -> Table:
    """The goals: better than each other way on every figure, with the spread of resampled questions."""
    table = Table(f"{len(asked)} questions about {len(texts())} documents, {database}")
    means = {
        way: dict(zip(FIGURES, rows(asked, way).mean(axis=0).tolist(), strict=True))
        for way in asked[0].figures
    }
    table.goal("search: hit@5", [means[OURS]["hit@5"]], at_least=HIT_GOAL)
    for way in (MEANING, KEYWORDS, FUSION):
        for figure, column in zip(FIGURES, (rows(asked, OURS) - rows(asked, way)).T, strict=True):
            low, high = interval(column)
            table.goal(f"{figure}: better than {way} by", [float(column.mean()), low, high], at_least=0.0)
    for way, found in means.items():
        for figure, mean in found.items():
            table.figure(f"{way}: {figure}", [mean], "")
    return table


def by_kind(asked: Sequence[Asked]) -> list[Table]:
    tables = []
    for kind in sorted({one.question["kind"] for one in asked}):
        those = [one for one in asked if one.question["kind"] == kind]
        table = Table(f"Of these, {len(those)} of the kind {kind}")
        for way in asked[0].figures:
            for figure, mean in zip(FIGURES, rows(those, way).mean(axis=0).tolist(), strict=True):
                table.figure(f"{way}: {figure}", [mean], "")
        tables.append(table)
    return tables


def show_missed(asked: Sequence[Asked]) -> None:
    print("\nnot among the first five:")
    for one in asked:
        rank = one.first[OURS]
        if rank is None or rank > 5:
            print(f"  {rank or '-'}  {one.question['document']}: {one.question['question']}")


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--database", choices=DATABASES, default="SQLite")
    options.add_argument("--missed", action="store_true", help="name the questions that it gets wrong")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE | {"LOG_LEVEL": "WARNING"}
    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        import_module("django.core.management").call_command("migrate", verbosity=0)
        spans = asyncio.run(upload())
        asked = asyncio.run(ask(spans))
    finish([summary(asked, chosen.database), *by_kind(asked)], machine("onnxruntime"), chosen.json)
    if chosen.missed:
        show_missed(asked)


if __name__ == "__main__":
    main()
