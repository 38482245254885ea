"""File to text to chunks to vectors: what happens to a document, and under which lease."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from django.db import transaction
from django.db.models.functions import Now
from django.http import Http404

from documents.chunking import Chunk as Piece
from documents.chunking import chunk
from documents.embedders import get_embedder
from documents.embedders.base import Embedder, EmbeddingError
from documents.extraction import NoText
from documents.metrics import EMBEDDED_CHUNKS, EMBEDDING_SECONDS, SERVICE, count_error
from documents.models import NOT_FOUND, Chunk, Document
from documents.vectors import Vectors
from leases.database import in_database
from leases.held import Held
from leases.holding import ahold
from leases.turn import AT_ONCE, Turn

INSERTED_AT_ONCE = 500  # chunks
NO_TEXT = (
    "No text can be read from this document, so there is nothing to convert. If it is a scan, please run it "
    "through text recognition (OCR) and upload the result."
)


@dataclass(frozen=True)
class Conversion:
    """What a conversion came to; `unchanged` if the document had these vectors already."""

    document: Document
    chunks: int
    dimensions: int
    model: str
    milliseconds: int
    unchanged: bool
    method: str


def store(document: Document) -> Document:
    """Save a new document with its chunks, which keyword search can find from now on."""
    rows = _rows(document, chunk(document.text, document.content_type, document.pages))
    with transaction.atomic():
        document.save(force_insert=True)
        Chunk.objects.bulk_create(rows, batch_size=INSERTED_AT_ONCE)
    return document


async def convert(document: Document, owner: str, turn: Turn = AT_ONCE) -> Conversion:
    """Give every chunk of the document its vector, under the lease of the conversion service.

    Tells the `progress` in chunks. The old chunks and vectors stand until the new ones are complete and
    take their place in one transaction; a conversion that fails or loses its lease changes nothing. The
    same text and model again is no work and needs no lease. Raises ServiceBusy, LeaseLost,
    EmbeddingError, NoText, and Http404 if the document was deleted meanwhile.
    """
    began = monotonic()
    embedder = get_embedder()
    if not document.text.strip():
        raise NoText(NO_TEXT)
    if document.embedding_model == embedder.model:
        return await _unchanged(document, embedder, began)
    async with ahold(SERVICE, owner, turn) as held:
        await in_database(_refresh, document)
        if document.embedding_model == embedder.model:  # somebody did it while we waited for our turn
            return await _unchanged(document, embedder, began)
        pieces = await asyncio.to_thread(chunk, document.text, document.content_type, document.pages)
        held.activity()
        try:
            vectors = await _embed(embedder, [piece.text for piece in pieces], held, turn)
        except EmbeddingError as error:
            count_error(error)
            raise
        await in_database(_swap, held, document, pieces, vectors, embedder.model)
    return _conversion(document, embedder, len(pieces), vectors.shape[1], began=began, unchanged=False)


async def _unchanged(document: Document, embedder: Embedder, began: float) -> Conversion:
    count = await in_database(document.chunks.count)
    dimensions = document.embedding_dimensions or 0
    return _conversion(document, embedder, count, dimensions, began=began, unchanged=True)


def _refresh(document: Document) -> None:
    try:
        document.refresh_from_db(fields=["embedding_model", "embedding_dimensions"])
    except Document.DoesNotExist:
        raise Http404(NOT_FOUND) from None


async def _embed(embedder: Embedder, texts: Sequence[str], held: Held, turn: Turn) -> Vectors:
    """The vectors of all texts in their order, every batch a sign of activity."""
    vectors: Vectors | None = None
    done = 0
    turn.tell("progress", {"done": done, "total": len(texts)})
    began = monotonic()
    async for positions, batch in embedder.batches(texts):
        EMBEDDED_CHUNKS.labels(SERVICE).inc(len(batch))
        EMBEDDING_SECONDS.labels(SERVICE).inc(monotonic() - began)
        began = monotonic()
        held.activity()
        done += len(batch)
        turn.tell("progress", {"done": done, "total": len(texts)})
        if vectors is None:
            vectors = np.empty((len(texts), batch.shape[1]), dtype=np.float32)
        vectors[positions] = batch
    if vectors is None:
        raise NoText(NO_TEXT)
    return vectors


def _swap(held: Held, document: Document, pieces: Sequence[Piece], vectors: Vectors, model: str) -> None:
    """Put the new chunks in the place of the old ones, all or nothing, if the lease is still ours."""
    rows = _rows(document, pieces)
    for row, vector in zip(rows, vectors, strict=True):
        row.vector = vector
    with held.fenced():
        changed = Document.objects.filter(pk=document.pk).update(
            embedding_model=model, embedding_dimensions=vectors.shape[1], converted_at=Now()
        )
        if not changed:
            raise Http404(NOT_FOUND)
        document.chunks.all().delete()
        Chunk.objects.bulk_create(rows, batch_size=INSERTED_AT_ONCE)


def _rows(document: Document, pieces: Sequence[Piece]) -> list[Chunk]:
    return [
        Chunk(
            document=document,
            index=piece.index,
            text=piece.text,
            start=piece.start,
            end=piece.end,
            page=piece.page,
            heading=piece.heading,
        )
        for piece in pieces
    ]


def _conversion(
    document: Document, embedder: Embedder, chunks: int, dimensions: int, *, began: float, unchanged: bool
) -> Conversion:
    milliseconds = round((monotonic() - began) * 1000)
    return Conversion(document, chunks, dimensions, embedder.model, milliseconds, unchanged, embedder.method)
