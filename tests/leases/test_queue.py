"""The rules of the queue, one test each (test_mutants.py removes each rule in turn and runs these)."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from leases import mutex
from leases.exceptions import ServiceBusy, UnknownService
from leases.models import Hold, Lease, Service, Ticket
from leases.statements import STATEMENTS
from leases.status import state_of
from tests.leases.clock import let_pass
from tests.leases.rows import held_by_another

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


def acquire(owner: str = "ann", service: str = LLM) -> mutex.Grant:
    grant = mutex.try_acquire(service, owner)
    assert grant is not None
    return grant


def enqueue(owner: str, service: str = LLM) -> mutex.Ticket:
    return mutex.enqueue(service, owner, uuid4().hex)


def claim(ticket: mutex.Ticket) -> mutex.Grant:
    grant = mutex.claim(ticket)
    assert grant is not None
    return grant


def tickets_age(seconds: float) -> None:
    Ticket.objects.update(expires_at=F("expires_at") - timedelta(seconds=seconds))


def place(ticket: mutex.Ticket) -> int | None:
    found = mutex.places([ticket.waiter]).get(ticket.waiter)
    return found.number if found else None


def test_a_release_hands_over_to_the_first_in_the_queue() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.release(ann)
    assert mutex.claim(cid) is None
    granted = claim(bob)
    assert (granted.owner, granted.fencing_token) == ("bob", ann.fencing_token + 1)
    assert mutex.confirm(granted)
    mutex.release(granted)
    assert claim(cid).owner == "cid"


def test_nobody_overtakes_a_ticket_neither_a_newcomer_nor_the_releaser() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    assert mutex.try_acquire(LLM, "cid") is None
    mutex.release(ann)
    assert mutex.try_acquire(LLM, "ann") is None
    assert mutex.try_acquire(LLM, "cid") is None
    assert claim(bob).owner == "bob"


def test_a_newcomer_does_not_take_a_free_lease_that_somebody_waits_for() -> None:
    bob = enqueue("bob")
    assert mutex.try_acquire(LLM, "cid") is None
    mutex.advance(LLM)
    assert claim(bob).owner == "bob"


def test_each_service_has_its_own_queue() -> None:
    ann, eve = acquire("ann", LLM), acquire("eve", VECTORS)
    bob, dan = enqueue("bob", VECTORS), enqueue("dan", LLM)
    assert (place(bob), place(dan)) == (1, 1)
    mutex.release(ann)
    assert claim(dan).service_id == LLM
    mutex.release(eve)
    assert claim(bob).service_id == VECTORS
    enqueue("cid", LLM)
    grant = mutex.try_acquire(VECTORS, "cid")
    assert grant is None  # bob holds it
    mutex.force_release(VECTORS, Lease.objects.get(service=VECTORS).session_id or "", by="ops", reason="")
    assert mutex.try_acquire(VECTORS, "cid") is not None


def test_a_grant_is_taken_up_once_by_its_own_ticket() -> None:
    ann = acquire("ann")
    bob, eve = enqueue("bob"), enqueue("eve")
    assert mutex.claim(bob) is None  # not yet
    mutex.release(ann)
    assert mutex.claim(eve) is None
    grant = claim(bob)
    assert claim(bob) == grant  # the answer was lost: the same again
    mutex.release(grant)
    assert mutex.claim(bob) is None
    assert not Ticket.objects.filter(owner="bob").exists()


def test_a_grant_that_is_not_taken_up_passes_to_the_next() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.release(ann)
    let_pass(4)
    assert not mutex.advance(LLM)
    let_pass(1.5)
    assert mutex.claim(bob) is None
    assert mutex.advance(LLM)
    assert mutex.claim(bob) is None
    granted = claim(cid)
    assert list(Hold.objects.order_by("id").values_list("owner", "outcome")) == [
        ("ann", "released"),
        ("bob", "unclaimed"),
    ]
    mutex.release(granted)
    assert mutex.try_acquire(LLM, "dan") is not None  # bob has lost the place with it


def test_a_grant_that_is_not_taken_up_passes_to_the_next_even_before_its_ticket_is_gone() -> None:
    """The forced end of a grant that waits to be taken up, or a crash between the two statements."""
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.release(ann)
    let_pass(6)
    statements = STATEMENTS[connection.vendor]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            statements,
            "pass_over",
            statements.pass_over.replace("expires_at <=", "expires_at IS NULL AND expires_at <="),
        )
        mutex.advance(LLM)
    assert mutex.claim(bob) is None
    assert claim(cid).owner == "cid"


def test_a_sweep_leaves_a_grant_that_waits_to_be_taken_up_alone() -> None:
    """What lapsed of another service's hand-over is for its queue to pass on, with its ticket."""
    eve = acquire("eve", VECTORS)
    bob = enqueue("bob", VECTORS)
    mutex.release(eve)
    let_pass(6, VECTORS)
    acquire("ann", LLM)
    lease = Lease.objects.get(service=VECTORS)
    assert (lease.offered_to, lease.session_id is None) == (bob.id, False)


