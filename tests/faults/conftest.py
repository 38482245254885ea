"""Short by default; `--full` runs the counts that the README of the suite promises."""

from collections.abc import Callable

import pytest

FAST = {"LEASE_TTL": "2", "LEASE_HEARTBEAT": "0.5"}
Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Report a measured figure: it is printed at the end of the run, whatever captures the output."""

    def report(text: str) -> None:
        print(f"figure: {text}")
        request.node.user_properties.append(("figure", f"{request.node.name}: {text}"))

    return report


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the whole counts are asked for."""
    return bool(request.config.getoption("--full"))
