"""The vector half of a search: the chunks nearest to a vector, with their cosines.

Few chunks are compared one by one, which is exact. On PostgreSQL many are found through an index (HNSW),
which is nearly exact and takes hardly longer as they grow in number; only vectors of as many dimensions as
the built-in model's are in it, others are always compared one by one.
"""

from collections.abc import Mapping
from uuid import UUID

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import BooleanField, Func, QuerySet
from django.db.models.functions import Cast
from numpy.typing import NDArray
from pgvector.django import CosineDistance

from documents.models import Chunk, Document
from documents.vectors import Vector, VectorField

COMPARED = 10_000  # chunks; of more, the index finds the nearest sooner
INDEXED_DIMENSIONS = 384  # migration 0003 has the same
EXPLORED = 400  # the index's candidates: more find more, and take longer
_READ_AT_ONCE = 4_000  # vectors


def nearest(documents: QuerySet[Document], vector: Vector, count: int, *, many: bool) -> dict[int, float]:
    """Chunk id -> cosine, for `count` chunks of the documents, whose vectors have the size of this one.

    `many`: the documents may have more than COMPARED chunks.
    """
    chunks = _with_vectors(documents)
    if connection.vendor == "sqlite":
        ids, cosines = _compared(chunks, vector)
        best = np.argpartition(-cosines, count)[:count] if len(ids) > count else range(len(ids))
        return {int(ids[i]): float(cosines[i]) for i in best}
    if many and vector.size == INDEXED_DIMENSIONS:
        found = _indexed(chunks, vector, count)
        if len(found) == count:  # it gives up when too few of what it explores belong to the documents
            return found
    return _distances(chunks, CosineDistance("vector", vector), count)


def cosines_of(documents: QuerySet[Document], chunks: Mapping[int, UUID], vector: Vector) -> dict[int, float]:
    """Chunk id -> cosine, for those of these chunks (id -> its document's) that belong to the documents."""
    # Not one query for both: SQLite would go through all the documents' chunks rather than these.
    those = set(documents.filter(pk__in=set(chunks.values())).values_list("pk", flat=True))
    wanted = Chunk.objects.filter(
        id__in=[pk for pk, document in chunks.items() if document in those], vector__isnull=False
    )
    if connection.vendor == "sqlite":
        found, cosines = _compared(wanted, vector)
        return dict(zip(found.tolist(), cosines.tolist(), strict=True))
    return _distances(wanted, CosineDistance("vector", vector))


def _with_vectors(documents: QuerySet[Document]) -> QuerySet[Chunk]:
    return Chunk.objects.filter(document__in=documents.order_by(), vector__isnull=False)


def _distances(
    chunks: QuerySet[Chunk], distance: CosineDistance, count: int | None = None
) -> dict[int, float]:
    """Of all the chunks, or of the `count` with the least distance."""
    near = chunks.annotate(distance=distance)
    if count is not None:
        near = near.order_by("distance")[:count]
    return {pk: 1.0 - far for pk, far in near.values_list("id", "distance")}


def _indexed(chunks: QuerySet[Chunk], vector: Vector, count: int) -> dict[int, float]:
    """As many as the index finds of the chunks; it goes on until it has them or has seen 20,000."""
    size = f"vector_dims(%(expressions)s) = {INDEXED_DIMENSIONS}"  # the index's own condition
    field = Cast("vector", VectorField(dimensions=INDEXED_DIMENSIONS))
    in_index = chunks.filter(Func("vector", template=size, output_field=BooleanField()))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """SELECT set_config('hnsw.ef_search', %s, true),
                set_config('hnsw.iterative_scan', 'relaxed_order', true)""",
            [str(EXPLORED)],
        )
        return _distances(in_index, CosineDistance(field, vector), count)


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
