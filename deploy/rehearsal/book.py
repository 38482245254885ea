"""The book of what was asked and answered, and what the database's own history says to it."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import psycopg


@dataclass
class Book:
    """What happened to the visitors' requests. A request that was sent away and came back is one request."""

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    sent_away: int = 0
    places: list[tuple[int, int]] = field(default_factory=list)
    """The place in line before and after a restart, of those who could see it; 0 is being served."""
    longest_silence: float = 0.0
    slowest_status: float = 0.0

    def unsettled(self) -> int:
        """Requests of which nobody knows how they ended: this must be 0."""
        return self.sent.total() - self.answers.total() - len(self.lost)

    def places_lost(self) -> list[tuple[int, int]]:
        return [(before, after) for before, after in self.places if after > before]

    def report(self) -> str:
        sent = ", ".join(f"{count} {kind}" for kind, count in sorted(self.sent.items()))
        answers = ", ".join(f"{count} with {answer}" for answer, count in sorted(self.answers.items()))
        moved = ", ".join(f"{before}→{after}" for before, after in self.places)
        kept = len(self.places) - len(self.places_lost())
        lines = [
            f"requests sent       {self.sent.total()} ({sent})",
            f"answered            {answers}",
            f"lost                {len(self.lost)}",
            *(f"                    {line}" for line in self.lost[:20]),
            f"asked to come back  {self.sent_away}, as the pages do",
            f"places kept         {kept} of {len(self.places)} ({moved})",
            f"longest silence     {self.longest_silence:.1f} s in a stream",
            f"slowest status      {self.slowest_status:.2f} s",
        ]
        return "\n".join(lines)


@dataclass
class History:
    """The sessions that the database recorded, and what is wrong with them."""

    sessions: Counter[str]
    outcomes: Counter[str]
    wrong: list[str]
    tokens: dict[str, int]

    def report(self) -> str:
        sessions = ", ".join(f"{count} of {service}" for service, count in sorted(self.sessions.items()))
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        verdict = "no two at once, fencing tokens rise" if not self.wrong else "; ".join(self.wrong[:20])
        return f"sessions            {sessions} ({outcomes}): {verdict}"


def history(database_url: str) -> History:
    """Read leases_hold: per service, every session must begin after the one before has ended."""
    statement = (
        "SELECT service_id, fencing_token, started_at, ended_at, outcome FROM leases_hold "
        "ORDER BY service_id, started_at"
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
    wrong: list[str] = []
    tokens = {}
    for service, sessions in groupby(rows, key=itemgetter(0)):
        held = list(sessions)
        tokens[service] = held[-1][1]
        for (_, earlier, _, ended, _), (_, later, started, _, _) in pairwise(held):
            if started < ended:
                wrong.append(f"{service}: session {later} began while {earlier} had not ended")
            if later <= earlier:
                wrong.append(f"{service}: token {later} came after {earlier}")
    return History(Counter(row[0] for row in rows), Counter(row[4] for row in rows), wrong, tokens)
