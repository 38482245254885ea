"""Storing vectors: pgvector's type on PostgreSQL, the bytes of float32 numbers on SQLite."""

from typing import Any

import numpy as np
from django.db.backends.base.base import BaseDatabaseWrapper
from numpy.typing import NDArray
from pgvector.django import VectorField as PostgreSQLVectorField

Vector = NDArray[np.float32]  # (dimensions,)
Vectors = NDArray[np.float32]  # (texts, dimensions)


class VectorField(PostgreSQLVectorField):
    """A vector of float32 of any length."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "blob" if connection.vendor == "sqlite" else super().db_type(connection)

    def from_db_value(  # type: ignore[override]
        self, value: Any, expression: Any, connection: BaseDatabaseWrapper
    ) -> Vector | None:
        if value is None:
            return None
        if connection.vendor == "sqlite":
            return np.frombuffer(value, dtype=np.float32)
        return np.asarray(super().from_db_value(value, expression, connection), dtype=np.float32)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if value is None:
            return None
        vector = np.asarray(value, dtype=np.float32)
        return vector.tobytes() if connection.vendor == "sqlite" else self.get_prep_value(vector)