def test_a_grant_that_may_still_be_taken_up_is_left_to_its_ticket() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    mutex.release(ann)
    mutex.advance(LLM)
    assert claim(bob).owner == "bob"


def test_a_lease_that_becomes_free_uses_up_no_token() -> None:
    ann = acquire("ann")
    let_pass(31)
    mutex.advance(LLM)
    assert Lease.objects.get(service=LLM).session_id is None
    assert acquire("bob").fencing_token == ann.fencing_token + 1


def test_the_tickets_of_one_service_are_no_business_of_another() -> None:
    acquire("ann")
    enqueue("bob")
    tickets_age(70)
    enqueue("cid", VECTORS)
    assert Ticket.objects.filter(owner="bob").exists()


@pytest.mark.parametrize("gone", ["dead", "absent"])
def test_the_dead_and_the_absent_do_not_fill_the_queue(gone: str) -> None:
    Service.objects.filter(pk=LLM).update(queue_limit=1)
    acquire("ann")
    bob = enqueue("bob")
    if gone == "absent":
        mutex.step_aside(bob)
    else:
        tickets_age(31)
    assert place(enqueue("cid")) == 1


def test_a_taken_up_grant_lives_for_a_whole_ttl_from_then_on() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    mutex.release(ann)
    let_pass(4)
    grant = claim(bob)
    let_pass(29)
    assert mutex.confirm(grant)
    let_pass(2)
    assert not mutex.confirm(grant)


def test_a_dead_ticket_is_never_served_and_offers_end_with_their_tickets() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    tickets_age(28)
    mutex.keep([cid.waiter])
    mutex.release(ann)
    left = state_of(LLM).expires_in
    assert left is not None
    assert left < 2.5
    tickets_age(2.5)
    let_pass(2.5)
    mutex.advance(LLM)
    assert mutex.claim(bob) is None
    assert claim(cid).owner == "cid"


def test_expired_tickets_stand_in_nobodys_way() -> None:
    ann = acquire("ann")
    enqueue("bob")
    tickets_age(31)
    assert state_of(LLM).queue_length == 0
    cid = enqueue("cid")
    assert place(cid) == 1
    mutex.release(ann)
    assert claim(cid).owner == "cid"


def test_an_expired_ticket_does_not_block_a_newcomer() -> None:
    enqueue("bob")
    tickets_age(31)
    assert mutex.try_acquire(LLM, "cid") is not None


def test_a_caller_who_comes_back_in_time_has_the_old_place() -> None:
    acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.step_aside(bob)
    assert (place(cid), state_of(LLM).queue_length) == (1, 1)
    tickets_age(29)
    mutex.keep([cid.waiter])
    again = enqueue("bob")
    assert again.id == bob.id
    assert (place(again), place(cid)) == (1, 2)


