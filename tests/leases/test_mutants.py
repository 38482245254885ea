"""Remove each condition from the statements in turn: the rules in test_mutex.py must notice.

A WHERE clause is the rule; a condition that can go without a test failing is either dead or untested.
"""

import re
from dataclasses import dataclass

import pytest
from django.db import IntegrityError, connection

from leases.statements import STATEMENTS
from tests.leases import test_mutex as rules

pytestmark = pytest.mark.usefixtures("leases")


@dataclass(frozen=True)
class Mutant:
    """`statement` without `condition` (a pattern); `caught_by` is the rule that must fail."""

    statement: str
    condition: str
    caught_by: str
    argument: dict[str, object] | None = None

    def __str__(self) -> str:
        return f"{self.statement} without {self.condition}"


NOT_EXPIRED = r"AND expires_at > [^\n]*?(?=\n|$| FOR)"
STRANGER: dict[str, object] = {"owner": "bob"}
OTHER_SESSION: dict[str, object] = {"session_id": "0" * 32}
OLD_TOKEN: dict[str, object] = {"fencing_token": 10**6}
EXACT = "test_only_the_exact_holder_renews_releases_or_confirms"
CROSSED = "test_a_grant_of_one_service_says_nothing_about_another"

MUTANTS = [
    Mutant(
        "acquire",
        r"\(lease\.session_id IS NULL OR [^\n]*\) AND (?=NOT EXISTS)",
        "test_a_free_lease_is_granted_once",
    ),
    Mutant("acquire", r"lease\.session_id IS NULL OR", "test_a_free_lease_is_granted_once"),
    Mutant(
        "acquire",
        r" OR lease\.expires_at <= [^\n]*(?=\) AND NOT EXISTS)",
        "test_an_expired_lease_is_granted_to_the_next",
    ),
    Mutant("acquire", r"WHERE enabled", "test_a_disabled_service_is_not_granted_but_its_holder_goes_on"),
    Mutant("acquire", r"lease\.service_id = %\(service_id\)s AND", "test_each_service_has_its_own_lease"),
    Mutant(
        "acquire", r"\+ CASE WHEN .* THEN 0 ELSE 1 END", "test_tokens_rise_by_one_whatever_ends_the_session"
    ),
    *(
        Mutant(statement, condition, EXACT, argument)
        for statement in ("renew", "release", "confirm")
        for condition, argument in (
            (r"AND session_id = %\(session_id\)s", OTHER_SESSION),
            (r"AND owner = %\(owner\)s", STRANGER),
            (r"AND fencing_token = %\(fencing_token\)s", OLD_TOKEN),
        )
    ),
    *(
        Mutant(statement, r"service_id = %\(service_id\)s AND", CROSSED)
        for statement in ("renew", "release", "force_release")
    ),
    Mutant("renew", NOT_EXPIRED, "test_renew_is_refused_once_expired_even_if_nobody_took_over"),
    Mutant("confirm", NOT_EXPIRED, "test_renew_is_refused_once_expired_even_if_nobody_took_over"),
    Mutant("force_release", NOT_EXPIRED, "test_force_release_leaves_an_expired_session_to_its_expiry"),
    Mutant(
        "force_release",
        r"AND session_id = %\(session_id\)s",
        "test_force_release_ends_this_session_and_no_other",
    ),
    Mutant(
        "sweep",
        r"AND expires_at <= [^\n]*(?=\n *AND service_id)",
        "test_each_service_has_its_own_lease",
    ),
    Mutant(
        "release",
        r"(?<=CASE WHEN )lease\.expires_at > .*? (?=THEN %\(ended_as\)s)",
        "test_a_late_release_tells_the_history_how_the_session_really_ended",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_missing_condition_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = STATEMENTS[connection.vendor]
    replacement = "TRUE " if mutant.statement == "release" and "THEN" in mutant.condition else ""
    mutated, count = re.subn(mutant.condition, replacement, getattr(statements, mutant.statement))
    assert count == 1, "the mutant does not apply: the statement has changed"
    rule = getattr(rules, mutant.caught_by)
    arguments = [mutant.argument] if mutant.argument else []
    monkeypatch.setattr(statements, mutant.statement, mutated)
    with pytest.raises((AssertionError, IntegrityError, pytest.fail.Exception)):
        rule(*arguments)
