"""One process that competes for a lease and writes a history of what it was granted.

    python -m tests.leases.contender OWNER CYCLES

It says "ready", waits for a line, then prints one JSON line a grant: the token, and when it held the
lease by CLOCK_MONOTONIC, which all processes of a machine share.
"""

import json
import sys
import time

import django


def main(owner: str, cycles: int) -> None:
    django.setup()
    from leases import mutex

    print("ready", flush=True)
    sys.stdin.readline()
    tries = 0
    for _ in range(cycles):
        while (grant := mutex.try_acquire("lightweight-llm", owner)) is None:
            tries += 1
        begun = time.monotonic()
        time.sleep(0.0005)  # the work
        ended = time.monotonic()
        released = mutex.release(grant)
        line = {
            "owner": owner,
            "token": grant.fencing_token,
            "begun": begun,
            "ended": ended,
            "released": released,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
