"""What the processes of the fault suite do: they use the leases as any program would."""

import random
from time import sleep
from typing import Any

from tests.faults.engine import use
from tests.faults.history import Recorder

LLM = "lightweight-llm"


def take_turns(
    number: int, *, directory: str, port: int, cycles: int, wait: float = 600.0, work: float = 0.001, **_: Any
) -> None:
    """Queue for the lease, use the engine under it, give it back, `cycles` times."""
    from django.db import connection

    from leases.holding import hold

    Recorder(directory).watch_mutex()
    for _cycle in range(cycles):
        with hold(LLM, f"process {number}", wait=wait) as held:
            use(port, held.grant.fencing_token, work)
        connection.close()
        sleep(random.random() * 0.002)
