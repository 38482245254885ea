"""What the search would find if it were made differently: the golden set asked with one switch turned.

`python -m benchmarks.switches` in the root of the project. Chunks of other lengths, passages without
neighbours, titles and headings in front of what is embedded, overlap, other weights of meaning, keywords and
likeness, more or fewer chunks proposed by each half and looked at again.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import django

from benchmarks.answers import FIGURES, OURS, ask, rows, upload
from benchmarks.databases import DATABASES
from benchmarks.rounds import Table, finish, machine, parser
from benchmarks.server import AS_A_PUBLIC_SITE

TOKENS, CHARACTERS, MEANING, PROPOSED, LOOKED_AT, LIKENESS = 96, 1_200, 0.55, 50, 24, 0.3
TITLE, HEADING = "title", "heading"
PASSAGES = {
    "passages of up to 800 characters": 800,
    "passages of up to 1,000": 1_000,
    "without neighbours": 0,
}
WEIGHTS = (0.4, 0.5, 0.6, 0.7)
PROPOSALS = (30, 100)
LOOKED_AT_AGAIN = (12, 48)
LIKENESSES = (0.0, 0.2, 0.4)


@dataclass(frozen=True)
class Made:
    """How documents are converted: tokens of a chunk, what stands in front of it when it is embedded, and
    how many characters of the chunks before and after it are embedded with it."""

    tokens: int = TOKENS
    front: tuple[str, ...] = ()
    overlap: int = 0

    def __str__(self) -> str:
        front = f", {' and '.join(self.front)} in front" if self.front else ""
        overlap = f", {self.overlap} characters of its neighbours" if self.overlap else ""
        return f"chunks of {self.tokens} tokens{front}{overlap}"


@contextmanager
def switched(
    *,
    tokens: int = TOKENS,
    characters: int = CHARACTERS,
    meaning: float = MEANING,
    proposed: int = PROPOSED,
    looked_at: int = LOOKED_AT,
    likeness: float = LIKENESS,
) -> Iterator[None]:
    from documents import chunking, neighbours, search  # noqa: PLC0415 - Django is set up by now

    values = [
        (chunking, "_CAPACITY", tokens - 2),
        (chunking, "_FULL_ENOUGH", (tokens - 2) // 4),
        (neighbours, "PASSAGE_CHARACTERS", characters),
        (search, "MEANING", meaning),
        (search, "KEYWORDS", 1 - meaning),
        (search, "PROPOSED", proposed),
        (search, "LOOKED_AT_AGAIN", looked_at),
        (search, "LIKENESS", likeness),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in values]
    for module, name, value in values:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


async def embed_again(made: Made) -> None:
    """Give every chunk the vector of its text with what is to stand in front of it and around it."""
    from documents.embedders import get_embedder  # noqa: PLC0415
    from documents.models import Chunk  # noqa: PLC0415
    from leases.database import in_database  # noqa: PLC0415

    chunks = await in_database(lambda: list(Chunk.objects.select_related("document")))

    def written(chunk: Chunk) -> str:
        parts = {TITLE: chunk.document.title, HEADING: chunk.heading}
        around = chunk.document.text[max(chunk.start - made.overlap, 0) : chunk.end + made.overlap]
        return "\n".join([*(parts[part] for part in made.front if parts[part]), around])

    vectors = await get_embedder().embed([written(chunk) for chunk in chunks])
    for chunk, vector in zip(chunks, vectors, strict=True):
        chunk.vector = vector
    await in_database(Chunk.objects.bulk_update, chunks, ["vector"], 500)


def tried(made: Made, tables: list[Table]) -> None:
    """Convert the documents so, ask, and ask again with other switches turned."""
    from documents.models import Document  # noqa: PLC0415

    with switched(tokens=made.tokens):
        spans = asyncio.run(upload())
        if made.front or made.overlap:
            asyncio.run(embed_again(made))
    variants: dict[str, dict[str, float]] = {"": {}, " without neighbours": {"characters": 0}}
    if made == Made():
        variants |= {f", {name}": {"characters": size} for name, size in PASSAGES.items()}
        variants |= {f", meaning weighs {weight}": {"meaning": weight} for weight in WEIGHTS}
        variants |= {f", {count} chunks proposed by each half": {"proposed": count} for count in PROPOSALS}
        variants |= {f", {count} chunks looked at again": {"looked_at": count} for count in LOOKED_AT_AGAIN}
        variants |= {f", likeness weighs {weight}": {"likeness": weight} for weight in LIKENESSES}
        del variants[" without neighbours"]
    for name, switches in variants.items():
        with switched(**switches):  # type: ignore[arg-type]
            means = rows(asyncio.run(ask(spans)), OURS).mean(axis=0)
        table = Table(f"{made}{name}, {len(spans)} chunks")
        for figure, mean in zip(FIGURES, means.tolist(), strict=True):
            table.figure(figure, [mean], "")
        print(table.title, means.round(3), flush=True)
        tables.append(table)
    Document.objects.all().delete()


def main() -> None:
    chosen = parser(__doc__, rounds=1).parse_args()
    os.environ |= AS_A_PUBLIC_SITE
    tables: list[Table] = []
    with DATABASES["SQLite"]() as os.environ["DATABASE_URL"]:
        django.setup()
        import_module("django.core.management").call_command("migrate", verbosity=0)
        for made in (
            *(Made(), Made(front=(TITLE,)), Made(front=(TITLE, HEADING))),
            *(Made(overlap=characters) for characters in (60, 120, 240)),
            *(Made(tokens) for tokens in (64, 128, 192, 256)),
        ):
            tried(made, tables)
    finish(tables, machine("onnxruntime"), chosen.json)


if __name__ == "__main__":
    main()
