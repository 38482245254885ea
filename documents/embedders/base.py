"""What every embedder is: texts in, unit vectors out, a batch at a time."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class EmbeddingError(Exception):
    """The embedding model is absent, crashed, refused or answered nonsense. The text is for people."""

    quotes_nobody = True  # so that logs may hold its text


class EmbeddingTimeout(EmbeddingError):  # noqa: N818 (what it is says enough)
    """The embedding model answered too late."""


@dataclass(frozen=True)
class Health:
    """What is known of an engine without asking it anything."""

    ready: bool
    model: str | None
    error: str | None


class Batch(NamedTuple):
    """The positions of some of the texts, and their unit vectors: shape (len(positions), dimensions)."""

    positions: list[int]
    vectors: NDArray[np.float32]


class Embedder(ABC):
    """Turns texts into vectors whose dot products are cosines.

    One embedder may be used from several threads and event loops at once.
    """

    model: str
    """Stored with every vector. Vectors may be compared only if theirs is the same."""

    method: str
    """Where the vectors come from, for people."""

    batch_size: int
    """How many texts go into one batch."""

    _fault: str | None = None

    async def batches(self, texts: Sequence[str]) -> AsyncIterator[Batch]:
        """Embed `texts` in batches of similar length, the longest first.

        Any string will do, even an empty one; what exceeds the model's window does not count.
        All batches have the same number of dimensions. Raises EmbeddingError.
        """
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]), reverse=True)
        dimensions: int | None = None
        for start in range(0, len(order), self.batch_size):
            positions = order[start : start + self.batch_size]
            try:
                vectors = await self._vectors([_well_formed(texts[position]) for position in positions])
                dimensions = dimensions or vectors.shape[-1]
                batch = Batch(positions, _unit_vectors(vectors, (len(positions), dimensions)))
            except EmbeddingError as error:
                self._fault = str(error)
                raise
            self._fault = None
            yield batch

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of `texts` in their order, shape (len(texts), dimensions); (0, 0) without texts.

        Raises EmbeddingError.
        """
        batches = [batch async for batch in self.batches(texts)]
        if not batches:
            return np.empty((0, 0), np.float32)
        vectors = np.empty((len(texts), batches[0].vectors.shape[1]), np.float32)
        for batch in batches:
            vectors[batch.positions] = batch.vectors
        return vectors

    def health(self) -> Health:
        """How the last call in this process ended; before the first one, ready."""
        return Health(ready=self._fault is None, model=self.model, error=self._fault)

    @abstractmethod
    async def warm_up(self) -> None:
        """Load whatever the first call would otherwise wait for. Raises EmbeddingError."""

    @abstractmethod
    async def _vectors(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """One vector, not necessarily of unit length, for each of a batch's texts. Raises EmbeddingError.

        Shape (len(texts), dimensions). The texts are well-formed Unicode.
        """


def _well_formed(text: str) -> str:
    """Lone surrogates, which no encoding can carry, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _unit_vectors(vectors: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float32]:
    if vectors.shape != shape:
        raise EmbeddingError(
            f"The embedding model answered with vectors of shape {vectors.shape} where {shape} was expected. "
            "Please check that EMBEDDING_MODEL names an embedding model."
        )
    vectors = vectors.astype(np.float64)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    if not (np.isfinite(largest).all() and largest.all()):
        raise EmbeddingError(
            "The embedding model answered with numbers that make no vector (zero, infinite or undefined). "
            "Please check the model, or choose another one."
        )
    vectors /= largest  # keeps the squares of very large and very small numbers in range
    unit: NDArray[np.floating] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)
