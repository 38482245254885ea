"""What a search reads of chunks by their ids, and what its statements say of the searched documents.

The statements are constants and all ids one parameter, so that psycopg has them prepared: made by the ORM,
with a parameter for each id, they take three to four times as long.
"""

import json
from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

from documents.models import Document

_LISTED = {"postgresql": "= ANY(CAST(%s AS bigint[]))", "sqlite": "IN (SELECT value FROM json_each(%s))"}
_WRITTEN = """
SELECT chunk.id, chunk.document_id, chunk."index", document.title, document.content_type,
    chunk.heading, chunk.text, chunk.page, chunk.start, chunk."end"
FROM documents_chunk AS chunk JOIN documents_document AS document ON document.id = chunk.document_id
WHERE chunk.id {listed}
"""
_AROUND = """
SELECT near.document_id, near."index", near.text FROM documents_chunk AS chunk
JOIN documents_chunk AS near ON near.document_id = chunk.document_id
    AND near."index" BETWEEN chunk."index" - %s AND chunk."index" + %s
WHERE chunk.id {listed}
"""


class Chosen(NamedTuple):
    """The ids of the searched documents, as SQL for a statement of one's own."""

    sql: str
    params: tuple[Any, ...]


class Place(NamedTuple):
    """Where a chunk stands."""

    document: UUID
    number: int


class Written(NamedTuple):
    """A chunk as it is written in its document, whose title and type it has with it."""

    id: int
    document: UUID
    number: int
    title: str
    content_type: str
    heading: str
    text: str
    page: int | None
    start: int
    end: int

    @property
    def place(self) -> Place:
        return Place(self.document, self.number)


def chosen(documents: QuerySet[Document]) -> Chosen | None:
    """None, if Django knows without asking that there are none."""
    try:
        return Chosen(*documents.order_by().values("id").query.sql_with_params())
    except EmptyResultSet:
        return None


def written(ids: Collection[int]) -> list[Written]:
    """Those of these chunks that there are, in no order."""
    if not ids:
        return []
    return [Written(pk, _uuid(document), *rest) for pk, document, *rest in _rows(_WRITTEN, ids)]


def around(ids: Collection[int], reach: int) -> dict[Place, str]:
    """The texts of these chunks, and of as many as `reach` on either side of each."""
    rows = _rows(_AROUND, ids, reach, reach)
    return {Place(_uuid(document), number): text for document, number, text in rows}


def _rows(statement: str, ids: Collection[int], *before: int) -> list[tuple[Any, ...]]:
    listed = json.dumps(list(ids)) if connection.vendor == "sqlite" else list(ids)
    with connection.cursor() as cursor:
        cursor.execute(statement.format(listed=_LISTED[connection.vendor]), [*before, listed])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _uuid(stored: UUID | str) -> UUID:
    """SQLite has no type for it."""
    return stored if isinstance(stored, UUID) else UUID(stored)
