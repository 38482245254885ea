"""The admin through its real pages."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from leases import mutex, refusals
from leases.models import Lease, Service
from leases.status import state_of

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
EDITED = {
    "name": "Oracle",
    "busy_message": "The oracle is speaking. Please wait.",
    "own_busy_message": "The oracle is speaking to you. Please listen.",
    "disabled_message": "The oracle sleeps until noon.",
    "ttl": "12.5",
    "idle_timeout": "",
}


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ops"))
    return client


def test_a_service_is_edited_and_switched_off(operator: Client) -> None:
    response = operator.post(f"/admin/leases/service/{LLM}/change/", EDITED)
    assert response.status_code == 302
    service = Service.objects.get(pk=LLM)
    assert (service.name, service.ttl, service.idle_timeout, service.enabled) == ("Oracle", 12.5, None, False)
    assert refusals.busy(state_of(LLM), "ann").reason == "disabled"
    assert str(refusals.busy(state_of(LLM), "ann")) == "The oracle sleeps until noon."


def test_a_timeout_of_nothing_is_refused(operator: Client) -> None:
    response = operator.post(f"/admin/leases/service/{LLM}/change/", EDITED | {"ttl": "0"})
    assert response.status_code == 200
    assert Service.objects.get(pk=LLM).ttl is None


@pytest.mark.parametrize("page", ["service", "lease", "hold", "ticket"])
def test_nothing_is_added_or_deleted_by_hand(operator: Client, page: str) -> None:
    mutex.acquire(LLM, "ann")
    assert operator.get(f"/admin/leases/{page}/").status_code == 200
    assert operator.get(f"/admin/leases/{page}/add/").status_code == 403
    assert operator.post(f"/admin/leases/{page}/{LLM}/delete/").status_code in (302, 403)
    assert Lease.objects.live().count() == 1
    assert Service.objects.count() == 2


def test_a_live_lease_is_shown_without_its_secret(operator: Client) -> None:
    grant = mutex.acquire(LLM, "user:7")
    page = operator.get(f"/admin/leases/lease/{LLM}/change/").content.decode()
    assert "user:7" in page
    assert grant.session_id not in page
    assert operator.post(f"/admin/leases/lease/{LLM}/change/", {"owner": "eve"}).status_code == 403


def test_a_ticket_is_shown_without_its_secret(operator: Client) -> None:
    mutex.acquire(LLM, "ann")
    ticket = mutex.enqueue(LLM, "user:8", "f" * 32)
    page = operator.get(f"/admin/leases/ticket/{ticket.id}/change/").content.decode()
    assert "user:8" in page
    assert ticket.waiter not in page
    assert operator.post(f"/admin/leases/ticket/{ticket.id}/change/", {"owner": "eve"}).status_code == 403
