"""The child process that reads files: its limits hold, its parent goes on, and nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from documents import sandbox
from documents.extraction import Extracted, ExtractionBusy, NoText, UnreadableFile, UnsupportedFile
from tests.documents import files

ROOT = Path(__file__).parents[2]


def slow_page(attributes: int = 400_000) -> bytes:
    """A small page that takes the HTML parser minutes: it looks each attribute up among all before it."""
    return b"<p " + b" ".join(b"a%d=b" % number for number in range(attributes)) + b">words"


def children() -> list[psutil.Process]:
    return list(psutil.Process().children())


def is_parsing(process: psutil.Process) -> bool:
    """Whether this is a child of the sandbox that has its parser loaded, and so has its limits already.

    A child that has not started its program yet still shows the memory of its parent: its command
    line has to be looked at first.
    """
    if "documents.extraction" not in process.cmdline():
        return False
    return any("etree" in mapped.path for mapped in process.memory_maps())


def parsing_child(of: psutil.Process) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in of.children():
            if is_parsing(child):
                return child
    raise AssertionError("No child came as far as its parser.")


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """No test leaves a process of its own, not even a dead one that nobody waited for."""
    before = children()
    yield
    assert [child for child in children() if child not in before] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "Größe".encode()),
        ("a.html", b"<h1>Rules</h1><p>Quiet."),
        ("a.docx", files.word()),
        ("a.pdf", files.long_pdf(2)),
    ],
)
def test_reads_the_same_as_extraction_itself(name: str, content: bytes) -> None:
    from documents import extraction

    assert sandbox.extract(name, content) == extraction.extract(name, content)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.txt", files.picture(), UnsupportedFile),
        ("a.md", b"\x00\x01\x02", UnsupportedFile),
        ("a.pdf", files.scanned_pdf(), NoText),
        ("a.pdf", files.pdf([[("x", 11, 14)]], password="p"), UnreadableFile),
        ("a.docx", files.lying_word_bomb(100), UnreadableFile),
    ],
)
def test_errors_come_through_with_their_sentence(name: str, content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        sandbox.extract(name, content)
    assert str(caught.value).endswith(".")


def test_a_file_that_runs_away_in_time_is_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(UnreadableFile, match="too long"):
        sandbox.extract("a.html", slow_page(), time_limit=1)
    assert 0.9 < time.monotonic() - began < 3


def test_a_file_that_runs_away_in_memory_is_stopped() -> None:
    content = files.word_of("<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 300_000)
    assert sandbox.extract("a.docx", content).text.startswith("x\n\nx")
    with pytest.raises(UnreadableFile):
        sandbox.extract("a.docx", content, memory_limit=120_000_000)


def test_a_page_that_inflates_without_end_is_stopped() -> None:
    content = files.raw_pdf(b"BT /F1 12 Tf (words) Tj ET\n" + b" " * 300_000_000, compressed=True)
    assert len(content) < 1_000_000
    with pytest.raises((UnreadableFile, NoText)):
        sandbox.extract("a.pdf", content, memory_limit=200_000_000, time_limit=10)


def test_pages_that_contain_themselves_do_not_loop() -> None:
    content = files.raw_pdf(b"BT ET", kids=b"[2 0 R 2 0 R 2 0 R]")
    with pytest.raises((UnreadableFile, NoText)):
        sandbox.extract("a.pdf", content, time_limit=10)


@pytest.mark.parametrize(
    "sign", [b"<", b"[", b"*", b"#", b"&", b"<b>", b"<!--", b"<table>", b" \n", b"\xf0\x9f\x98\x80"]
)
def test_long_rows_of_one_sign_end_in_time(sign: bytes) -> None:
    for name in ("a.html", "a.md"):
        try:
            result = sandbox.extract(name, b"x" + sign * (2_000_000 // len(sign)), time_limit=15)
        except (UnreadableFile, NoText) as error:
            assert "too long to read" not in str(error)  # noqa: PT017 - other refusals are fine
        else:
            assert isinstance(result, Extracted)


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is lowered below an honest answer: a child that says more is not listened to."""
    monkeypatch.setattr(sandbox, "_MAX_ANSWER_BYTES", 100_000)
    with pytest.raises(UnreadableFile):
        sandbox.extract("a.txt", b"word " * 50_000)


def test_a_crashed_child_is_an_unreadable_file() -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sandbox.extract, "a.html", slow_page())
        parsing_child(psutil.Process()).send_signal(signal.SIGSEGV)
        with pytest.raises(UnreadableFile, match="too complicated"):
            running.result()
    assert sandbox.extract("a.txt", b"still here").text == "still here"


def test_no_more_children_than_places_and_a_bounded_wait() -> None:
    page = slow_page()
    before = len(children())
    with ThreadPoolExecutor(sandbox.MAX_CHILDREN) as pool:
        running = [
            pool.submit(sandbox.extract, "a.html", page, time_limit=3) for _ in range(sandbox.MAX_CHILDREN)
        ]
        deadline = time.monotonic() + 2
        while len(children()) < before + sandbox.MAX_CHILDREN and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ExtractionBusy):
            sandbox.extract("a.txt", b"words", max_wait=0.1)
        assert len(children()) == before + sandbox.MAX_CHILDREN
        for one in running:
            with pytest.raises(UnreadableFile):
                one.result()
    assert sandbox.extract("a.txt", b"words").text == "words"  # the places were given back


def test_the_child_sees_no_secrets_and_has_its_limits() -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sandbox.extract, "a.html", slow_page(), time_limit=2)
        child = parsing_child(psutil.Process())
        assert os.getpgid(child.pid) == child.pid
        assert set(child.environ()) <= {"LC_CTYPE"}
        if sys.platform == "linux":
            assert child.rlimit(psutil.RLIMIT_AS) == (sandbox.MEMORY_LIMIT,) * 2
            assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
            assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
            assert child.rlimit(psutil.RLIMIT_CPU)[1] <= 4
        with pytest.raises(UnreadableFile):
            running.result()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child ends by its alarm")
def test_the_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    page = tmp_path / "slow.html"
    page.write_bytes(slow_page())
    program = (
        "import sys; from pathlib import Path; from documents import sandbox; "
        "sandbox.extract('a.html', Path(sys.argv[1]).read_bytes())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(page)], cwd=ROOT)
    try:
        grandchild = parsing_child(psutil.Process(parent.pid))
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs([grandchild], timeout=5)
    assert alive == []


def test_a_small_file_takes_a_fraction_of_a_second() -> None:
    sandbox.extract("a.txt", b"warm")
    best = min(_seconds(b"words") for _ in range(3))
    assert best < 1.0


def _seconds(content: bytes) -> float:
    began = time.perf_counter()
    sandbox.extract("a.txt", content)
    return time.perf_counter() - began
