"""Services, leases, tickets and holds over the API: for strangers, their owners, and operators."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from leases import mutex
from leases.models import Hold, Operation
from leases.status import public_id, state_of

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"


def somebody(*permissions: str, staff: bool = False) -> tuple[APIClient, str]:
    """A signed-in person's program, and their owner string."""
    user = User.objects.create_user(f"person-{uuid4().hex[:8]}", is_staff=staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = APIClient()
    client.default_format = "json"
    client.force_authenticate(user)
    return client, f"user:{user.pk}"


def get(client: APIClient, path: str, **query: Any) -> dict[str, Any]:
    response = client.get(path, query)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    assert body["success"] is True
    return body


def test_services_are_public_and_say_what_the_status_says(api: APIClient) -> None:
    mutex.acquire(LLM, "ann")
    listed = get(api, "/api/services")["services"]
    assert [service["id"] for service in listed] == [LLM, VECTORS]
    status = api.get("/api/services/status").json()["services"]
    for service in listed:
        assert {**status[service["statusKey"]], "statusKey": service["statusKey"]} == service
        assert get(api, f"/api/services/{service['id']}") == {"success": True, **service}
    assert api.get("/api/services/nothing").status_code == 404


def test_that_a_service_is_held_is_public_but_not_by_whom(api: APIClient) -> None:
    holder, owner = somebody()
    operator, _ = somebody("view_lease", staff=True)
    nosy, _ = somebody("view_lease")  # a permission without being of the staff
    grant = mutex.acquire(LLM, owner)
    for client, yours, named in (
        (api, False, False),
        (nosy, False, False),
        (holder, True, True),
        (operator, False, True),
    ):
        (lease,) = get(client, "/api/leases")["leases"]
        assert (lease["service"], lease["sessionId"]) == (LLM, public_id(grant.session_id))
        assert (lease["yours"], lease["person"] is not None) == (yours, named)
        assert get(client, f"/api/leases/{LLM}")["lease"]["sessionId"] == lease["sessionId"]
        assert get(client, f"/api/leases/{VECTORS}")["lease"] is None
        assert grant.session_id not in str(lease)
    assert api.get("/api/leases/nothing").status_code == 404


def test_everybody_sees_their_own_tickets_and_operators_all(api: APIClient) -> None:
    mutex.acquire(LLM, "ann")
    waiter, owner = somebody()
    other, _ = somebody("view_ticket")
    operator, _ = somebody("view_ticket", staff=True)
    first = mutex.enqueue(LLM, "user:999", "a" * 32)
    mine = mutex.enqueue(LLM, owner, "b" * 32)
    (ticket,) = get(waiter, "/api/tickets")["tickets"]
    assert (ticket["id"], ticket["position"], ticket["yours"]) == (mine.id, 2, True)
    assert get(other, "/api/tickets")["tickets"] == get(api, "/api/tickets")["tickets"] == []
    page = get(operator, "/api/tickets", limit=1)
    assert [row["id"] for row in page["tickets"]] == [first.id]
    page = get(operator, "/api/tickets", limit=1, cursor=page["nextCursor"])
    assert ([row["id"] for row in page["tickets"]], page["nextCursor"]) == ([mine.id], None)
    assert get(operator, "/api/tickets", service=VECTORS)["tickets"] == []


def test_everybody_sees_their_own_history_and_operators_all(api: APIClient) -> None:
    holder, owner = somebody()
    other, _ = somebody("view_hold")
    operator, _ = somebody("view_hold", staff=True)
    mutex.release(mutex.acquire(VECTORS, "ann"))
    mutex.force_release(LLM, mutex.acquire(LLM, owner).session_id, by="ops", reason="INTERNAL")
    (hold,) = get(holder, "/api/holds")["holds"]
    assert (hold["service"], hold["outcome"], hold["yours"]) == (LLM, "forced", True)
    assert "INTERNAL" not in str(hold)
    assert get(other, "/api/holds")["holds"] == get(api, "/api/holds")["holds"] == []
    page = get(operator, "/api/holds", limit=1)
    assert (page["holds"][0]["reason"], page["holds"][0]["endedBy"]) == ("INTERNAL", "ops")
    page = get(operator, "/api/holds", limit=1, cursor=page["nextCursor"])
    assert ([row["service"] for row in page["holds"]], page["nextCursor"]) == ([VECTORS], None)
    assert len(get(operator, "/api/holds", outcome="released")["holds"]) == 1
    assert len(get(operator, "/api/holds", service=LLM)["holds"]) == 1


@pytest.mark.parametrize("path", ["/api/tickets", "/api/holds"])
@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "x"}, {"cursor": 2**63}]
)
def test_what_cannot_be_asked_is_said(api: APIClient, path: str, query: dict[str, Any]) -> None:
    response = api.get(path, query)
    assert response.status_code == 400
    assert response.json()["error"].endswith(".")


