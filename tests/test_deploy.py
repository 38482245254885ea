"""What stands in deploy/ works as it stands there: nginx's file, the units, the restart, a rehearsal."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from rehearsal.book import Book
from rehearsal.stage import DEPLOY, PROJECT, Nginx, Server
from rehearsal.visitors import trusting

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked, and with whether it is ready."""

    server: "EchoServer"

    def do_GET(self) -> None:
        if self.path == "/cut":
            self.server.asked.append("cut")
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        headers = {name: self.headers.get_all(name) for name in self.headers}
        self.server.asked.append(self.path)
        answer = json.dumps(
            {"port": self.server.server_port, "headers": headers, "length": len(body)}
        ).encode()
        status = 503 if self.path == "/readyz" and not self.server.ready else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 - the name that the base class calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


class EchoServer(ThreadingHTTPServer):
    ready = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Echo)
        self.asked: list[str] = []


@contextmanager
def echoing(port: int) -> Iterator[EchoServer]:
    with EchoServer(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Nginx, list[Server]]]:
    """nginx with deploy/nginx.conf; nobody answers behind it yet."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "page.js").write_text("export {};")
    servers = [Server({}, tmp_path), Server({}, tmp_path)]
    nginx = Nginx(tmp_path, servers, tmp_path / "static")
    nginx.check()
    with nginx.running():
        yield nginx, servers


def browser(nginx: Nginx) -> httpx.Client:
    return httpx.Client(base_url=nginx.url, verify=trusting(nginx.certificate), timeout=20)


@needs_nginx
def test_nobody_can_pretend_to_have_another_address(site: tuple[Nginx, list[Server]]) -> None:
    nginx, servers = site
    forged = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    with echoing(servers[0].port), echoing(servers[1].port), browser(nginx) as client:
        seen = client.get("/", headers={**forged, "Forwarded": "for=10.1.2.3"}).json()["headers"]
    assert seen["X-Forwarded-For"] == ["127.0.0.1"]
    assert seen["X-Forwarded-Proto"] == ["https"]
    assert "X-Forwarded-Host" not in seen
    assert "Forwarded" not in seen


@needs_nginx
@pytest.mark.parametrize(
    ("brought", "kept"), [("abc-1.2_X", True), ("a" * 65, False), ("a b", False), ("<i>", False)]
)
def test_a_sane_request_id_is_passed_on(site: tuple[Nginx, list[Server]], brought: str, kept: bool) -> None:
    nginx, servers = site
    with echoing(servers[0].port), echoing(servers[1].port), browser(nginx) as client:
        (seen,) = client.get("/", headers={"X-Request-ID": brought}).json()["headers"]["X-Request-ID"]
    assert (seen == brought) is kept
    assert kept or re.fullmatch("[0-9a-f]{32}", seen)


@needs_nginx
def test_what_is_not_for_the_servers(site: tuple[Nginx, list[Server]]) -> None:
    nginx, servers = site
    with echoing(servers[0].port) as first, echoing(servers[1].port) as second, browser(nginx) as client:
        assert client.get("/metrics").status_code == 404
        script = client.get("/static/page.js")
        assert (script.text, script.headers["Cache-Control"]) == ("export {};", "no-cache")
        assert "javascript" in script.headers["Content-Type"]
        plain = httpx.post(f"http://127.0.0.1:{nginx.plain_port}/api/x?y=1")
        assert (plain.status_code, plain.headers["Location"]) == (308, "https://localhost/api/x?y=1")
        large = client.post("/api/RAG/upload", content=b"x" * (11 * 1024 * 1024 + 1))
        assert (large.status_code, large.json()["success"]) == (413, False)
        assert first.asked == second.asked == []
        assert client.post("/api/RAG/upload", content=b"x" * 10_900_000).json()["length"] == 10_900_000


@needs_nginx
def test_nobody_answers(site: tuple[Nginx, list[Server]]) -> None:
    nginx, _ = site
    with browser(nginx) as client:
        answer = client.post("/api/lightweight-llm/chat", json={"message": "hello"})
        assert (answer.status_code, answer.json()["success"]) == (502, False)
        assert answer.headers["Content-Type"] == "application/json"
        page = client.get("/documents/")
        assert page.status_code == 502
        assert "Please try again in a minute" in page.text


@needs_nginx
def test_a_server_that_is_down_costs_nothing(site: tuple[Nginx, list[Server]]) -> None:
    nginx, servers = site
    with echoing(servers[1].port) as there, browser(nginx) as client:
        for _ in range(20):
            assert client.post("/", content=b"once").json()["port"] == there.server_port


@needs_nginx
def test_no_post_is_sent_twice(site: tuple[Nginx, list[Server]]) -> None:
    nginx, servers = site
    with echoing(servers[0].port) as first, echoing(servers[1].port) as second, browser(nginx) as client:
        assert client.post("/cut", content=b"once").status_code == 502
        assert len(first.asked + second.asked) == 1


@needs_nginx
def test_a_server_is_out_while_its_file_is_there(site: tuple[Nginx, list[Server]]) -> None:
    nginx, servers = site
    with echoing(servers[0].port) as first, echoing(servers[1].port) as second, browser(nginx) as client:
        for out, serving in ((first, second), (second, first)):
            flag = nginx.out / f"127.0.0.1:{out.server_port}"
            flag.touch()
            ports = {client.get("/").json()["port"] for _ in range(20)}
            flag.unlink()
            assert ports == {serving.server_port}
        assert len({client.get("/").json()["port"] for _ in range(20)}) == 2
        (nginx.out / servers[0].name).touch()
        second.shutdown()
        second.server_close()  # the one that is out is better than none
        assert client.get("/").json()["port"] == first.server_port


def roll(out: Path, restart: str, *servers: EchoServer) -> "subprocess.CompletedProcess[str]":
    names = [f"127.0.0.1:{server.server_port}" for server in servers]
    command = [sys.executable, str(DEPLOY / "roll.py"), *names, "--out", str(out), "--restart", restart]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def pair() -> Iterator[tuple[EchoServer, EchoServer]]:
    with echoing(0) as first, echoing(0) as second:
        yield first, second


def test_roll_restarts_one_after_another_while_it_is_out(
    pair: tuple[EchoServer, EchoServer], tmp_path: Path
) -> None:
    first, second = pair
    out, log = tmp_path / "out", tmp_path / "log"
    done = roll(out, f"sh -c 'echo {{port}}: $(ls {out}) >> {log}'", first, second)
    assert (done.returncode, done.stderr) == (0, "")
    assert log.read_text().splitlines() == [
        f"{server.server_port}: 127.0.0.1:{server.server_port}" for server in pair
    ]
    assert list(out.iterdir()) == []


def test_roll_leaves_a_server_alone_when_the_other_is_not_ready(
    pair: tuple[EchoServer, EchoServer], tmp_path: Path
) -> None:
    first, second = pair
    second.ready = False
    done = roll(tmp_path / "out", f"touch {tmp_path / 'restarted'}", first, second)
    assert done.returncode == 1
    assert "was left alone" in done.stderr
    assert not (tmp_path / "restarted").exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_server_that_cannot_be_restarted_stays_out_and_is_first_the_next_time(
    pair: tuple[EchoServer, EchoServer], tmp_path: Path
) -> None:
    first, second = pair
    out, log = tmp_path / "out", tmp_path / "log"
    failed = roll(out, f"sh -c 'test {{port}} != {second.server_port}'", first, second)
    assert failed.returncode == 1
    assert "stays out of nginx and the others serve" in failed.stderr
    assert [flag.name for flag in out.iterdir()] == [f"127.0.0.1:{second.server_port}"]
    again = roll(out, f"sh -c 'echo {{port}} >> {log}'", first, second)
    assert again.returncode == 0
    assert log.read_text().split() == [str(second.server_port), str(first.server_port)]


@pytest.mark.parametrize(
    "restart",
    ["sh -c 'x=${UNIT}'", "sh -c {", "sh -c {}", "sh -c 'true", "", "{port.x}", "no-such-systemctl {port}"],
)
def test_a_restart_command_that_makes_no_sense_takes_nobody_out(
    pair: tuple[EchoServer, EchoServer], tmp_path: Path, restart: str
) -> None:
    done = roll(tmp_path / "out", restart, *pair)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "--restart" in done.stderr
    assert list((tmp_path / "out").glob("*")) == []


def test_a_restart_command_that_cannot_be_run_is_told(
    pair: tuple[EchoServer, EchoServer], tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text("\0")
    program.chmod(0o755)
    done = roll(tmp_path / "out", str(program), *pair)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "stays out of nginx and the others serve" in done.stderr


def test_roll_wants_two_servers_and_no_unknown_one_out(
    pair: tuple[EchoServer, EchoServer], tmp_path: Path
) -> None:
    assert roll(tmp_path / "out", "true", pair[0], pair[0]).returncode == 1
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "10.0.0.9:8001").touch()
    done = roll(tmp_path / "out", "true", *pair)
    assert done.returncode == 1
    assert "10.0.0.9:8001" in done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in DEPLOY.glob("leasehold*.*"):
        if unit.suffix in (".service", ".timer", ".target"):
            text = unit.read_text().replace("/srv/leasehold/.venv/bin/python", sys.executable)
            text = text.replace("/srv/leasehold/", f"{PROJECT}/")
            (tmp_path / unit.name.replace("@.", "@8001.")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    assert len(units) == 4
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_name_in_the_environment_file_means_something() -> None:
    lines = (DEPLOY / "leasehold.env").read_text().splitlines()
    names = {match[1] for line in lines if (match := re.match(r"#?([A-Z_]+)=", line))}
    settings = (PROJECT / "config" / "settings.py").read_text()
    unread = {name for name in names if f'"{name}"' not in settings}
    assert unread <= {"HOST", "FORWARDED_ALLOW_IPS"}  # the unit and uvicorn read these
    assert {"SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL"} <= names


@pytest.mark.parametrize("end", ["\n", ""])
def test_manage_reads_the_settings_as_systemd_does(tmp_path: Path, end: str) -> None:
    (tmp_path / "deploy").mkdir()
    shutil.copy(DEPLOY / "manage", tmp_path / "deploy")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "manage.py").write_text("import os, sys; print(os.environ['DATABASE_URL'], sys.argv[1:])")
    url = "postgresql://a:$HOME%40`b`@h/d?sslmode=require&x=y z"
    (tmp_path / "env").write_text(f"# a comment\n\nDATABASE_URL={url}{end}")
    done = subprocess.run(
        [str(tmp_path / "deploy" / "manage"), "migrate", "--plan"],
        env=os.environ | {"ENVIRONMENT_FILE": str(tmp_path / "env")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{url} ['migrate', '--plan']\n"


def test_the_book_tells_what_was_lost() -> None:
    book = Book()
    book.sent["chat"] += 2
    book.answers["200"] += 1
    assert book.unsettled() == 1
    book.places += [(3, 3), (3, 0), (2, 5)]
    assert book.places_lost() == [(2, 5)]


# Its PostgreSQL is its own, whatever the suite runs on.
once = pytest.mark.skipif("DATABASE_URL" in os.environ, reason="runs with the suite on SQLite")


def rehearse(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(DEPLOY / "rehearse.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@once
@needs_nginx
def test_a_rolling_restart_loses_no_request_and_a_backup_can_be_restored() -> None:
    done = rehearse()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^lost +0$", done.stdout, re.MULTILINE)
    assert not re.search(r"^asked to come back +0,", done.stdout, re.MULTILINE)
    assert "no two at once, fencing tokens rise" in done.stdout


@once
@needs_nginx
def test_the_rehearsal_can_tell_a_careless_restart() -> None:
    done = rehearse("--careless")
    assert done.returncode == 1, done.stdout + done.stderr
    lost = re.search(r"^lost +(\d+)$", done.stdout, re.MULTILINE)
    assert lost, done.stdout + done.stderr
    assert int(lost[1]) > 0
    assert "no two at once, fencing tokens rise" in done.stdout