@pytest.mark.parametrize("gone", ["dead", "absent"])
def test_a_caller_who_comes_back_too_late_is_last(gone: str) -> None:
    acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    if gone == "absent":
        mutex.step_aside(bob)
    tickets_age(31)
    mutex.keep([cid.waiter])
    again = enqueue("bob")
    assert (place(cid), place(again)) == (1, 2)


def test_one_owner_has_one_ticket_and_the_newest_request_waits_on_it() -> None:
    ann = acquire("ann")
    first, second = enqueue("bob"), enqueue("bob")
    assert Ticket.objects.count() == 1
    assert mutex.superseded(first)
    assert not mutex.superseded(second)
    mutex.release(ann)
    assert mutex.claim(first) is None
    assert claim(second).owner == "bob"


def test_a_grant_may_be_taken_up_by_the_owner_s_next_request() -> None:
    ann = acquire("ann")
    first = enqueue("bob")
    mutex.release(ann)
    second = enqueue("bob")  # the page was reloaded at this very moment
    assert mutex.claim(first) is None
    assert claim(second).owner == "bob"


def test_somebody_who_is_not_there_holds_nobody_up_but_keeps_the_place() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.step_aside(bob)
    mutex.release(ann)
    granted = claim(cid)
    back, dan = enqueue("bob"), enqueue("dan")
    assert (place(back), place(dan)) == (1, 2)
    mutex.release(granted)
    assert claim(back).owner == "bob"


def test_an_absent_ticket_does_not_block_a_newcomer() -> None:
    bob = enqueue("bob")
    mutex.step_aside(bob)
    assert mutex.try_acquire(LLM, "cid") is not None


@pytest.mark.parametrize("go", [mutex.leave, mutex.step_aside])
def test_what_was_granted_to_a_caller_who_goes_passes_to_the_next(go: Callable[[mutex.Ticket], None]) -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.release(ann)
    go(bob)
    assert claim(cid).owner == "cid"


def test_leaving_is_for_one_s_own_ticket_only_and_takes_no_lease_away() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.leave(bob)
    assert mutex.confirm(ann)
    assert list(Ticket.objects.values_list("owner", flat=True)) == ["cid"]
    mutex.release(ann)
    granted = claim(cid)
    mutex.leave(cid)
    mutex.leave(bob)
    assert mutex.confirm(granted)


def test_a_superseded_request_that_goes_leaves_the_place_alone() -> None:
    acquire("ann")
    first, second = enqueue("bob"), enqueue("bob")
    mutex.step_aside(first)
    mutex.leave(first)
    assert place(second) == 1


def test_a_forced_end_hands_over_too() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    mutex.force_release(LLM, ann.session_id, by="ops", reason="stuck")
    assert claim(bob).fencing_token == ann.fencing_token + 1
    assert Hold.objects.get().outcome == "forced"


def test_an_expiry_is_handed_over_by_whoever_looks_first() -> None:
    acquire("ann")
    bob = enqueue("bob")
    assert not mutex.advance(LLM)
    let_pass(31)
    assert mutex.try_acquire(LLM, "cid") is None
    assert mutex.advance(LLM)
    assert not mutex.advance(LLM)
    assert claim(bob).owner == "bob"
    assert Hold.objects.get().outcome == "lost"


def test_advancing_a_held_or_an_unwanted_lease_changes_nothing() -> None:
    ann = acquire("ann")
    assert not mutex.advance(LLM)
    mutex.release(ann)
    token = Lease.objects.get(service=LLM).fencing_token
    assert not mutex.advance(LLM)
    assert Lease.objects.get(service=LLM).fencing_token == token
    assert Hold.objects.count() == 1


def test_the_queue_has_a_limit_that_only_newcomers_meet() -> None:
    Service.objects.update(queue_limit=2)
    acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    with pytest.raises(ServiceBusy, match="its queue is full") as full:
        enqueue("dan")
    assert (full.value.reason, full.value.queue_length) == ("queue_full", 2)
    assert enqueue("bob").id == bob.id
    mutex.leave(cid)
    enqueue("dan")
    enqueue("eve", VECTORS)