@pytest.mark.parametrize("path", ["/api/tickets", "/api/holds", "/api/leases"])
def test_lists_cost_the_same_however_long(path: str) -> None:
    operator, _ = somebody("view_ticket", "view_hold", "view_lease", staff=True)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            get(operator, path)
        return len(captured)

    for number in (1, 2):
        mutex.release(mutex.acquire(LLM, f"user:{number}"))
    mutex.acquire(LLM, "user:1")
    mutex.enqueue(LLM, "user:2", uuid4().hex)
    get(operator, path)
    before = queries()
    for number in range(3, 30):
        mutex.release(mutex.acquire(VECTORS, f"user:{number}"))
        mutex.enqueue(LLM, f"user:{number}", uuid4().hex)
    assert queries() == before


DEEDS = [
    (f"/api/leases/{LLM}/force-release", "force_release", {"reason": "stuck"}),
    ("/api/tickets/{ticket}/remove", "remove_from_queue", {"reason": "asked for it"}),
    (f"/api/services/{VECTORS}/disable", "disable_service", {"note": "Back at noon."}),
    (f"/api/services/{VECTORS}/enable", "enable_service", {"reason": "It is noon."}),
]


@pytest.mark.parametrize(("path", "permission", "body"), DEEDS, ids=[deed[1] for deed in DEEDS])
def test_deeds_of_operators(path: str, permission: str, body: dict[str, str], api: APIClient) -> None:
    grant = mutex.acquire(LLM, "ann")
    ticket = mutex.enqueue(LLM, "bob", "b" * 32)
    body = body | ({"sessionId": public_id(grant.session_id)} if permission == "force_release" else {})
    path = path.format(ticket=ticket.id)
    others = {deed[1] for deed in DEEDS} - {permission}
    if permission == "enable_service":
        somebody("disable_service", staff=True)[0].post(f"/api/services/{VECTORS}/disable", {"note": "x"})
        Operation.objects.all().delete()
    assert api.post(path, body).status_code == 401
    assert somebody(permission)[0].post(path, body).status_code == 403  # not of the staff
    assert somebody(*others, staff=True)[0].post(path, body).status_code == 403
    assert not Operation.objects.exists()
    operator, owner = somebody(permission, staff=True)
    for wrong in ({}, body | {"reason": " ", "note": ""}, body | {"reason": "x" * 301, "note": "x" * 301}):
        assert operator.post(path, wrong).status_code == 400
    response = operator.post(path, body)
    assert (response.status_code, response.json()["success"]) == (200, True)
    record = Operation.objects.get()
    assert record.actor == User.objects.get(pk=owner.removeprefix("user:")).username
    assert record.reason in body.values()
    again = operator.post(path, body)
    assert (again.status_code, again.json()["success"]) == (409, False)
    assert Operation.objects.count() == 1


def test_force_release_by_the_api_ends_the_named_session_only() -> None:
    operator, _ = somebody("force_release", staff=True)
    gone = mutex.acquire(LLM, "ann")
    mutex.release(gone)
    successor = mutex.acquire(LLM, "bob")
    for name in (public_id(gone.session_id), successor.session_id, "x"):
        answer = operator.post(f"/api/leases/{LLM}/force-release", {"sessionId": name, "reason": "x"})
        assert answer.status_code == 409
    assert mutex.confirm(successor)
    assert (
        operator.post("/api/leases/nothing/force-release", {"sessionId": "x", "reason": "x"}).status_code
        == 404
    )
    answer = operator.post(
        f"/api/leases/{LLM}/force-release", {"sessionId": public_id(successor.session_id), "reason": "x"}
    )
    assert answer.status_code == 200
    assert Hold.objects.latest("pk").outcome == "forced"


def test_a_disabled_service_says_the_note() -> None:
    operator, _ = somebody("disable_service", staff=True)
    operator.post(f"/api/services/{LLM}/disable", {"note": "Back at noon."})
    assert not state_of(LLM).enabled
    assert get(operator, f"/api/services/{LLM}")["message"] == "Back at noon."
    assert operator.post("/api/services/nothing/disable", {"note": "x"}).status_code == 404
