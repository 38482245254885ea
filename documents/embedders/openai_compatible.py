"""Any server that speaks the OpenAI embeddings protocol: Ollama, TEI, llama.cpp, vLLM and others."""

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from documents.embedders.base import Embedder, EmbeddingError, EmbeddingTimeout, Health
from leases.outgoing import asked, session, whole

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Five times what a batch takes with 8,192 dimensions."""

NAMELESS = "nameless"
NAME_MISSING = (
    "The embedding server's model has no name. "
    "Please set EMBEDDING_MODEL to the model's name on the server at EMBEDDING_BASE_URL."
)
UNREACHABLE = (
    "The embedding server cannot be reached or broke off its answer. "
    "Please check that it is running at the address in EMBEDDING_BASE_URL."
)
UNREADABLE = (
    "The embedding server's answer is not a list of vectors. "
    "Please check that EMBEDDING_BASE_URL is the address of an OpenAI-compatible API (most end in /v1)."
)


class OpenAICompatibleEmbedder(Embedder):
    """`model` on the server at `base_url`, whose answer to a batch must be complete within `timeout` seconds.

    What the server says of a failure stays out of our messages: it may repeat the key or the text.
    """

    method = "openai-compatible"
    batch_size = 16

    def __init__(self, base_url: str, model: str, api_key: str, timeout: float) -> None:
        self.model = model or NAMELESS
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout

    async def warm_up(self) -> None:
        """Nothing is loaded in this process; a server that failed is asked whether it is back."""
        if self._fault is not None:
            await self.embed(["hello"])

    def health(self) -> Health:
        if self.model == NAMELESS:
            return Health(ready=False, model=None, error=NAME_MISSING)
        return super().health()

    async def _vectors(self, texts: Sequence[str]) -> NDArray[np.floating]:
        if self.model == NAMELESS:
            raise EmbeddingError(NAME_MISSING)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._post({"model": self.model, "input": list(texts)})
        except TimeoutError as error:
            raise EmbeddingTimeout(
                f"The embedding server did not answer within {self._timeout:g} seconds. "
                "Please try again in a minute."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise EmbeddingError(UNREACHABLE) from error
        except (ValueError, aiohttp.NonHttpUrlClientError) as error:
            raise EmbeddingError(
                "The embedding server cannot be addressed. "
                "Please check that EMBEDDING_BASE_URL is a web address and EMBEDDING_API_KEY a single line."
            ) from error
        except aiohttp.ClientError as error:
            raise EmbeddingError(UNREACHABLE) from error
        return _vectors_in(answer, len(texts))

    async def _post(self, question: dict[str, Any]) -> bytes:
        async with session(self._headers) as client, asked(client, "POST", self._url, question) as response:
            if response.status != HTTPStatus.OK:
                raise EmbeddingError(_refusal(response.status))
            answer = await whole(response, MAX_ANSWER_BYTES)
        if answer is None:
            raise EmbeddingError(UNREADABLE)
        return answer


def _refusal(status: int) -> str:
    match status:
        case 301 | 302 | 303 | 307 | 308:
            advice = "It has moved. Please set EMBEDDING_BASE_URL to its new address."
        case 401 | 403:
            advice = "Please check EMBEDDING_API_KEY."
        case 404:
            advice = (
                "Please check EMBEDDING_BASE_URL (most end in /v1) and that it has the model EMBEDDING_MODEL."
            )
        case 429 | 503:
            advice = "It is busy or still starting. Please try again in a minute."
        case _:
            advice = "Its own log says why."
    return f"The embedding server refused to work (HTTP status {status}). {advice}"


def _vectors_in(answer: bytes, count: int) -> NDArray[np.floating]:
    """Shape (count, dimensions), in the order of the texts, whatever the order in the answer."""
    try:
        items = json.loads(answer)["data"]
        by_index = {item.get("index", place): item["embedding"] for place, item in enumerate(items)}
        vectors = np.array([by_index[index] for index in range(count)])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise EmbeddingError(UNREADABLE) from error
    if len(items) != count or vectors.ndim != 2 or vectors.dtype.kind not in "iuf" or not vectors.size:
        raise EmbeddingError(UNREADABLE)
    return vectors.astype(np.float64)
