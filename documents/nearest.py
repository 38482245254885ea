"""The vector half of a search: the chunks nearest to a vector, with their cosines.

Few chunks are compared one by one, which is exact. On PostgreSQL many are found through an index (HNSW, of
half precision), which is nearly exact and takes hardly longer as they grow in number; only vectors of as
many dimensions as the built-in model's are in it, others are always compared one by one.
"""

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import QuerySet
from numpy.typing import NDArray
from pgvector.django import CosineDistance

from documents.models import Chunk, Document
from documents.vectors import Vector

COMPARED = 10_000  # chunks; of more, the index finds the nearest sooner
INDEXED_DIMENSIONS = 384  # migration 0004 has the same
EXPLORED = 440  # the index's candidates: more find more, and take longer
_READ_AT_ONCE = 4_000  # vectors

_EXPLORING = """
SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true)
"""
# A constant, as the ORM takes 2 ms to make it; the second condition is the index's own.
_INDEXED = """
SELECT chunk.id, CAST(chunk.vector AS halfvec({dimensions})) <=> asked.vector
FROM documents_chunk AS chunk, (SELECT CAST(%s AS halfvec({dimensions})) AS vector) AS asked
WHERE chunk.document_id IN ({documents}) AND vector_dims(chunk.vector) = {dimensions}
ORDER BY 2 LIMIT %s
"""


def nearest(documents: QuerySet[Document], vector: Vector, count: int) -> dict[int, float]:
    """Chunk id -> cosine, for `count` chunks of the documents, whose vectors have the size of this one."""
    searched = Chunk.objects.filter(document__in=documents.order_by())
    chunks = searched.filter(vector__isnull=False)
    if connection.vendor == "sqlite":
        ids, cosines = _compared(chunks, vector)
        best = np.argpartition(-cosines, count)[:count] if len(ids) > count else range(len(ids))
        return {int(ids[i]): float(cosines[i]) for i in best}
    if vector.size == INDEXED_DIMENSIONS and searched[: COMPARED + 1].count() > COMPARED:
        found = _indexed(documents, vector, count)
        if len(found) == count:  # it gives up when too few of what it explores belong to the documents
            return found
    return _first(chunks, vector, count)


def _first(chunks: QuerySet[Chunk], vector: Vector, count: int) -> dict[int, float]:
    distance = CosineDistance("vector", vector)
    near = chunks.order_by(distance).values_list("id", distance)
    return {pk: 1.0 - far for pk, far in near[:count]}


def _indexed(documents: QuerySet[Document], vector: Vector, count: int) -> dict[int, float]:
    """As many as the index finds of the chunks; it goes on until it has them or has seen 20,000."""
    chosen, params = documents.order_by().values("id").query.sql_with_params()
    statement = _INDEXED.format(documents=chosen, dimensions=INDEXED_DIMENSIONS)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_EXPLORING, [str(EXPLORED)])
        cursor.execute(statement, [str(vector.tolist()), *params, count])
        return {pk: 1.0 - far for pk, far in cursor.fetchall()}


def _compared(chunks: QuerySet[Chunk], vector: Vector) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids and cosines of all the chunks, on SQLite, in bounded memory."""
    ids: list[int] = []
    cosines = [np.zeros(0, dtype=np.float32)]
    try:
        sql, params = chunks.values_list("id", "vector").query.sql_with_params()
    except EmptyResultSet:  # Django knows without asking that there are none
        return np.zeros(0, dtype=np.int64), cosines[0]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        while rows := cursor.fetchmany(_READ_AT_ONCE):
            ids += [pk for pk, _ in rows]
            stored = np.frombuffer(b"".join([vector for _, vector in rows]), dtype=np.float32)
            cosines.append(stored.reshape(len(rows), vector.size) @ vector)
    return np.array(ids, dtype=np.int64), np.concatenate(cosines)
