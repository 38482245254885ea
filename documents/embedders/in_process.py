"""all-MiniLM-L6-v2 in this process: the default, which needs nothing but installed packages."""

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from documents.embedders.base import Embedder, EmbeddingError
from documents.embedders.minilm import MAX_TOKENS, MiniLM
from documents.tokenizer import load_tokenizer, model_directory

MAX_CHARACTERS = 100 * MAX_TOKENS
"""The tokenizer knows no word of more than 100 characters, so 512 tokens hardly ever reach further."""


class InProcessEmbedder(Embedder):
    """Each core has a text of its own, which is faster than sharing one: none waits for another."""

    model = "all-MiniLM-L6-v2-f32"
    method = "in-process"

    def __init__(self) -> None:
        cores = _usable_cores()
        self.batch_size = 4 * cores
        self._threads = ThreadPoolExecutor(cores, thread_name_prefix="embedding")
        self._loading = threading.Lock()
        self._loaded: MiniLM | None = None

    async def warm_up(self) -> None:
        await self.embed([""])

    async def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        vectors = [loop.run_in_executor(self._threads, self._vector, text) for text in texts]
        return np.stack(await asyncio.gather(*vectors))

    def _vector(self, text: str) -> NDArray[np.float32]:
        model = self._model()
        tokens = load_tokenizer().encode(text[:MAX_CHARACTERS]).ids
        if len(tokens) > MAX_TOKENS:
            tokens = [*tokens[: MAX_TOKENS - 1], tokens[-1]]  # the last one is [SEP]
        try:
            return model.vector(tokens)
        except Exception as error:
            raise EmbeddingError(
                "The built-in embedding model failed. Please try again, and restart the server if need be."
            ) from error

    def _model(self) -> MiniLM:
        with self._loading:
            if self._loaded is None:
                try:
                    self._loaded = MiniLM(model_directory())
                except Exception as error:
                    raise EmbeddingError(
                        "The built-in embedding model could not be loaded. "
                        "Please install the requirements again, or name a server in EMBEDDING_BASE_URL."
                    ) from error
            return self._loaded


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
