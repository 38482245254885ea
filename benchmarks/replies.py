"""What the chat model makes of the passages that are found: the numbers it tells, and when it stops.

`python -m benchmarks.replies` in the root of the project. A server of its own gets the documents of
`golden/`, and is asked over HTTP, with the defaults of document chat, all questions of the golden set whose
answer is a number. An answer is right if it tells a number of the passage that answers the question, and
not of the question. As a long answer has more of them by chance, how many are as long as they may be is
told beside. `--model` is the file of another model, which reads the first passage whole. One round asks
each question once; the spread is that of resampled questions.
"""

import os
import re
from importlib import import_module
from typing import Any

import django
import httpx
import numpy as np

from benchmarks.answers import Question, interval, questions, texts
from benchmarks.databases import DATABASES
from benchmarks.rounds import Table, finish, machine, parser, percentile
from benchmarks.server import AS_A_PUBLIC_SITE, running_server

KIND = "number"
LONGEST = 512  # tokens: the default of the API
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(text))


def asked_for(question: Question) -> set[str]:
    """The numbers of which one is the answer."""
    return numbers(question["passage"]) - numbers(question["question"])


def uploaded(client: httpx.Client) -> list[str]:
    """The ids of the documents, converted."""
    ids = []
    for name, text in texts().items():
        kind = "markdown" if name.endswith(".md") else "text"
        sent = {"title": name, "content": text, "contentType": kind}
        ids.append(posted(client, "RAG/upload", sent)["documentId"])
        posted(client, "vector-convert-llm/process-document", {"document_id": ids[-1]})
    return ids


def posted(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(f"/api/{path}", json=body).raise_for_status().json()
    return answer


def reply(client: httpx.Client, question: Question, ids: list[str]) -> dict[str, float]:
    """What comes of one question."""
    search = {"query": question["question"], "documentIds": ids, "limit": 1}
    found = posted(client, "RAG/search", search)["results"]
    answer = posted(client, "RAG/chat", {"message": question["question"], "documentIds": ids})
    wanted = asked_for(question)
    return {
        "the passage found first has the number": any(wanted & numbers(each["passage"]) for each in found),
        "the answer has it": bool(wanted & numbers(answer["response"])),
        "the answer is as long as it may be": answer["usage"]["output_tokens"] >= LONGEST,
        "tokens of an answer, p50": answer["usage"]["output_tokens"],
        "from question to answer, p50": answer["processingTimeMs"] / 1000,
    }


def summary(replies: list[dict[str, float]], model: str) -> Table:
    table = Table(f"{len(replies)} questions for a number, answered by {model}")
    for name in replies[0]:
        values = [each[name] for each in replies]
        if name.endswith("p50"):
            table.figure(name, [percentile(values, 0.5)], "" if name.startswith("tokens") else "s")
        else:
            low, high = interval(np.array(values, dtype=float))
            table.figure(f"share: {name}", [float(np.mean(values)), low, high], "")
    return table


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--database", choices=DATABASES, default="SQLite")
    options.add_argument("--model", default="", help="the path of a GGUF file")
    chosen = options.parse_args()
    os.environ |= AS_A_PUBLIC_SITE | {"CHAT_MODEL": chosen.model}
    if chosen.model:
        os.environ["CHAT_PASSAGES"] = "1"  # as for the default model
    asked = [each for each in questions() if each["kind"] == KIND and asked_for(each)]
    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        import_module("django.core.management").call_command("migrate", verbosity=0)
        with running_server() as server, httpx.Client(base_url=server.base, timeout=300) as client:
            ids = uploaded(client)
            replies = [reply(client, question, ids) for question in asked]
            status = client.get("/api/lightweight-llm/status").raise_for_status().json()
    finish([summary(replies, status["model"])], machine("xllamacpp"), chosen.json)


if __name__ == "__main__":
    main()
