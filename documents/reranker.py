"""A second opinion on what was found, by a server whose model reads the question and a text together.

It speaks the protocol of Cohere's rerank API, as do Jina's, vLLM, llama.cpp, Infinity and others:
POST {query, documents} to /rerank gives {results: [{index, relevance_score}]}.
"""

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from math import isfinite
from typing import Any

import aiohttp
from django.conf import settings

from leases.outgoing import asked, session, whole

MAX_ANSWER_BYTES = 1024 * 1024
"""Ten times what the texts that are sent would take: some servers send them back."""

UNREACHABLE = (
    "The reranking server cannot be asked, or broke off its answer. Please check that it is running at the "
    "web address in RERANK_BASE_URL, and that RERANK_API_KEY is a single line."
)
UNREADABLE = (
    "The reranking server's answer does not say how relevant each text is. "
    "Please check that RERANK_BASE_URL is the address of a rerank API, without its last part, /rerank."
)


class RerankError(Exception):
    """The server is absent, late, refused or answered nonsense. The text is for people."""

    quotes_nobody = True  # so that logs may hold its text


async def order(query: str, texts: Sequence[str]) -> list[int]:
    """The positions of the texts, the most relevant to the query first; those of which the server does not
    speak come last, as they came. Raises RerankError.

    What the server says of a failure stays out of our messages: it may repeat the key or a text.
    """
    question = {"query": query, "documents": list(texts)}
    if settings.RERANK_MODEL:
        question["model"] = settings.RERANK_MODEL
    try:
        async with asyncio.timeout(settings.RERANK_TIMEOUT):
            answer = await _post(question)
    except TimeoutError as error:
        seconds = f"{settings.RERANK_TIMEOUT:g}"
        raise RerankError(f"The reranking server did not answer within {seconds} seconds.") from error
    except (aiohttp.ClientError, ValueError) as error:  # ValueError: what cannot be asked
        raise RerankError(UNREACHABLE) from error
    relevance = _relevance_in(answer, len(texts))
    return sorted(range(len(texts)), key=lambda position: -relevance.get(position, -float("inf")))


async def _post(question: dict[str, Any]) -> bytes:
    key = settings.RERANK_API_KEY
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{settings.RERANK_BASE_URL.rstrip('/')}/rerank"
    async with session(headers) as client, asked(client, "POST", url, question) as response:
        if response.status != HTTPStatus.OK:
            raise RerankError(
                f"The reranking server refused to work (HTTP status {response.status}). "
                "Please check RERANK_BASE_URL, RERANK_MODEL and RERANK_API_KEY; its own log may say more."
            )
        answer = await whole(response, MAX_ANSWER_BYTES)
    if answer is None:
        raise RerankError(UNREADABLE)
    return answer


def _relevance_in(answer: bytes, count: int) -> dict[int, float]:
    """Position of a text -> how relevant it is; the scale is the server's own."""
    try:
        results = json.loads(answer)["results"]
        relevance = {int(result["index"]): float(result["relevance_score"]) for result in results}
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise RerankError(UNREADABLE) from error
    sound = relevance.keys() <= set(range(count)) and all(map(isfinite, relevance.values()))
    if not relevance or not sound or len(relevance) != len(results):
        raise RerankError(UNREADABLE)
    return relevance
