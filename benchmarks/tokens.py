"""The first token and the tokens per second of an answer, through the whole stack and beside it.

`python -m benchmarks.tokens` in the root of the project. The default model answers in a server of the
project; the same engine is asked directly, over its own loopback API, with the same messages. No
question is asked twice, since the engine would remember it.
"""

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from typing import Any

import django
import httpx

from benchmarks.databases import DATABASES
from benchmarks.embedding import sentence
from benchmarks.rounds import Table, finish, interleaved, machine, parser, percentile
from benchmarks.server import AS_A_PUBLIC_SITE, SITE, running_server
from chat.prompts import SYSTEM

STACK, ENGINE = "through the stack", "the engine's own API"
TOKENS = 96  # of an answer, at most
LATER_GOAL = 15.0  # ms, of the first token
RATE_GOAL = 0.95


def questions() -> Iterator[str]:
    """Of about the same length, none twice."""
    for number in count():
        source = random.Random(number)
        yield f"Write a long story about this: {sentence(source)} {sentence(source)}"


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The data of server-sent events, as they come."""
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def asked_of_the_stack(client: httpx.Client, question: str) -> tuple[float, float]:
    """Milliseconds to the first token, and the tokens per second after it."""
    body = {"message": question, "max_length": TOKENS, "temperature": 0}
    began = time.perf_counter()
    first, tokens = 0.0, 0
    headers = {"Accept": "text/event-stream"}
    with client.stream("POST", "/api/lightweight-llm/chat", json=body, headers=headers) as response:
        response.raise_for_status()
        for event in events(response):
            if "text" in event:
                first, last = first or time.perf_counter(), time.perf_counter()
            tokens = event.get("usage", {}).get("output_tokens", tokens)
    return (first - began) * 1000, (tokens - 1) / (last - first)


def asked_of_the_engine(client: httpx.Client, question: str) -> tuple[float, float]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    began = time.perf_counter()
    first, tokens = 0.0, 0
    with client.stream("POST", "chat/completions", json=body) as response:
        response.raise_for_status()
        for event in events(response):
            if any(choice["delta"].get("content") for choice in event["choices"]):
                first, last = first or time.perf_counter(), time.perf_counter()
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return (first - began) * 1000, (tokens - 1) / (last - first)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--questions", type=int, default=10, help="a round (10)")
    options.add_argument("--database", choices=DATABASES, default="PostgreSQL")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE
    asking = questions()

    def several(ask: Callable[[httpx.Client, str], tuple[float, float]], client: httpx.Client) -> Any:
        def once() -> dict[str, float]:
            firsts, rates = zip(*(ask(client, next(asking)) for _ in range(chosen.questions)), strict=True)
            return {"first": percentile(firsts, 0.5), "rate": percentile(rates, 0.5)}

        return once

    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        import_module("django.core.management").call_command("migrate", verbosity=0)
        with (
            running_server(SITE, BENCHMARK_REAL_ENGINE="1") as server,
            httpx.Client(base_url=server.base, timeout=60) as stack,
        ):
            engine = stack.get("/engine", timeout=120).raise_for_status().json()
            headers = {"Authorization": f"Bearer {engine['key']}", "Connection": "close"}  # as the stack does
            with httpx.Client(base_url=engine["url"], headers=headers, timeout=60) as direct:
                contenders = {
                    STACK: several(asked_of_the_stack, stack),
                    ENGINE: several(asked_of_the_engine, direct),
                }
                interleaved(contenders, 1)  # warms up
                figures = interleaved(contenders, chosen.rounds)
    table = Table(f"Answers of at most {TOKENS} tokens, one after another, {chosen.database}")
    later = [ours - its for ours, its in zip(figures[STACK]["first"], figures[ENGINE]["first"], strict=True)]
    table.goal("first token later than the engine's, ms", later, at_most=LATER_GOAL)
    table.ratio(
        "tokens per second to the engine's",
        figures[STACK]["rate"],
        figures[ENGINE]["rate"],
        at_least=RATE_GOAL,
    )
    for name, found in figures.items():
        table.figure(f"{name}: first token, p50", found["first"], "ms")
        table.figure(f"{name}: tokens per second, p50", found["rate"], "/s")
    finish([table], machine("django", "uvicorn", "xllamacpp"), chosen.json)


if __name__ == "__main__":
    main()
