"""The rules of the lease, one test each. Every rule in a WHERE clause has a test that fails without it
(test_mutants.py removes each rule in turn and runs these)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib import import_module

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from leases import mutex
from leases.exceptions import LeaseInTransaction, ServiceBusy, UnknownService
from leases.models import Hold, Lease, Service
from leases.statements import STATEMENTS
from tests.leases.clock import let_pass
from tests.leases.rows import held_by_another

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


def acquire(owner: str = "ann", service: str = LLM) -> mutex.Grant:
    grant = mutex.try_acquire(service, owner)
    assert grant is not None
    return grant


def outcomes(service: str = LLM) -> list[tuple[str, str]]:
    return list(
        Hold.objects.filter(service=service).order_by("fencing_token").values_list("owner", "outcome")
    )


def test_a_free_lease_is_granted_once() -> None:
    assert acquire("ann").owner == "ann"
    assert mutex.try_acquire(LLM, "bob") is None
    assert mutex.try_acquire(LLM, "ann") is None
    assert Lease.objects.live().get().owner == "ann"


def test_each_service_has_its_own_lease() -> None:
    ann = acquire("ann", LLM)
    assert acquire("bob", VECTORS).service_id == VECTORS
    assert mutex.confirm(ann)


def test_an_expired_lease_is_granted_to_the_next() -> None:
    acquire("ann")
    let_pass(29.5)
    assert mutex.try_acquire(LLM, "bob") is None
    let_pass(1)
    assert acquire("bob").owner == "bob"
    assert outcomes() == [("ann", "lost")]


def test_tokens_rise_by_one_whatever_ends_the_session() -> None:
    first = acquire("ann")
    mutex.release(first)
    second = acquire("bob")
    let_pass(31)
    third = acquire("cid")
    mutex.force_release(LLM, third.session_id, by="ops", reason="stuck")
    fourth = acquire("dan")
    tokens = [grant.fencing_token for grant in (first, second, third, fourth)]
    assert tokens == list(range(first.fencing_token, first.fencing_token + 4))


def test_a_disabled_service_is_not_granted_but_its_holder_goes_on() -> None:
    grant = acquire("ann")
    Service.objects.filter(pk=LLM).update(enabled=False)
    assert mutex.renew(grant)
    assert mutex.release(grant)
    assert mutex.try_acquire(LLM, "ann") is None


def test_an_unknown_service_is_never_granted() -> None:
    assert mutex.try_acquire("no-such-service", "ann") is None
    with pytest.raises(UnknownService, match="no-such-service"):
        mutex.acquire("no-such-service", "ann")


def test_release_frees_at_once_and_only_once() -> None:
    grant = acquire("ann")
    assert mutex.release(grant)
    assert not mutex.release(grant)
    acquire("bob")
    assert not mutex.release(grant)
    assert Lease.objects.live().get().owner == "bob"
    assert outcomes() == [("ann", "released")]


@pytest.mark.parametrize("stranger", [{"owner": "bob"}, {"session_id": "0" * 32}, {"fencing_token": 10**6}])
def test_only_the_exact_holder_renews_releases_or_confirms(stranger: dict[str, object]) -> None:
    grant = acquire("ann")
    forged = replace(grant, **stranger)  # type: ignore[arg-type]
    assert mutex.renew(forged) is None
    assert not mutex.release(forged)
    assert not mutex.confirm(forged)
    assert mutex.confirm(grant)
    assert mutex.release(grant)


def test_a_grant_of_one_service_says_nothing_about_another() -> None:
    ann, bob = acquire("ann", LLM), acquire("bob", VECTORS)
    crossed = replace(ann, service_id=VECTORS)
    assert mutex.renew(crossed) is None
    assert not mutex.release(crossed)
    assert not mutex.force_release(VECTORS, ann.session_id, by="ops", reason="")
    assert mutex.confirm(ann)
    assert mutex.confirm(bob)


def test_renew_prolongs_by_the_ttl() -> None:
    grant = acquire("ann")
    let_pass(29)
    assert mutex.renew(grant) == pytest.approx(30, abs=0.5)
    let_pass(29)
    assert mutex.confirm(grant)


def test_renew_is_refused_once_expired_even_if_nobody_took_over() -> None:
    grant = acquire("ann")
    let_pass(31)
    assert mutex.renew(grant) is None
    assert not mutex.confirm(grant)
    assert not Lease.objects.live().exists()


def test_heartbeats_alone_do_not_outlive_the_idle_timeout() -> None:
    grant = acquire("ann")
    for passed in range(25, 300, 25):
        let_pass(25)
        assert mutex.renew(grant, idle_for=passed)
    remaining = mutex.renew(grant, idle_for=275)
    assert remaining == pytest.approx(25, abs=0.5)
    let_pass(26)
    assert mutex.renew(grant, idle_for=301) is None
    assert acquire("bob")
    assert outcomes() == [("ann", "expired")]


def test_activity_prolongs_past_the_idle_timeout() -> None:
    grant = acquire("ann")
    for _ in range(20):
        let_pass(25)
        assert mutex.renew(grant, idle_for=0) == pytest.approx(30, abs=0.5)


def test_a_late_heartbeat_never_takes_activity_back() -> None:
    grant = acquire("ann")
    let_pass(10)
    mutex.renew(grant, idle_for=0)
    before = Lease.objects.get(service=LLM).last_activity_at
    mutex.renew(grant, idle_for=200)
    assert Lease.objects.get(service=LLM).last_activity_at == before


def test_activity_that_has_not_been_yet_counts_as_none() -> None:
    """A clock may be set back between the activity and the heartbeat."""
    ann, eve = acquire("ann"), acquire("eve", VECTORS)
    mutex.renew(ann, idle_for=-100.0)
    mutex.renew_all({eve: -100.0})
    for active, now in Lease.objects.values_list("last_activity_at", Now()):
        assert active <= now


def test_one_statement_renews_many_each_by_its_own_activity() -> None:
    ann, bob = acquire("ann", LLM), acquire("bob", VECTORS)
    let_pass(29, LLM)
    let_pass(290, VECTORS)
    Lease.objects.filter(service=VECTORS).update(expires_at=Now() + timedelta(seconds=1))
    renewed = mutex.renew_all({ann: 0, bob: 290})
    assert renewed == {ann: pytest.approx(30, abs=0.5), bob: pytest.approx(10, abs=0.5)}
    assert mutex.renew_all({}) == {}


@pytest.mark.parametrize("stranger", [{"owner": "bob"}, {"session_id": "0" * 32}, {"fencing_token": 10**6}])
def test_renewing_many_renews_what_is_exactly_held(stranger: dict[str, object]) -> None:
    ann, bob = acquire("ann", LLM), acquire("bob", VECTORS)
    forged = replace(ann, **stranger)  # type: ignore[arg-type]
    assert mutex.renew_all({forged: 0, bob: 0}).keys() == {bob}
    assert mutex.renew_all({ann: 0}).keys() == {ann}


def test_renewing_many_says_nothing_about_another_service() -> None:
    ann, bob = acquire("ann", LLM), acquire("bob", VECTORS)
    assert mutex.renew_all({replace(ann, service_id=VECTORS): 0}) == {}
    assert mutex.renew_all({ann: 0}).keys() == {ann}
    assert mutex.confirm(bob)


def test_renewing_many_revives_none_that_has_expired() -> None:
    ann, bob = acquire("ann", LLM), acquire("bob", VECTORS)
    let_pass(31, LLM)
    assert mutex.renew_all({ann: 0, bob: 0}).keys() == {bob}
    assert not mutex.confirm(ann)


def test_renewing_many_never_takes_activity_back() -> None:
    grant = acquire("ann")
    let_pass(10)
    mutex.renew_all({grant: 0})
    before = Lease.objects.get(service=LLM).last_activity_at
    mutex.renew_all({grant: 200})
    assert Lease.objects.get(service=LLM).last_activity_at == before


def test_renewing_many_waits_for_none_that_is_being_written_under() -> None:
    """On SQLite a writer excludes all other writers, whatever they write."""
    if connection.vendor == "sqlite":
        pytest.skip("only postgresql locks rows")
    ann, bob = acquire("ann", LLM), acquire("bob", VECTORS)
    with held_by_another(lambda: mutex.confirm(ann)):
        assert mutex.renew_all({ann: 0, bob: 0}).keys() == {bob}


def test_no_statement_is_too_long_for_psycopg_to_remember() -> None:
    """It takes a longer one apart anew each time, a quarter of a millisecond for the acquiring one."""
    if connection.vendor == "sqlite":
        pytest.skip("psycopg is for PostgreSQL")
    psycopg_queries = import_module("psycopg._queries")

    def pair() -> tuple[int, int]:
        mutex.release(mutex.acquire(LLM, "ann"))
        remembered = psycopg_queries._query2pg.cache_info()
        return remembered.hits, remembered.misses

    (hits, misses), after = pair(), pair()
    assert after == (hits + 2, misses)


def test_only_a_release_is_not_waited_for_until_it_is_on_the_disk() -> None:
    """What a crash of the database may undo: a release, which then is an expiry. Nothing else."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite decides it for the whole database")
    grant = acquire("ann")
    values: dict[str, str | float] = {
        "service_id": LLM,
        "session_id": grant.session_id,
        "owner": "ann",
        "fencing_token": grant.fencing_token,
        "ended_as": "released",
        "next_session": "0" * 32,
        "process": "none",
        "offer": 5.0,
        "ttl": 30.0,
        "idle_timeout": 300.0,
        "idle_for": 0.0,
        "waiter": "w",
        "ended_by": "ops",
        "reason": "r",
        "ticket_id": 0,
    }

    def committing(name: str) -> str:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(getattr(STATEMENTS["postgresql"], name), values)
            cursor.execute("SHOW synchronous_commit")
            transaction.set_rollback(True)
            return str(cursor.fetchone()[0])

    assert committing("release") == "off"
    for name in ("renew", "claim", "force_release", "prolong"):
        assert committing(name) == "on", name
    mutex.release(grant)
    acquire("bob")
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)


