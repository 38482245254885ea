"""Old history goes; the record of what operators did, and the tally of all sessions, stay."""

import re
from datetime import timedelta
from time import monotonic, sleep

from django.db.models import Max, Min
from django.db.models.functions import Now

from leases.models import Hold

BATCH = 2000  # rows that one statement looks at, so that it keeps nobody waiting
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """A length of time such as "30d": a whole number of s, m, h, d or w. Raises ValueError."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smhdw])", text)
    if found is None:
        raise ValueError("Please give an age such as 30d: a number from 1 to 99999 and s, m, h, d or w.")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def prune(older_than: timedelta) -> int:
    """Delete the sessions that ended longer ago than that, by the database's clock; how many there were.

    In many short statements over ranges of ids, with pauses as long as they took: on SQLite whoever
    writes keeps all others from it.
    """
    ids = Hold.objects.aggregate(first=Min("pk"), last=Max("pk"))
    if ids["first"] is None:
        return 0
    pruned = 0
    for first in range(ids["first"], ids["last"] + 1, BATCH):
        began = monotonic()
        batch = Hold.objects.filter(pk__gte=first, pk__lt=first + BATCH)
        pruned += batch.filter(ended_at__lt=Now() - older_than).delete()[0]
        sleep(monotonic() - began)
    return pruned