def test_the_limit_of_all_queues_is_a_setting_that_a_service_may_override(settings: Settings) -> None:
    settings.LEASE_QUEUE_LIMIT = 1
    acquire("ann")
    enqueue("bob")
    with pytest.raises(ServiceBusy):
        enqueue("cid")
    Service.objects.filter(pk=LLM).update(queue_limit=2)
    assert place(enqueue("cid")) == 2


def test_a_disabled_service_takes_nobody_and_hands_nothing_over() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    Service.objects.filter(pk=LLM).update(enabled=False)
    with pytest.raises(ServiceBusy, match="switched off") as disabled:
        enqueue("cid")
    assert disabled.value.reason == "disabled"
    mutex.release(ann)
    mutex.advance(LLM)
    assert mutex.claim(bob) is None
    Service.objects.filter(pk=LLM).update(enabled=True)
    mutex.advance(LLM)
    assert claim(bob).owner == "bob"


def test_an_unknown_service_has_no_queue() -> None:
    with pytest.raises(UnknownService):
        enqueue("ann", "no-such-service")


def test_a_heartbeat_keeps_its_own_tickets_alive() -> None:
    acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    tickets_age(20)
    assert mutex.keep([bob.waiter, "0" * 32]) == {bob.waiter}
    tickets_age(15)
    assert (place(bob), place(cid)) == (1, None)


def test_a_heartbeat_waits_for_no_ticket_that_is_being_handed_over() -> None:
    """Or two could wait for each other: whoever passes one ticket over holds the next one already."""
    if connection.vendor == "sqlite":
        pytest.skip("only postgresql locks rows")
    acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    tickets_age(20)
    with held_by_another(lambda: list(Ticket.objects.select_for_update().filter(id=bob.id))):
        assert mutex.keep([bob.waiter, cid.waiter]) == {bob.waiter, cid.waiter}
    tickets_age(15)
    assert (place(bob), place(cid)) == (None, 1)


def test_a_ticket_that_nobody_missed_lives_again_in_its_place() -> None:
    """The database was away for longer than a TTL: all tickets expired, and their callers still wait."""
    acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    tickets_age(40)
    assert mutex.keep([cid.waiter]) == {cid.waiter}
    assert mutex.keep([bob.waiter]) == {bob.waiter}
    assert (place(bob), place(cid)) == (1, 2)


def test_tickets_that_nobody_comes_back_to_are_forgotten() -> None:
    acquire("ann")
    enqueue("bob")
    mutex.step_aside(enqueue("cid"))
    tickets_age(31)
    enqueue("dan")
    assert set(Ticket.objects.values_list("owner", flat=True)) == {"bob", "dan"}
    tickets_age(31)
    enqueue("eve")
    assert set(Ticket.objects.values_list("owner", flat=True)) == {"dan", "eve"}


def test_the_estimate_is_the_median_hold_for_each_ahead_and_what_the_holder_has_left() -> None:
    assert state_of(LLM).estimated_wait(1) is None
    for seconds in (10, 20, 60):
        grant = acquire("ann")
        let_pass(seconds)
        mutex.release(grant)
    acquire("ann")
    let_pass(5)
    bob = enqueue("bob")
    assert place(bob) == 1
    state = state_of(LLM)
    assert state.estimated_wait(1) in (15, 16)
    assert state.estimated_wait(3) in (55, 56)
    let_pass(20)
    assert state_of(LLM).estimated_wait(2) in (20, 21)


def test_a_grant_nobody_took_up_says_nothing_about_how_long_people_take() -> None:
    ann = acquire("ann")
    enqueue("bob")
    let_pass(10)
    mutex.release(ann)
    let_pass(6)
    mutex.advance(LLM)
    assert state_of(LLM).median_hold == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("waiting", [0, 20])