def test_a_late_release_tells_the_history_how_the_session_really_ended() -> None:
    grant = acquire("ann")
    let_pass(31)
    assert not mutex.release(grant)
    hold = Hold.objects.get()
    assert hold.outcome == "lost"
    assert (hold.ended_at - hold.started_at).total_seconds() == pytest.approx(30, abs=0.01)


def test_force_release_ends_this_session_and_no_other() -> None:
    grant = acquire("ann")
    assert mutex.force_release(LLM, grant.session_id, by="ops", reason="went home")
    assert not mutex.force_release(LLM, grant.session_id, by="ops", reason="again")
    assert mutex.renew(grant) is None
    assert mutex.fate(grant) == "forced"
    bob = acquire("bob")
    assert not mutex.force_release(LLM, grant.session_id, by="ops", reason="again")
    assert mutex.confirm(bob)
    hold = Hold.objects.get()
    assert (hold.owner, hold.outcome, hold.ended_by, hold.reason) == ("ann", "forced", "ops", "went home")


def test_force_release_leaves_an_expired_session_to_its_expiry() -> None:
    grant = acquire("ann")
    let_pass(31)
    assert not mutex.force_release(LLM, grant.session_id, by="ops", reason="late")
    acquire("bob")
    assert outcomes() == [("ann", "lost")]


