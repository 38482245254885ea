"""The arrows between the apps run one way."""

import ast
from pathlib import Path

import pytest

from tests.database import ROOT

APPS = {"config", "leases", "documents", "chat"}
# What each app may import of the others: a module, or a whole app by its bare name.
OF_LEASES = {
    f"leases.{module}"
    for module in (
        "database",
        "exceptions",
        "fields",
        "guarded_view",
        "held",
        "holding",
        "metrics",
        "outgoing",
        "owned_view",
        "owners",
        "person_column",
        "schema",
        "turn",
    )
}
ALLOWED = {
    "leases": set(),
    "documents": OF_LEASES,
    "chat": OF_LEASES | {"documents.search"},
    "config": APPS,
}


def imported(file: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module}
    return modules


@pytest.mark.parametrize("app", sorted(APPS))
def test_arrows_run_one_way(app: str) -> None:
    found = {
        (str(file.relative_to(ROOT)), module)
        for file in (ROOT / app).rglob("*.py")
        for module in imported(file)
        if module.split(".")[0] in APPS - {app}
        and module not in ALLOWED[app]
        and module.split(".")[0] not in ALLOWED[app]
    }
    assert found == set()


def test_only_settings_read_the_environment() -> None:
    reading = [
        str(file.relative_to(ROOT))
        for app in APPS
        for file in (ROOT / app).rglob("*.py")
        if any(word in file.read_text() for word in ("os.environ[", "os.environ.get", "getenv"))
    ]
    assert reading == ["config/settings.py"]
