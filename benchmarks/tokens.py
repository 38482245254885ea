"""The first token and the tokens per second of an answer, through the whole stack and beside it.

`python -m benchmarks.tokens` in the root of the project. The default model answers in a server of the
project; the same engine is asked directly, over its own loopback API. Questions come in pairs of the same
sentences, one for each way, and are compared in these: no question is asked twice, since the engine would
remember it, and what it takes for one says nothing of another. Which way comes first changes.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import count, islice
from typing import Any

import django
import httpx

from benchmarks.databases import DATABASES
from benchmarks.embedding import sentence
from benchmarks.rounds import Table, finish, machine, parser, percentile
from benchmarks.server import AS_A_PUBLIC_SITE, SITE, running_server
from chat.prompts import SYSTEM

STACK, ENGINE = "through the stack", "the engine's own API"
NAMES = ("first token", "tokens per second")
TOKENS = 96  # of an answer, at most
LATER_GOAL = 15.0  # ms, of the first token
RATE_GOAL = 0.95


def questions() -> Iterator[tuple[str, str]]:
    """Pairs of the same sentences, none twice."""
    for number in count():
        source = random.Random(number)
        first, second = sentence(source), sentence(source)
        begin = "Write a long story about this:"
        yield f"{begin} {first} {second}", f"{begin} {second} {first}"


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


def compared(
    pairs: Iterator[tuple[str, str]], several: int, stack: httpx.Client, engine: httpx.Client
) -> dict[str, float]:
    """Medians over several pairs of questions, one asked in each way."""
    ours: list[tuple[float, float]] = []
    its: list[tuple[float, float]] = []
    for number, (one, other) in enumerate(islice(pairs, several)):
        ways = [(ours, asked_of_the_stack, stack, one), (its, asked_of_the_engine, engine, other)]
        for found, ask, client, question in ways[:: -1 if number % 2 else 1]:
            found.append(ask(client, question))
    both = list(zip(ours, its, strict=True))
    figures = {
        "later": [mine - other for (mine, _), (other, _) in both],
        "ratio": [mine / other for (_, mine), (_, other) in both],
    }
    for way, found in ((STACK, ours), (ENGINE, its)):
        for name, *values in zip(NAMES, *found, strict=True):
            figures[f"{way}: {name}"] = values
    return {name: percentile(values, 0.5) for name, values in figures.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--questions", type=int, default=10, help="a round, asked in each way (10)")
    options.add_argument("--database", choices=DATABASES, default="PostgreSQL")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE
    pairs = questions()
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
                compared(pairs, 3, stack, direct)  # warms up
                rounds = [compared(pairs, chosen.questions, stack, direct) for _ in range(chosen.rounds)]
    found = {name: [each[name] for each in rounds] for name in rounds[0]}
    table = Table(f"Answers of at most {TOKENS} tokens, one after another, {chosen.database}")
    table.goal("first token later than the engine's, ms", found.pop("later"), at_most=LATER_GOAL)
    table.goal("tokens per second to the engine's", found.pop("ratio"), at_least=RATE_GOAL, times=True)
    for name, values in found.items():
        table.figure(f"{name}, p50", values, "ms" if name.endswith(NAMES[0]) else "/s")
    finish([table], machine("django", "uvicorn", "xllamacpp"), chosen.json)


if __name__ == "__main__":
    main()
