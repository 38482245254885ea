"""Many processes on one service."""

from pathlib import Path
from time import monotonic

import pytest

from leases.models import Hold
from tests.faults.checkers import exclusion, grants, order
from tests.faults.conftest import FAST, Figure
from tests.faults.crowd import crowd
from tests.faults.engine import running_engine
from tests.faults.history import read

pytestmark = pytest.mark.usefixtures("leases")

SEED = 20


def test_many_processes_take_turns(tmp_path: Path, figure: Figure, full: bool) -> None:
    processes, cycles = (32, 200) if full else (8, 15)
    with (
        running_engine() as engine,
        crowd(
            "tests.faults.workers:take_turns",
            processes,
            environment=FAST,
            directory=str(tmp_path),
            port=engine.port,
            cycles=cycles,
            seed=SEED,
        ) as group,
    ):
        group.go()
        began = monotonic()
        codes = group.wait(900)
        seconds = monotonic() - began
    assert codes == [0] * processes
    history = read(tmp_path)
    violations = exclusion(engine.calls) + grants(history) + order(history)
    figure(
        f"{processes} processes of {cycles} cycles, seed {SEED}: "
        f"{processes * cycles / seconds:.0f} cycles/s, {len(violations)} violations"
    )
    assert violations == []
    assert len(engine.calls) == processes * cycles
    assert Hold.objects.filter(outcome="released").count() == processes * cycles
