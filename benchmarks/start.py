"""How long it takes to begin: from `git clone` to the first answer, a worker's cold start, its memory.

`python -m benchmarks.start` in the root of the project. Every clone installs everything anew from the
package registry, so its figure is also the network's. `--suite` times the whole test suite, too.
"""

import os
import subprocess
import tempfile
import time
from importlib import import_module
from pathlib import Path

import django
import httpx

from benchmarks.databases import DATABASES
from benchmarks.rounds import Table, finish, interleaved, machine, parser
from benchmarks.server import AS_A_PUBLIC_SITE, running_server
from benchmarks.servers import ROOT

READY_GOAL = 2.0  # s
QUESTION = {"message": "What is the capital of France?", "max_length": 32}
DOCUMENT = {"title": "A note", "content": "Paris is the capital of France.", "contentType": "text"}


def cloned() -> dict[str, float]:
    """Seconds of the README's first command on a fresh clone: to the first page, and to the first answer."""
    with tempfile.TemporaryDirectory(prefix="leasehold-benchmark-", ignore_cleanup_errors=True) as name:
        directory = Path(name) / "leasehold"
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(directory)], check=True)  # noqa: S607
        port = "8765"
        own = {*AS_A_PUBLIC_SITE, "DATABASE_URL"}
        plain = {key: value for key, value in os.environ.items() if key not in own}
        process = subprocess.Popen(
            ["scripts/serve"],  # noqa: S607
            cwd=directory,
            env=plain | {"PORT": port, "PIP_NO_CACHE_DIR": "1"},
            start_new_session=True,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                while True:
                    assert process.poll() is None, "scripts/serve ended"
                    try:
                        client.get("/").raise_for_status()
                        break
                    except httpx.TransportError:
                        time.sleep(0.1)
                page = time.perf_counter()
                client.post("/api/lightweight-llm/chat", json=QUESTION).raise_for_status()
            return {"page": page - began, "answer": time.perf_counter() - began}
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def started() -> dict[str, float]:
    """Seconds until a worker answers, from its start, and its memory before and after its first work."""
    began = time.perf_counter()
    with running_server() as server, httpx.Client(base_url=server.base, timeout=120) as client:
        answers = time.perf_counter() - began
        idle = server.memory
        while not client.get("/readyz").is_success:
            time.sleep(0.02)
        ready = time.perf_counter() - began
        client.post("/api/lightweight-llm/chat", json=QUESTION).raise_for_status()
        uploaded = client.post("/api/RAG/upload", json=DOCUMENT).raise_for_status().json()
        asked = {"document_id": uploaded["documentId"]}
        client.post("/api/vector-convert-llm/process-document", json=asked).raise_for_status()
        return {"answers": answers, "ready": ready, "idle": idle, "loaded": server.memory}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--database", choices=DATABASES, default="PostgreSQL")
    options.add_argument("--no-clone", action="store_true", help="without the fresh clones")
    options.add_argument("--suite", action="store_true", help="also the test suite, once (25 minutes)")
    chosen = options.parse_args()
    tables = []
    if not chosen.no_clone:
        found = interleaved({"clone": cloned}, chosen.rounds)["clone"]
        table = Table("git clone and scripts/serve, everything installed anew")
        table.figure("to the first page", found["page"], "s")
        table.figure("to the first answer of the chat model", found["answer"], "s")
        tables.append(table)
    if chosen.suite:
        began = time.perf_counter()
        subprocess.run(["scripts/test", "-n", "2", "-q"], cwd=ROOT, check=True)  # noqa: S607
        table = Table("scripts/test -n 2, on both databases")
        table.figure("the whole suite", [time.perf_counter() - began], "s")
        tables.append(table)
    os.environ |= AS_A_PUBLIC_SITE
    with DATABASES[chosen.database]() as os.environ["DATABASE_URL"]:
        django.setup()
        for command in ("migrate", "createcachetable"):
            import_module("django.core.management").call_command(command, verbosity=0)
        found = interleaved({"worker": started}, chosen.rounds)["worker"]
    table = Table(f"A worker, {chosen.database}")
    table.goal("answers after, s", found["answers"], at_most=READY_GOAL)
    table.figure("both engines ready after", found["ready"], "s")
    table.figure("resident memory when it first answers", found["idle"], "MB")
    table.figure("resident memory after an answer and a conversion", found["loaded"], "MB")
    tables.append(table)
    finish(tables, machine("django", "uvicorn"), chosen.json)


if __name__ == "__main__":
    main()
