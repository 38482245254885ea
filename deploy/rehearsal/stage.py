"""The processes of a deployment on loopback: server processes as the unit starts them, and nginx in front."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
PROJECT = DEPLOY.parent
STOP_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settings(directory: Path, database_url: str) -> dict[str, str]:
    """The environment of every process: deploy/leasehold.env, with the few values that a rehearsal has."""
    lines = (DEPLOY / "leasehold.env").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    own = {
        "SECRET_KEY": "of one rehearsal, and of nothing else: 9f3b7c1d5e2a8046",
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "DATABASE_URL": database_url,
        "VAR_DIR": str(directory / "var"),
        "ANONYMOUS_RATE": "",  # the visitors are many and come from one address
        "PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
    }
    return inherited | example | own


def manage(environment: Mapping[str, str], *arguments: str) -> str:
    """Run manage.py; its output."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


class Server:
    """One server process, started by the very command of leasehold@.service."""

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self.port = free_port()
        self.name = f"127.0.0.1:{self.port}"
        self.restart_asked = directory / f"restart-{self.port}"
        self.log = directory / f"server-{self.port}.log"
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        unit = (DEPLOY / "leasehold@.service").read_text()
        line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
        command = line.removeprefix("ExecStart=").replace("%i", str(self.port))
        command = command.replace("/srv/leasehold", str(PROJECT))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                shlex.split(command),
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """As systemd does: SIGTERM, and after a time SIGKILL."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart_command(self) -> str:
        """A command that has this process restart the server, and returns when it has: for `roll.py`."""
        template = str(self.restart_asked).replace(str(self.port), "{port}")
        return f"sh -c 'touch {template}; while [ -e {template} ]; do sleep 0.1; done'"


@contextmanager
def running(servers: list[Server]) -> Iterator[None]:
    """The servers, which are restarted whenever somebody asks for it, as systemd would."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for server in servers:
                if server.restart_asked.exists():
                    server.stop()
                    server.start()
                    server.restart_asked.unlink()

    watching = threading.Thread(target=watch, name="restarts")
    try:
        for server in servers:
            server.start()
        watching.start()
        yield
    finally:
        over.set()
        if watching.ident is not None:
            watching.join()
        for server in servers:
            server.stop()


class Nginx:
    """nginx with deploy/nginx.conf: other ports, names and paths, and nothing else different."""

    def __init__(self, directory: Path, servers: list[Server], static: Path) -> None:
        self.port = free_port()
        self.plain_port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.out = directory / "out"
        self.certificate = directory / "certificate.pem"
        self._directory = directory
        self._make_certificate()
        site = directory / "site.conf"
        site.write_text(self._rendered(servers, static))
        self._main = directory / "nginx.conf"
        self._main.write_text(self._frame(site))

    def check(self) -> str:
        """What `nginx -t` says. Raises RuntimeError if it is not content."""
        done = subprocess.run([*self._command(), "-t"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"nginx refuses deploy/nginx.conf:\n{done.stderr}")
        return done.stderr

    @contextmanager
    def running(self) -> Iterator[None]:
        self.out.mkdir()
        process = subprocess.Popen(self._command())
        try:
            wait_for_port(self.port)
            yield
        finally:
            process.terminate()
            process.wait()

    def _command(self) -> list[str]:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise RuntimeError("Please install nginx first: apt-get install nginx")
        log = self._directory / "nginx-error.log"
        return [program, "-p", str(self._directory), "-c", str(self._main), "-e", str(log)]

    def _frame(self, site: Path) -> str:
        """What the distribution's own nginx.conf says around a site."""
        temporary = "".join(
            f"{module}_temp_path {self._directory}/{module};\n"
            for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            f"daemon off; worker_processes 2; pid {self._directory}/nginx.pid;\n"
            f"error_log {self._directory}/nginx-error.log warn;\n"
            "events { worker_connections 1024; }\n"
            f"http {{\n{temporary}include /etc/nginx/mime.types; default_type application/octet-stream;\n"
            f"access_log off; include {site};\n}}\n"
        )

    def _rendered(self, servers: list[Server], static: Path) -> str:
        first, second = servers
        changes = {
            "listen [::]:80;": "",
            "listen [::]:443 ssl http2;": "",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "leasehold.example.org": "localhost",
            "/etc/leasehold/tls/fullchain.pem": str(self.certificate),
            "/etc/leasehold/tls/privkey.pem": str(self._key),
            "/var/log/nginx/leasehold.log": str(self._directory / "access.log"),
            "/var/lib/leasehold/static/": f"{static}/",
            "/run/leasehold/out": str(self.out),
            "127.0.0.1:8001": first.name,
            "127.0.0.1:8002": second.name,
        }
        text = (DEPLOY / "nginx.conf").read_text()
        for there, here in changes.items():
            if there not in text:
                raise RuntimeError(f"deploy/nginx.conf does not say {there!r} any more.")
            text = text.replace(there, here)
        return text

    @property
    def _key(self) -> Path:
        return self._directory / "key.pem"

    def _make_certificate(self) -> None:
        command = (
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )
        subprocess.run(command, check=True, capture_output=True)


def wait_for_port(port: int) -> None:
    """Until somebody listens there. Raises RuntimeError after 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"Nobody listens on port {port} after 30 s.")
