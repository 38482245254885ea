"""One process that takes a lease, says so, and keeps it until a line arrives on its standard input.

python -m tests.leases.holder OWNER
"""

import sys

import django


def main(owner: str) -> None:
    django.setup()
    from leases.holding import hold

    with hold("lightweight-llm", owner) as held:
        print(held.grant.fencing_token, flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1])