def test_statements_per_hand_over_do_not_grow_with_the_queue(waiting: int) -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    for number in range(waiting):
        enqueue(f"waiter {number}")
    with CaptureQueriesContext(connection) as releasing:
        mutex.release(ann)
    assert len(releasing) == 1
    with CaptureQueriesContext(connection) as claiming:
        claim(bob)
    statements = [query["sql"] for query in claiming if query["sql"] not in ("BEGIN", "COMMIT")]
    assert len([sql for sql in statements if not sql.startswith("BEGIN")]) == (
        2 if connection.vendor == "sqlite" else 1
    )
    with CaptureQueriesContext(connection) as looking:
        mutex.places([bob.waiter])
        mutex.keep([bob.waiter])
        state_of(LLM)
    assert len(looking) == 3


def test_somebody_taken_out_of_the_queue_is_not_served_and_queues_again_at_its_end() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    assert mutex.remove(bob.id) == (LLM, "bob")
    assert mutex.remove(bob.id) is None
    assert (place(bob), place(cid)) == (None, 1)
    until = Ticket.objects.get(id=bob.id).expires_at
    assert mutex.keep([bob.waiter, cid.waiter]) == {cid.waiter}
    assert Ticket.objects.get(id=bob.id).expires_at == until
    enqueue("dan")
    assert mutex.removed(bob)  # still there to be told
    again = enqueue("bob")
    assert place(again) == 3
    mutex.release(ann)
    assert mutex.claim(bob) is None
    assert claim(cid).owner == "cid"


def test_what_became_of_one_ticket_says_nothing_of_another() -> None:
    acquire("ann")
    bob, cid, dan = enqueue("bob"), enqueue("cid"), enqueue("dan")
    mutex.remove(bob.id)
    enqueue("cid")
    tickets = (bob, cid, dan)
    assert [mutex.removed(ticket) for ticket in tickets] == [True, False, False]
    assert [mutex.superseded(ticket) for ticket in tickets] == [False, True, False]


def test_removing_is_for_one_ticket_that_somebody_waits_on() -> None:
    acquire("ann")
    bob, cid, dan = enqueue("bob"), enqueue("cid"), enqueue("dan")
    mutex.step_aside(bob)
    assert mutex.remove(bob.id) is None
    assert mutex.remove(cid.id) is not None
    assert place(dan) == 1
    tickets_age(60)
    assert mutex.remove(dan.id) is None


def test_what_was_granted_to_somebody_taken_out_passes_to_the_next() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")
    mutex.release(ann)  # to bob, who has not taken it up yet
    assert mutex.remove(bob.id) is not None
    assert mutex.claim(bob) is None
    assert claim(cid).owner == "cid"


def test_a_removal_comes_before_or_after_a_claim_and_not_between() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    mutex.release(ann)
    Ticket.objects.filter(pk=bob.id).update(removed_at=Now(), process="")  # before its grant is passed on
    assert mutex.claim(bob) is None


def test_a_session_remembers_since_when_its_owner_waited() -> None:
    ann = acquire("ann")
    bob = enqueue("bob")
    Ticket.objects.update(enqueued_at=F("enqueued_at") - timedelta(seconds=60))
    mutex.release(ann)
    claim(bob)
    let_pass(1000)
    mutex.release(acquire("cid"))
    held = {hold.owner: hold for hold in Hold.objects.all()}
    assert held["ann"].enqueued_at is None
    assert held["cid"].enqueued_at is None
    assert held["bob"].enqueued_at is not None
    waited = held["bob"].started_at - held["bob"].enqueued_at + timedelta(seconds=1000)  # that passed since
    assert 60 <= waited.total_seconds() < 70


@pytest.mark.parametrize("goes", [mutex.leave, mutex.step_aside])
def test_a_superseded_request_that_goes_takes_nothing_from_the_one_in_its_place(
    goes: Callable[[mutex.Ticket], None],
) -> None:
    ann = acquire("ann")
    old = enqueue("bob")
    enqueue("cid")
    new = enqueue("bob")
    mutex.release(ann)
    goes(old)
    assert claim(new).owner == "bob"