def test_an_acquisition_sweeps_the_expired_sessions_of_every_service() -> None:
    ann, bob = acquire("ann", VECTORS), acquire("bob", LLM)
    let_pass(31, VECTORS)
    assert mutex.try_acquire(LLM, "cid") is None
    assert Lease.objects.get(service=VECTORS).session_id is None
    assert outcomes(VECTORS) == [("ann", "lost")]
    assert mutex.confirm(bob)
    assert not mutex.confirm(ann)


def test_a_service_may_have_its_own_timeouts_and_a_session_keeps_those_it_began_with() -> None:
    Service.objects.filter(pk=LLM).update(ttl=7, idle_timeout=5)
    grant = acquire("ann")
    assert (grant.ttl, grant.idle_timeout) == (7, 5)
    Service.objects.filter(pk=LLM).update(ttl=None, idle_timeout=None)
    let_pass(4)
    assert mutex.renew(grant, idle_for=1) == pytest.approx(4, abs=0.5)
    assert mutex.renew(grant) == pytest.approx(5, abs=0.5)
    let_pass(6)
    acquire("bob")
    assert outcomes() == [("ann", "expired")]


def test_a_refusal_says_whose_use_stands_in_the_way() -> None:
    acquire("ann")
    with pytest.raises(ServiceBusy, match=r"^Someone else is using the chat service") as busy:
        mutex.acquire(LLM, "bob")
    assert (busy.value.reason, busy.value.service, busy.value.retry_after) == ("busy", LLM, 30)
    with pytest.raises(ServiceBusy, match=r"^You are already using the chat service"):
        mutex.acquire(LLM, "ann")
    Service.objects.filter(pk=LLM).update(enabled=False, disabled_message="Closed for repairs until noon.")
    with pytest.raises(ServiceBusy, match="Closed for repairs until noon") as disabled:
        mutex.acquire(LLM, "ann")
    assert disabled.value.reason == "disabled"


def test_the_retry_advice_is_the_median_of_recent_holds() -> None:
    for seconds in (4, 8, 20):
        grant = acquire("ann")
        let_pass(seconds)
        mutex.release(grant)
    acquire("ann")
    with pytest.raises(ServiceBusy) as busy:
        mutex.acquire(LLM, "bob")
    assert busy.value.retry_after in (8, 9)


