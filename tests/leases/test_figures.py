"""What is counted of the sessions: today's figures, and the tally of all that ever ended."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from leases import figures, mutex
from leases.models import Hold, Lease, Tally, Ticket
from tests.leases.clock import let_pass

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


def held_for(seconds: float, *, waited: float = 0) -> None:
    """One session that is over."""
    grant = mutex.acquire(LLM, "ann")
    past = timedelta(seconds=seconds)
    Lease.objects.filter(service=LLM).update(
        started_at=F("started_at") - past,
        enqueued_at=F("started_at") - past - timedelta(seconds=waited) if waited else None,
    )
    assert mutex.release(grant)


def test_medians_and_longest_of_today_in_one_query() -> None:
    for seconds, waited in ((10, 0), (20, 100), (90, 3)):
        held_for(seconds, waited=waited)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = figures.today()
    assert len(queries) == 1
    assert set(found) == {LLM}
    assert found[LLM].holds == 3
    assert found[LLM].median_hold == pytest.approx(20, abs=2)
    assert found[LLM].longest_hold == pytest.approx(90, abs=2)
    assert found[LLM].median_wait == pytest.approx(3, abs=0.1)
    assert found[LLM].longest_wait == pytest.approx(100, abs=0.1)


def test_yesterday_and_what_nobody_took_up_do_not_count() -> None:
    held_for(10)
    Hold.objects.update(ended_at=F("ended_at") - timedelta(days=1))
    assert figures.today() == {}
    ann = mutex.acquire(LLM, "ann")
    mutex.enqueue(LLM, "bob", "b" * 32)
    mutex.release(ann)
    let_pass(10)
    mutex.advance(LLM)
    assert sorted(Hold.objects.values_list("outcome", flat=True)) == ["released", "released", "unclaimed"]
    assert figures.today()[LLM].holds == 1


def test_every_ended_session_is_tallied_by_how_it_ended() -> None:
    held_for(10, waited=5)
    held_for(20, waited=7)
    forced = mutex.acquire(LLM, "bob")
    mutex.force_release(LLM, forced.session_id, by="ops", reason="stuck")
    mutex.acquire(VECTORS, "cid")
    let_pass(1000, VECTORS)
    mutex.try_acquire(LLM, "dan")
    mutex.enqueue(LLM, "eve", "e" * 32)
    Ticket.objects.update(enqueued_at=F("enqueued_at") - timedelta(seconds=50))
    dan = Lease.objects.get(service=LLM)
    assert dan.session_id is not None
    mutex.release(mutex.Grant(LLM, dan.session_id, "dan", dan.fencing_token, dan.ttl, dan.idle_timeout))
    let_pass(10)
    mutex.advance(LLM)
    rows = {
        (row.service_id, row.outcome): (row.sessions, round(row.held_seconds), round(row.waited_seconds))
        for row in Tally.objects.all()
    }
    assert rows == {
        (LLM, "released"): (3, 30, 12),
        (LLM, "forced"): (1, 0, 0),
        (LLM, "unclaimed"): (1, 0, 0),
        (VECTORS, "lost"): (1, 30, 0),
    }


def test_the_tally_begins_with_the_sessions_that_the_history_has() -> None:
    """As a site that was there before it comes to have it, and back."""
    migration = import_module("leases.migrations.0006_tally")
    test_every_ended_session_is_tallied_by_how_it_ended()
    with connection.schema_editor() as editor:
        migration.take_back(apps, editor)
    try:
        held_for(40, waited=9)
        assert Hold.objects.count() == 7
        assert not Tally.objects.exists()
    finally:
        with connection.schema_editor() as editor:
            migration.create(apps, editor)
    rows = {
        (row.service_id, row.outcome): (row.sessions, round(row.held_seconds), row.waited_seconds)
        for row in Tally.objects.all()
    }
    assert rows == {
        (LLM, "released"): (4, 70, 0),
        (LLM, "forced"): (1, 0, 0),
        (LLM, "unclaimed"): (1, 0, 0),
        (VECTORS, "lost"): (1, 30, 0),
    }
    held_for(5)
    assert Tally.objects.get(service=LLM, outcome="released").sessions == 5
