"""The vector half of a search: the chunks nearest to a vector, with their cosines.

Few chunks are compared one by one, which is exact. On PostgreSQL many are found through an index (HNSW, of
half precision), which is nearly exact and takes hardly longer as they grow in number; only vectors of as
many dimensions as the built-in model's are in it, others are always compared one by one.
"""

import numpy as np
from django.db import connection, transaction
from django.db.models import QuerySet
from numpy.typing import NDArray

from documents.models import Document
from documents.statements import Chosen, chosen
from documents.vectors import Vector

COMPARED, COMPARED_OF_ALL = 4_000, 20
"""Chunks up to which each is compared, and how many more of a large table: so many times the square root of
all its chunks. The index has to look at the more of others' the smaller a part is searched."""
INDEXED_DIMENSIONS = 384  # migration 0004 has the same
EXPLORED = 440  # the index's candidates: more find more, and take longer
_READ_AT_ONCE = 4_000  # vectors

# Constants, as the ORM takes 2 ms to make one. The chunks are looked up document by document: left to choose,
# the planner may read all that there are. OFFSET 0 keeps it from choosing.
_MANY = """
WITH few AS (
    SELECT CAST(greatest(%s, %s * sqrt(greatest(reltuples, 0))) AS bigint) AS chunks
    FROM pg_class WHERE oid = CAST('documents_chunk' AS regclass)
)
SELECT count(*) > (SELECT chunks FROM few) FROM (
    SELECT FROM ({documents}) AS document
    CROSS JOIN LATERAL (SELECT FROM documents_chunk WHERE document_id = document.id OFFSET 0) AS chunk
    LIMIT (SELECT chunks + 1 FROM few)
) AS counted
"""
_EACH = """
SELECT chunk.id, chunk.vector <=> CAST(%s AS vector) FROM ({documents}) AS document
CROSS JOIN LATERAL (
    SELECT id, vector FROM documents_chunk WHERE document_id = document.id AND vector IS NOT NULL OFFSET 0
) AS chunk
ORDER BY 2 LIMIT %s
"""
_EXPLORING = """
SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true)
"""
# The second condition is the index's own.
_INDEXED = """
SELECT chunk.id, CAST(chunk.vector AS halfvec({dimensions})) <=> asked.vector
FROM documents_chunk AS chunk, (SELECT CAST(%s AS halfvec({dimensions})) AS vector) AS asked
WHERE chunk.document_id IN ({documents}) AND vector_dims(chunk.vector) = {dimensions}
ORDER BY 2 LIMIT %s
"""
_ALL = """
SELECT id, vector FROM documents_chunk WHERE document_id IN ({documents}) AND vector IS NOT NULL
"""


def nearest(documents: QuerySet[Document], vector: Vector, count: int) -> dict[int, float]:
    """Chunk id -> cosine, for `count` chunks of the documents, whose vectors have the size of this one."""
    searched = chosen(documents)
    if searched is None:
        return {}
    if connection.vendor == "sqlite":
        ids, cosines = _compared(searched, vector)
        best = np.argpartition(-cosines, count)[:count] if len(ids) > count else range(len(ids))
        return {int(ids[i]): float(cosines[i]) for i in best}
    if vector.size == INDEXED_DIMENSIONS and _many(searched):
        found = _indexed(searched, vector, count)
        if len(found) == count:  # it gives up when too few of what it explores belong to the documents
            return found
    return _first(searched, vector, count)


def _many(searched: Chosen) -> bool:
    with connection.cursor() as cursor:
        arguments = [COMPARED, COMPARED_OF_ALL, *searched.params]
        cursor.execute(_MANY.format(documents=searched.sql), arguments)
        (many,) = cursor.fetchone()
    return bool(many)


def _first(searched: Chosen, vector: Vector, count: int) -> dict[int, float]:
    with connection.cursor() as cursor:
        arguments = [str(vector.tolist()), *searched.params, count]
        cursor.execute(_EACH.format(documents=searched.sql), arguments)
        return {pk: 1.0 - far for pk, far in cursor.fetchall()}


def _indexed(searched: Chosen, vector: Vector, count: int) -> dict[int, float]:
    """As many as the index finds of the chunks; it goes on until it has them or has seen 20,000."""
    statement = _INDEXED.format(documents=searched.sql, dimensions=INDEXED_DIMENSIONS)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_EXPLORING, [str(EXPLORED)])
        cursor.execute(statement, [str(vector.tolist()), *searched.params, count])
        return {pk: 1.0 - far for pk, far in cursor.fetchall()}


def _compared(searched: Chosen, vector: Vector) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids and cosines of all the chunks, on SQLite, in bounded memory."""
    ids: list[int] = []
    cosines = [np.zeros(0, dtype=np.float32)]
    with connection.cursor() as cursor:
        cursor.execute(_ALL.format(documents=searched.sql), searched.params)
        while rows := cursor.fetchmany(_READ_AT_ONCE):
            ids += [pk for pk, _ in rows]
            stored = np.frombuffer(b"".join([vector for _, vector in rows]), dtype=np.float32)
            cosines.append(stored.reshape(len(rows), vector.size) @ vector)
    return np.array(ids, dtype=np.int64), np.concatenate(cosines)