def test_no_verb_runs_inside_a_transaction() -> None:
    with transaction.atomic(), pytest.raises(LeaseInTransaction):
        mutex.try_acquire(LLM, "ann")
    grant = acquire("ann")
    with transaction.atomic():
        for verb in (mutex.renew, mutex.release):
            with pytest.raises(LeaseInTransaction):
                verb(grant)
        with pytest.raises(LeaseInTransaction):
            mutex.force_release(LLM, grant.session_id, by="ops", reason="")
        with pytest.raises(LeaseInTransaction):
            mutex.renew_all({grant: 0.0})
    assert mutex.confirm(grant)


def test_no_verb_of_the_queue_runs_inside_a_transaction() -> None:
    acquire("ann")
    bob = mutex.enqueue(LLM, "bob", "b" * 32)
    verbs: list[Callable[[], object]] = [
        lambda: mutex.enqueue(LLM, "cid", "c" * 32),
        lambda: mutex.advance(LLM),
        lambda: mutex.claim(bob),
        lambda: mutex.keep([bob.waiter]),
        lambda: mutex.leave(bob),
        lambda: mutex.step_aside(bob),
        lambda: mutex.remove(bob.id),
    ]
    with transaction.atomic():
        for verb in verbs:
            with pytest.raises(LeaseInTransaction):
                verb()
    assert mutex.places([bob.waiter])


def test_without_autocommit_one_is_in_a_transaction() -> None:
    ann = acquire("ann")
    connection.set_autocommit(False)
    try:
        with pytest.raises(LeaseInTransaction):
            mutex.renew(ann)
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def test_a_session_that_nothing_is_known_of_is_lost() -> None:
    ann = acquire("ann")
    mutex.release(ann)
    assert mutex.fate(ann) == "released"
    Hold.objects.all().delete()  # as pruning does, in time
    assert mutex.fate(ann) == "lost"


def test_statements_per_verb() -> None:
    """Pinned: each verb is one statement in one round trip; SQLite sweeps in a second one."""

    def count(verb: object) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            verb()  # type: ignore[operator]
        return len(queries)

    grants: list[mutex.Grant] = []
    assert count(lambda: grants.append(acquire("ann"))) == (2 if connection.vendor == "sqlite" else 1)
    with pytest.raises(ServiceBusy), CaptureQueriesContext(connection) as refused:
        mutex.acquire(LLM, "bob")
    assert len(refused) == (3 if connection.vendor == "sqlite" else 1)
    assert count(lambda: mutex.renew(grants[0])) == 1
    assert count(lambda: mutex.renew_all({grants[0]: 0.0})) == 1
    assert count(lambda: mutex.confirm(grants[0])) == 1
    assert count(lambda: mutex.release(grants[0])) == 1
    again = acquire("ann")
    assert count(lambda: mutex.force_release(LLM, again.session_id, by="ops", reason="")) == 1


def test_what_lapsed_is_swept_as_it_ended_and_what_was_free_is_left_alone() -> None:
    Service.objects.filter(pk=VECTORS).update(idle_timeout=20)
    acquire("ann", VECTORS)
    let_pass(21, VECTORS)
    mutex.release(acquire("bob"))
    assert outcomes(VECTORS) == [("ann", "expired")]
    mutex.release(acquire("cid", VECTORS))
    let_pass(31, VECTORS)
    acquire("dan")
    assert Lease.objects.get(service=VECTORS).ended_as == "released"


def test_only_who_held_a_session_learns_how_it_ended() -> None:
    ann = acquire("ann")
    assert mutex.ended(ann) is None
    let_pass(31)
    others = [replace(ann, owner="bob"), replace(ann, fencing_token=99), replace(ann, session_id="0" * 32)]
    assert [mutex.ended(session) for session in (ann, *others)] == ["lost", None, None, None]
    acquire("cid")
    assert [mutex.ended(session) for session in (ann, *others)] == ["lost", None, None, None]


def test_prolonging_is_for_one_lease_until_the_earlier_of_its_deadlines() -> None:
    Service.objects.filter(pk=LLM).update(idle_timeout=20)
    ann, eve = acquire("ann"), acquire("eve", VECTORS)
    let_pass(10)
    let_pass(10, VECTORS)
    with transaction.atomic():
        assert mutex.confirm(ann)
        mutex.prolong(ann)
    times = Lease.objects.values_list("expires_at", "last_activity_at", Now())
    expires, active, now = times.get(service=LLM)
    assert (expires - now).total_seconds() == pytest.approx(20, abs=1)
    assert (now - active).total_seconds() < 1
    expires, _, now = times.get(service=VECTORS)
    assert (expires - now).total_seconds() == pytest.approx(20, abs=1)  # 30, of which 10 passed
    assert mutex.renew(ann, idle_for=15) == pytest.approx(20, abs=1)  # late, it shortens nothing
    assert mutex.confirm(eve)
