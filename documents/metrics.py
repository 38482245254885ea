"""What is counted of the work with embeddings."""

from prometheus_client import Counter

from documents.embedders.base import EmbeddingError, EmbeddingTimeout
from leases.metrics import ENGINE_ERRORS

SERVICE = "vector-convert"

EMBEDDED_CHUNKS = Counter("leasehold_embedded_chunks", "Chunks of documents that got a vector.", ["service"])
EMBEDDING_SECONDS = Counter(
    "leasehold_embedding_seconds", "Seconds in which chunks of documents were embedded.", ["service"]
)


def count_error(error: EmbeddingError) -> None:
    ENGINE_ERRORS.labels(SERVICE, "timeout" if isinstance(error, EmbeddingTimeout) else "error").inc()