def test_a_lease_that_was_taken_over_is_not_claimed_with_the_ticket_of_before() -> None:
    ann, bob = acquire("ann"), enqueue("bob")
    mutex.release(ann)
    claim(bob)
    let_pass(31)
    cid = acquire("cid")
    assert mutex.claim(bob) is None
    assert mutex.confirm(cid)


def test_a_session_is_not_called_unclaimed_for_an_offer_before_it() -> None:
    ann = acquire("ann")
    enqueue("bob")
    mutex.release(ann)
    let_pass(6)
    tickets_age(31)
    acquire("cid")
    let_pass(31)
    acquire("dan")
    assert Hold.objects.get(owner="cid").outcome == "lost"


@pytest.mark.parametrize("service", [LLM, VECTORS])  # taken by the next, and swept by one of another service
def test_a_lapse_names_no_operator_who_ended_another_session(service: str) -> None:
    ann, bob = acquire("ann", service), enqueue("bob", service)
    mutex.force_release(service, ann.session_id, by="ops", reason="stuck")
    claim(bob)
    let_pass(31, service)
    acquire("cid")
    assert Hold.objects.filter(owner="bob").values_list("ended_by", "reason").get() == ("", "")


def test_advancing_one_service_changes_no_other() -> None:
    eve, bob = acquire("eve", VECTORS), enqueue("bob", VECTORS)
    assert not mutex.advance(LLM)
    mutex.release(eve)
    let_pass(6, VECTORS)
    assert not mutex.advance(LLM)
    assert mutex.claim(bob) is None
    assert Ticket.objects.filter(pk=bob.id).exists()
    mutex.advance(VECTORS)
    assert not Ticket.objects.filter(pk=bob.id).exists()


def test_a_place_in_one_queue_is_none_in_another_that_is_full() -> None:
    Service.objects.update(queue_limit=1)
    acquire("ann"), acquire("zoe", VECTORS), enqueue("bob"), enqueue("eve", VECTORS)
    with pytest.raises(ServiceBusy, match="queue is full"):
        enqueue("eve")


def test_who_comes_back_in_time_has_the_place_for_another_ttl() -> None:
    acquire("ann")
    enqueue("bob")
    tickets_age(29)
    again = enqueue("bob")
    tickets_age(2)
    assert place(again) == 1


def test_a_ticket_lives_as_long_as_its_own_service_says() -> None:
    Service.objects.filter(pk=LLM).update(ttl=60)
    Service.objects.filter(pk=VECTORS).update(ttl=10)
    acquire("ann"), acquire("zoe", VECTORS)
    bob, eve = enqueue("bob"), enqueue("eve", VECTORS)
    assert bob.ttl == pytest.approx(60, abs=1)
    assert eve.ttl == pytest.approx(10, abs=1)
    tickets_age(5)
    mutex.keep([bob.waiter, eve.waiter])
    tickets_age(30)
    assert (place(bob), place(eve)) == (1, None)


def test_places_tell_of_those_who_were_asked_for_and_to_whom_the_lease_is_offered() -> None:
    ann = acquire("ann")
    bob, cid = enqueue("bob"), enqueue("cid")

    def offered(*tickets: mutex.Ticket) -> dict[str, bool]:
        found = mutex.places([ticket.waiter for ticket in tickets])
        return {waiter: each.offered for waiter, each in found.items()}

    assert offered(bob) == {bob.waiter: False}
    mutex.release(ann)
    assert offered(bob, cid) == {bob.waiter: True, cid.waiter: False}


def test_the_state_of_a_service_is_its_own() -> None:
    grant = acquire("ann")
    let_pass(10)
    mutex.release(grant)
    acquire("ann")
    enqueue("bob")
    assert state_of(LLM).queue_length == 1
    assert (state_of(VECTORS).queue_length, state_of(VECTORS).median_hold) == (0, None)
