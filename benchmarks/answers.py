"""How often the passage that answers a question is found: the search beside its halves and rank fusion.

`python benchmarks/answers.py` in the root of the project. It uploads the documents of `golden/` into a
database of its own, converts them, asks every question and removes the database.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "golden"
OWNER = "benchmark"
LEAST_SHARE = 0.5  # of the passage that a chunk must hold to count as found
RANKED = 100  # chunks; what comes later counts as not found
RANK_FUSION = 60  # the usual constant of reciprocal rank fusion
RESAMPLES = 10_000
OURS = "search"
FIGURES = ("hit@1", "hit@5", "MRR", "nDCG@10")


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
    """One question; `figures` has a row of FIGURES for each way to rank."""

    question: Question
    first: dict[str, int | None]
    figures: dict[str, list[float]]


def questions() -> list[Question]:
    return [json.loads(line) for line in (GOLDEN / "questions.jsonl").read_text("utf-8").splitlines()]


def texts() -> dict[str, str]:
    """The documents by the names of their files."""
    return {path.name: path.read_text("utf-8") for path in sorted((GOLDEN / "documents").iterdir())}


def ask_all(directory: Path) -> list[Asked]:
    """Everything that needs the project, in a new database in `directory`."""
    os.environ |= {"VAR_DIR": str(directory), "DATABASE_URL": "", "SECRET_KEY": "for one run"}
    del os.environ["DATABASE_URL"]
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    spans = asyncio.run(upload())
    return asyncio.run(ask(spans))


async def upload() -> dict[int, Span]:
    """The chunks of all documents, uploaded and converted as a person would have them."""
    from documents.conversion import convert  # noqa: PLC0415
    from documents.uploads import store_pasted, title_of  # noqa: PLC0415
    from leases.database import in_database  # noqa: PLC0415

    spans: dict[int, Span] = {}
    for name, text in texts().items():
        sent: dict[str, Any] = {
            "title": title_of(name),
            "content": text,
            "contentType": "markdown" if name.endswith(".md") else "text",
            "summary": "",
            "tags": [],
        }
        document = await in_database(store_pasted, sent, lambda: OWNER)
        await convert(document, OWNER)
        for chunk in await in_database(lambda: list(document.chunks.defer("vector"))):  # noqa: B023
            spans[chunk.pk] = Span(name, chunk.start, chunk.end)
    return spans


async def ask(spans: dict[int, Span]) -> list[Asked]:
    from documents.embedders import get_embedder  # noqa: PLC0415
    from leases.database import in_database  # noqa: PLC0415

    all_texts = texts()
    asked = []
    for question in questions():
        vector = (await get_embedder().embed([question["question"]]))[0]
        ranked = await in_database(rankings, question["question"], vector, get_embedder().model)
        holding = chunks_with(question, all_texts[question["document"]], spans)
        found = {way: [chunk in holding for chunk in chunks] for way, chunks in ranked.items()}
        asked.append(
            Asked(
                question,
                first={way: hits.index(True) + 1 if any(hits) else None for way, hits in found.items()},
                figures={way: figures(hits, len(holding)) for way, hits in found.items()},
            )
        )
    return asked


def rankings(query: str, vector: NDArray[np.float32], model: str) -> dict[str, list[int]]:
    """The ids of the chunks, best first, for each way to rank."""
    from documents import search  # noqa: PLC0415
    from documents.models import Document  # noqa: PLC0415
    from documents.nearest import nearest  # noqa: PLC0415

    documents = Document.objects.for_owner(OWNER)
    cosines = nearest(documents, vector, RANKED, many=False)
    vectors = sorted(cosines, key=lambda chunk: -cosines[chunk])[:RANKED]
    keywords, both = (
        [hit.chunk.pk for hit in search.search(documents, query, half, model, RANKED).hits]
        for half in (None, vector)
    )
    return {
        OURS: both,
        "vectors alone": vectors,
        "keywords alone": keywords,
        "rank fusion": rank_fusion([vectors, keywords]),
    }


def rank_fusion(lists: Sequence[Sequence[int]]) -> list[int]:
    scores: dict[int, float] = {}
    for ranked in lists:
        for rank, chunk in enumerate(ranked, 1):
            scores[chunk] = scores.get(chunk, 0.0) + 1 / (RANK_FUSION + rank)
    return sorted(scores, key=lambda chunk: -scores[chunk])


def chunks_with(question: Question, text: str, spans: dict[int, Span]) -> set[int]:
    """The chunks that hold at least LEAST_SHARE of the passage."""
    start = text.index(question["passage"])
    end = start + len(question["passage"])
    return {
        chunk
        for chunk, span in spans.items()
        if span.document == question["document"]
        and min(end, span.end) - max(start, span.start) >= LEAST_SHARE * (end - start)
    }


def figures(hits: Sequence[bool], holding: int) -> list[float]:
    """FIGURES of one ranking; `holding` is how many chunks there are to be found."""
    first = hits.index(True) + 1 if any(hits) else math.inf
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits[:10], 1) if hit)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(holding, 10) + 1))
    return [float(first <= 1), float(first <= 5), 1 / first, gain / ideal if ideal else 0.0]


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Where 95 of 100 means of resampled questions lie: a paired bootstrap."""
    random = np.random.default_rng(1)
    means = [
        differences[random.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def table(asked: Sequence[Asked], way: str) -> NDArray[np.float64]:
    """A row for each question, a column for each of FIGURES."""
    return np.array([one.figures[way] for one in asked])


def show(asked: Sequence[Asked]) -> None:
    ways = list(asked[0].figures)
    print(f"\nsearch, better by (95 % of resampled sets of {len(asked)} questions between)")
    for way in ways[1:]:
        differences = table(asked, OURS) - table(asked, way)
        cells = [
            f"{column.mean():+.3f} ({low:+.3f} to {high:+.3f})"
            for column in differences.T
            for low, high in [interval(column)]
        ]
        print(f"  than {way:16}" + "".join(f"{cell:>28}" for cell in cells))
    print(f"\n  {'':21}" + "".join(f"{name:>10}" for name in FIGURES))
    for way in ways:
        print(f"  {way:21}" + "".join(f"{mean:10.3f}" for mean in table(asked, way).mean(axis=0)))
    for kind in sorted({one.question["kind"] for one in asked}):
        those = [one for one in asked if one.question["kind"] == kind]
        print(f"\n  {f'{kind} ({len(those)})':21}" + "".join(f"{name:>10}" for name in FIGURES))
        for way in ways:
            print(f"  {way:21}" + "".join(f"{mean:10.3f}" for mean in table(those, way).mean(axis=0)))


def show_missed(asked: Sequence[Asked]) -> None:
    print("\nnot among the first five:")
    for one in asked:
        rank = one.first[OURS]
        if rank is None or rank > 5:
            print(f"  {rank or '-'}  {one.question['document']}: {one.question['question']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument("--missed", action="store_true", help="name the questions that it gets wrong")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asked = ask_all(Path(directory))
    show(asked)
    if options.missed:
        show_missed(asked)
    if options.json:
        means = {
            way: dict(zip(FIGURES, table(asked, way).mean(axis=0).tolist(), strict=True))
            for way in asked[0].figures
        }
        each = [{**one.question, "rank": one.first} for one in asked]
        options.json.write_text(json.dumps({"means": means, "questions": each}, indent=2) + "\n")


if __name__ == "__main__":
    main()
