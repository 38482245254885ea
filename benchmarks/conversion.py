"""Chunks per second from a PDF of 300 pages to its vectors in the database, beside their encoding alone.

`python -m benchmarks.conversion` in the root of the project, where sentence-transformers is installed too.
"""

import asyncio
import io
import os
import random
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib import import_module

import django
import numpy as np

from benchmarks.databases import DATABASES
from benchmarks.embedding import MISSING, sentence
from benchmarks.rounds import Table, finish, interleaved, machine, parser
from benchmarks.server import AS_A_PUBLIC_SITE
from documents.tokenizer import model_directory

PAGES = 300
LINES = 38  # a page
LINE = 85  # characters
CHAPTER = 10  # pages
SPEED_GOAL = 1.2
REST_GOAL = 0.15  # of the time, for everything but the embedding
PEER_BATCH_SIZES = (8, 32)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--pages", type=int, default=PAGES, help=f"of the PDF ({PAGES})")
    options.add_argument("--database", choices=DATABASES, default="SQLite")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE
    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        import_module("django.core.management").call_command("migrate", verbosity=0)
        tables = [measured(chosen)]
    facts = machine("onnxruntime", "torch", "sentence-transformers", "pypdfium2")
    finish(tables, facts, chosen.json)


def measured(options: Namespace) -> Table:
    file = pdf(options.pages)
    texts = converted(file)[1]
    contenders: dict[str, Callable[[], dict[str, float]]] = {"ours": lambda: converted(file)[0]}
    contenders |= {name: partial(rate, encode, texts) for name, encode in peers().items()}
    figures = interleaved(contenders, options.rounds)
    ours = figures.pop("ours")
    best = max(figures, key=lambda name: float(np.median(figures[name]["chunks/s"])))
    table = Table(f"A PDF of {options.pages} pages, {len(texts)} chunks, {options.database}")
    table.ratio(
        f"file to searchable to {best} encoding alone, chunks/s",
        ours["chunks/s"],
        figures[best]["chunks/s"],
        at_least=SPEED_GOAL,
    )
    rest = [1 - share for share in ours["embedding, share"]]
    table.goal("share of the time that is not embedding", rest, at_most=REST_GOAL)
    for name, values in ours.items():
        table.figure(name, values, name.rpartition(", ")[2] if ", " in name else name)
    for name, encoded in figures.items():
        table.figure(name, encoded["chunks/s"], "chunks/s")
    return table


def pdf(pages: int) -> bytes:
    """Varied English-like lines under chapter headings, the same each time."""
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]  # noqa: PLC0415

    source = random.Random(1)
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1)
    for page in range(pages):
        text = canvas.beginText(60, 780)
        if page % CHAPTER == 0:
            text.setFont("Helvetica", 20)
            text.textLine(f"Chapter {page // CHAPTER + 1}")
        text.setFont("Helvetica", 11)
        words = " ".join(sentence(source) for _ in range(LINES * 2)).split()
        for _ in range(LINES):
            line = words.pop(0)
            while len(line) + len(words[0]) < LINE:
                line += " " + words.pop(0)
            text.textLine(line)
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def converted(file: bytes) -> tuple[dict[str, float], list[str]]:
    """Figures of one conversion, file to searchable, and the texts of its chunks."""
    from documents import sandbox  # noqa: PLC0415
    from documents.conversion import convert, store  # noqa: PLC0415
    from documents.embedders import get_embedder  # noqa: PLC0415
    from documents.models import Document  # noqa: PLC0415
    from leases.turn import Turn  # noqa: PLC0415

    embedder = get_embedder()
    asyncio.run(embedder.warm_up())
    began = time.perf_counter()
    extracted = sandbox.extract("manual.pdf", file)
    read = time.perf_counter()
    document = store(
        Document(
            owner="benchmark",
            title="A manual",
            content_type=extracted.content_type,
            text=extracted.text,
            pages=extracted.pages,
            file_size=len(file),
            word_count=len(extracted.text.split()),
        )
    )
    stored = time.perf_counter()
    told: list[float] = []
    asyncio.run(convert(document, "benchmark", Turn(tell=lambda *_: told.append(time.perf_counter()))))
    ended = time.perf_counter()
    texts = list(document.chunks.order_by("index").values_list("text", flat=True))
    document.delete()
    # What is told is the start of the lease, then of the embedding, then each batch's end.
    embedding = told[-1] - told[1]
    total = ended - began
    return {
        "chunks/s": len(texts) / total,
        "embedding, share": embedding / total,
        "extraction, s": read - began,
        "chunking and storing, s": stored - read,
        "lease and chunking again, s": told[1] - stored,
        "embedding, s": embedding,
        "writing the vectors, s": ended - told[-1],
    }, texts


def peers() -> dict[str, Callable[[list[str]], object]]:
    try:
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        sys.exit(MISSING)
    model = SentenceTransformer(str(model_directory()), device="cpu")

    def encode(batch_size: int) -> Callable[[list[str]], object]:
        return lambda texts: model.encode(texts, batch_size=batch_size, show_progress_bar=False)

    return {f"sentence-transformers, batch {size}": encode(size) for size in PEER_BATCH_SIZES}


def rate(encode: Callable[[list[str]], object], texts: list[str]) -> dict[str, float]:
    began = time.perf_counter()
    encode(texts)
    return {"chunks/s": len(texts) / (time.perf_counter() - began)}


if __name__ == "__main__":
    main()
