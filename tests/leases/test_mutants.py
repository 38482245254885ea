"""Remove each condition from the statements in turn: the rules must notice (test_mutex.py, test_queue.py).

A WHERE clause is the rule; a condition that can go without a test failing is either dead or untested.
"""

import re
from dataclasses import dataclass

import pytest
from django.db import IntegrityError, OperationalError, connection

from leases.exceptions import LeaseError
from leases.statements import STATEMENTS
from tests.leases import test_mutex as rules
from tests.leases import test_queue as queue_rules

pytestmark = pytest.mark.usefixtures("leases")


@dataclass(frozen=True)
class Mutant:
    """`statement` without `condition` (a pattern); `caught_by` is the rule that must fail."""

    statement: str
    condition: str
    caught_by: str
    argument: object = None
    instead: str = ""
    only: str = ""

    def __str__(self) -> str:
        return f"{self.statement} without {self.condition}"


NOTICED = (AssertionError, LookupError, IntegrityError, OperationalError, LeaseError, pytest.fail.Exception)
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
    Mutant(
        "acquire",
        r"WHERE enabled",
        "test_a_disabled_service_is_not_granted_but_its_holder_goes_on",
    ),
    Mutant(
        "acquire",
        r"lease\.service_id = %\(service_id\)s AND",
        "test_each_service_has_its_own_lease",
    ),
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
    *(
        Mutant("renew_all", condition, "test_renewing_many_renews_what_is_exactly_held", argument)
        for condition, argument in (
            (r"AND beat\.session_id = its\.session_id", OTHER_SESSION),
            (r"AND beat\.owner = its\.owner", STRANGER),
            (r"AND beat\.fencing_token = its\.fencing_token", OLD_TOKEN),
        )
    ),
    Mutant(
        "renew_all",
        r"beat\.service_id = its\.service_id AND",
        "test_renewing_many_says_nothing_about_another_service",
    ),
    Mutant(
        "renew_all", r"WHERE its\.expires_at > [^\n]*", "test_renewing_many_revives_none_that_has_expired"
    ),
    Mutant(
        "renew_all",
        r"WHERE lease\.service_id = held\.id",
        "test_renewing_many_renews_what_is_exactly_held",
        STRANGER,
    ),
    Mutant(
        "renew_all",
        r"FOR UPDATE SKIP LOCKED",
        "test_renewing_many_waits_for_none_that_is_being_written_under",
        only="postgresql",
    ),
    Mutant("renew", NOT_EXPIRED, "test_renew_is_refused_once_expired_even_if_nobody_took_over"),
    Mutant("confirm", NOT_EXPIRED, "test_renew_is_refused_once_expired_even_if_nobody_took_over"),
    Mutant(
        "force_release",
        NOT_EXPIRED,
        "test_force_release_leaves_an_expired_session_to_its_expiry",
    ),
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
        instead="TRUE ",
    ),
    # -- the queue --
    Mutant(
        "acquire",
        r"AND NOT EXISTS \(\s*SELECT 1 FROM leases_ticket[^\n]*\)",
        "test_a_newcomer_does_not_take_a_free_lease_that_somebody_waits_for",
    ),
    Mutant(
        "acquire",
        r"ticket\.service_id = %\(service_id\)s AND (?=ticket\.expires_at)",
        "test_each_service_has_its_own_queue",
    ),
    Mutant(
        "acquire",
        r"ticket\.expires_at > [^\n]*? AND (?=ticket\.process)",
        "test_an_expired_ticket_does_not_block_a_newcomer",
    ),
    Mutant(
        "acquire",
        r" AND ticket\.process <> ''",
        "test_an_absent_ticket_does_not_block_a_newcomer",
    ),
    Mutant(
        "sweep",
        r"AND offered_to IS NULL",
        "test_a_sweep_leaves_a_grant_that_waits_to_be_taken_up_alone",
    ),
    Mutant(
        "release",
        r"ticket\.service_id = ending\.service_id AND",
        "test_each_service_has_its_own_queue",
    ),
    Mutant(
        "release",
        r"service\.enabled AND",
        "test_a_disabled_service_takes_nobody_and_hands_nothing_over",
    ),
    Mutant(
        "release",
        r"ticket\.expires_at > [^\n]*? AND (?=ticket\.process)",
        "test_expired_tickets_stand_in_nobodys_way",
    ),
    Mutant(
        "release",
        r" AND ticket\.process <> ''",
        "test_somebody_who_is_not_there_holds_nobody_up_but_keeps_the_place",
    ),
    Mutant(
        "release",
        r"SELECT min\(",
        "test_a_release_hands_over_to_the_first_in_the_queue",
        instead="SELECT max(",
        only="sqlite",
    ),
    Mutant(
        "release",
        r"(?<=ORDER BY ticket\.id)(?= LIMIT)",
        "test_a_release_hands_over_to_the_first_in_the_queue",
        instead=" DESC",
        only="postgresql",
    ),
    Mutant(
        "advance",
        r"\(ending\.passed IS NULL OR ticket\.id <> ending\.passed\)",
        "test_a_grant_that_is_not_taken_up_passes_to_the_next_even_before_its_ticket_is_gone",
        instead="TRUE",
    ),
    Mutant(
        "advance",
        r"AND \(lease\.session_id IS NULL OR [^\n]*\)(?=[^\n]*(\n|$))",
        "test_an_expiry_is_handed_over_by_whoever_looks_first",
    ),
    Mutant(
        "advance",
        r"AND \(lease\.session_id IS NOT NULL OR head\.id IS NOT NULL\)",
        "test_advancing_a_held_or_an_unwanted_lease_changes_nothing",
    ),
    Mutant(
        "advance",
        r"(?<=\+ CASE WHEN head\.id IS NULL THEN )0",
        "test_a_lease_that_becomes_free_uses_up_no_token",
        instead="1",
    ),
    Mutant(
        "pass_over",
        r"AND expires_at <= [^\n]*(?=\)$)",
        "test_a_grant_that_may_still_be_taken_up_is_left_to_its_ticket",
    ),
    Mutant(
        "pass_on",
        r"AND offered_to = %\(ticket_id\)s",
        "test_leaving_is_for_one_s_own_ticket_only_and_takes_no_lease_away",
    ),
    Mutant(
        "claim",
        r"AND expires_at > [^\n]*? AND \(",
        "test_a_grant_that_is_not_taken_up_passes_to_the_next",
        instead="AND (",
    ),
    Mutant(
        "claim",
        r"(?<=FROM leases_ticket) WHERE waiter = %\(waiter\)s",
        "test_a_grant_is_taken_up_once_by_its_own_ticket",
        instead=" WHERE id = lease.offered_to",
    ),
    Mutant(
        "claim",
        r"waiter = %\(waiter\)s\s*OR",
        "test_a_grant_is_taken_up_once_by_its_own_ticket",
    ),
    Mutant(
        "forget",
        r"expires_at <= [^\n]*\n\s*AND (?=\(owner)",
        "test_a_caller_who_comes_back_in_time_has_the_old_place",
    ),
    Mutant(
        "forget",
        r"owner = %\(owner\)s OR",
        "test_a_caller_who_comes_back_too_late_is_last",
        argument="dead",
    ),
    Mutant("forget", r"process = '' OR", "test_tickets_that_nobody_comes_back_to_are_forgotten"),
    Mutant(
        "forget",
        r" OR expires_at <= [^\n]*(?=\)\)\n)",
        "test_tickets_that_nobody_comes_back_to_are_forgotten",
    ),
    Mutant(
        "forget",
        r"service_id = %\(service_id\)s AND",
        "test_the_tickets_of_one_service_are_no_business_of_another",
    ),
    Mutant(
        "enqueue",
        r"AND enabled",
        "test_a_disabled_service_takes_nobody_and_hands_nothing_over",
    ),
    Mutant(
        "enqueue",
        r"service_id = %\(service_id\)s AND (?=ticket\.expires)",
        "test_the_queue_has_a_limit_that_only_newcomers_meet",
    ),
    Mutant(
        "enqueue",
        r"ticket\.expires_at > [^\n]*? AND (?=ticket\.process)",
        "test_the_dead_and_the_absent_do_not_fill_the_queue",
        argument="dead",
    ),
    Mutant(
        "enqueue",
        r" AND ticket\.process <> ''",
        "test_the_dead_and_the_absent_do_not_fill_the_queue",
        argument="absent",
    ),
    Mutant(
        "enqueue", r"OR EXISTS \([^)]*\)s[^)]*\)s\)", "test_the_queue_has_a_limit_that_only_newcomers_meet"
    ),
    Mutant(
        "enqueue",
        r"(?<=ON CONFLICT )\(service_id, owner\) DO UPDATE SET[^R]*(?=RETURNING)",
        "test_one_owner_has_one_ticket_and_the_newest_request_waits_on_it",
        instead="DO NOTHING ",
    ),
    Mutant(
        "keep",
        r"AND waiter IN [^\n]*?(?=\)\n)",
        "test_a_heartbeat_keeps_its_own_tickets_alive",
        only="sqlite",
    ),
    Mutant(
        "keep", r"AND waiter IN [^\n]*", "test_a_heartbeat_keeps_its_own_tickets_alive", only="postgresql"
    ),
    Mutant(
        "keep",
        r"FOR UPDATE SKIP LOCKED",
        "test_a_heartbeat_waits_for_no_ticket_that_is_being_handed_over",
        only="postgresql",
    ),
    Mutant(
        "there", r"AND waiter IN [^\n]*", "test_a_heartbeat_keeps_its_own_tickets_alive", only="postgresql"
    ),
    Mutant(
        "unqueue",
        r"WHERE waiter = %\(waiter\)s",
        "test_leaving_is_for_one_s_own_ticket_only_and_takes_no_lease_away",
    ),
    Mutant(
        "step_aside",
        r"WHERE waiter = %\(waiter\)s",
        "test_a_superseded_request_that_goes_leaves_the_place_alone",
    ),
    # -- taken out by an operator --
    Mutant(
        "forget",
        r"owner = %\(owner\)s AND (?=removed_at)",
        "test_somebody_taken_out_of_the_queue_is_not_served_and_queues_again_at_its_end",
    ),
    Mutant("forget", r"AND removed_at IS NOT NULL", "test_a_caller_who_comes_back_in_time_has_the_old_place"),
    Mutant(
        "forget",
        r"owner = %\(owner\)s AND removed_at IS NOT NULL\s*OR",
        "test_somebody_taken_out_of_the_queue_is_not_served_and_queues_again_at_its_end",
    ),
    Mutant(
        "there",
        r"removed_at IS NULL AND",
        "test_somebody_taken_out_of_the_queue_is_not_served_and_queues_again_at_its_end",
        only="postgresql",
    ),
    Mutant(
        "keep",
        r"removed_at IS NULL AND",
        "test_somebody_taken_out_of_the_queue_is_not_served_and_queues_again_at_its_end",
    ),
    Mutant(
        "claim",
        r"AND removed_at IS NULL",
        "test_a_removal_comes_before_or_after_a_claim_and_not_between",
    ),
    Mutant(
        "remove",
        r"id = %\(ticket_id\)s AND",
        "test_removing_is_for_one_ticket_that_somebody_waits_on",
    ),
    Mutant(
        "remove",
        r"AND ticket\.expires_at > [^\n]*? (?=AND ticket\.process)",
        "test_removing_is_for_one_ticket_that_somebody_waits_on",
    ),
    Mutant(
        "remove",
        r" AND ticket\.process <> ''",
        "test_removing_is_for_one_ticket_that_somebody_waits_on",
    ),
    Mutant("acquire", r"enqueued_at = NULL,", "test_a_session_remembers_since_when_its_owner_waited"),
    Mutant(
        "release",
        r"enqueued_at = head\.enqueued_at,",
        "test_a_session_remembers_since_when_its_owner_waited",
    ),
    Mutant(
        "states",
        r"AND outcome <> 'unclaimed'",
        "test_a_grant_nobody_took_up_says_nothing_about_how_long_people_take",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_missing_condition_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = STATEMENTS[connection.vendor]
    if mutant.only not in ("", connection.vendor):
        pytest.skip(f"only {mutant.only} has this condition")
    mutated, count = re.subn(mutant.condition, mutant.instead, getattr(statements, mutant.statement))
    assert count == 1, "the mutant does not apply: the statement has changed"
    rule = getattr(rules, mutant.caught_by, None) or getattr(queue_rules, mutant.caught_by)
    arguments = [mutant.argument] if mutant.argument is not None else []
    monkeypatch.setattr(statements, mutant.statement, mutated)
    with pytest.raises(NOTICED):
        rule(*arguments)
