"""DEBUG is the switch between a trial on one machine, which needs nothing, and a public site."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.database import ROOT
from tests.server import PRODUCTION, running_server

KEY = "W7tYb0mPq-3kZs9dLx2RfVhNcJgUoEiA5wTzQ1yKpDvMn8SaXbCeGjHl4r6uIO"


def manage(*arguments: str, directory: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run manage.py with these settings and no others."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(directory)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_public_site_needs_a_key_and_a_name_and_is_safe_then(tmp_path: Path) -> None:
    checked = manage(
        *("check", "--deploy", "--fail-level", "WARNING"),
        directory=tmp_path,
        SECRET_KEY=KEY,
        ALLOWED_HOSTS="example.org",
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "no issues" in checked.stdout
    assert list(tmp_path.iterdir()) == []  # no key was made


@pytest.mark.parametrize("command", ["check", "migrate", "createsuperuser"])
@pytest.mark.parametrize("environment", [{}, {"DEBUG": "False"}, {"DEBUG": ""}, {"SECRET_KEY": ""}])
def test_without_a_key_a_public_site_says_how_to_make_one(
    tmp_path: Path, command: str, environment: dict[str, str]
) -> None:
    tried = manage(command, directory=tmp_path, **environment)
    assert tried.returncode == 1
    assert "secrets.token_urlsafe(50)" in tried.stderr
    assert tried.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_trial_makes_its_own_key(tmp_path: Path) -> None:
    assert manage("check", directory=tmp_path, DEBUG="True").returncode == 0
    key = tmp_path / "secret_key"
    assert len(key.read_text()) > 50
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("environment", [{"DEBUG": "True"}, PRODUCTION])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_below_api_what_is_not_there_is_json_in_both_modes(
    leases: None, environment: dict[str, str], method: str
) -> None:
    with running_server(**environment) as base:
        for path in ("/api/nowhere", "/api/RAG/documents/1/nowhere"):
            answer = httpx.request(method, f"{base}{path}")
            assert answer.status_code == 404
            assert answer.json()["success"] is False
        page = httpx.get(f"{base}/nowhere/")
        assert page.status_code == 404
        assert ("DEBUG = True" in page.text) is (environment["DEBUG"] == "True")


def test_a_public_site_leads_to_https_and_sets_cookies_for_it_alone(leases: None) -> None:
    with running_server(DEBUG="False", SECRET_KEY=KEY, FORWARDED_ALLOW_IPS="127.0.0.1") as base:
        plain = httpx.get(f"{base}/status/?a=b")
        assert plain.status_code == 301
        assert plain.headers["Location"] == f"{base}/status/?a=b".replace("http:", "https:")
        behind = httpx.get(f"{base}/sign-in/", headers={"X-Forwarded-Proto": "https"})
        assert behind.status_code == 200
        assert behind.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        cookie = behind.headers["Set-Cookie"]
        assert cookie.startswith("csrftoken=")
        assert "Secure" in cookie


def test_a_proxy_that_nobody_named_is_not_believed(leases: None) -> None:
    with running_server(DEBUG="False", SECRET_KEY=KEY) as base:
        answer = httpx.get(f"{base}/sign-in/", headers={"X-Forwarded-Proto": "https"})
        assert answer.status_code == 301


def test_a_trial_remembers_no_statement(leases: None) -> None:
    """Django keeps thousands for each thread otherwise, with the texts that people sent."""
    with running_server("tests.remembering:application", DEBUG="True") as base:
        assert httpx.get(f"{base}/remembered").text == "0"
