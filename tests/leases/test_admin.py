"""The admin through its real pages: operators with one permission each, and people without any."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import F
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from leases import mutex, refusals
from leases.admin.services import ServiceAdmin
from leases.models import Hold, Lease, Operation, Service, Ticket
from leases.status import state_of
from tests.database import query

pytestmark = pytest.mark.usefixtures("leases")

LLM, VECTORS = "lightweight-llm", "vector-convert"
EDITED = {
    "name": "Oracle",
    "busy_message": "The oracle is speaking. Please wait.",
    "own_busy_message": "The oracle is speaking to you. Please listen.",
    "ttl": "12.5",
    "idle_timeout": "",
}
SERVICES, LEASES, TICKETS = "/admin/leases/service/", "/admin/leases/lease/", "/admin/leases/ticket/"
HOLDS, OPERATIONS = "/admin/leases/hold/", "/admin/leases/operation/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ops"))
    return client


def staff(*permissions: str) -> Client:
    """A member of the staff with just these permissions."""
    user = User.objects.create_user(f"staff-{uuid4().hex[:8]}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


def a_session(owner: str = "user:7", service: str = LLM) -> tuple[mutex.Grant, str]:
    """A session, and its key on the page that ends it."""
    grant = mutex.acquire(service, owner)
    return grant, f"{service}:{grant.fencing_token}"


class TestOverview:
    def test_it_shows_who_holds_since_when_who_waits_and_how_the_day_was(self, operator: Client) -> None:
        ann = User.objects.create_user("ann")
        for seconds, waited in ((20, 0), (40, 30)):
            mutex.acquire(LLM, "someone")
            past = timedelta(seconds=seconds)
            Lease.objects.filter(service=LLM).update(
                started_at=F("started_at") - past,
                enqueued_at=F("started_at") - past - timedelta(seconds=waited),
            )
            mutex.force_release(LLM, Lease.objects.get(service=LLM).session_id or "", by="x", reason="x")
        mutex.acquire(LLM, f"user:{ann.pk}")
        Lease.objects.filter(service=LLM).update(
            last_activity_at=F("last_activity_at") - timedelta(seconds=130)
        )
        mutex.enqueue(LLM, "bob", "b" * 32)
        page = text_of(operator, SERVICES)
        row = page[page.index("Chat Service") : page.index("Document Conversion Service")]
        for shown in (
            "in use",
            "ann",
            "2 min 1",
            "1 waiting",
            "20 s",
            "40 s",
            "30 s",
            "Force-release",
            "Disable",
        ):
            assert shown in row
        assert '<td class="field-holds_today">2</td>' in row
        other = page[page.index("Document Conversion Service") :]
        assert "free" in other
        assert "Force-release" not in other

    def test_its_queries_do_not_grow_with_services_or_queues(self, operator: Client) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                text_of(operator, SERVICES)
            return len(captured)

        text_of(operator, SERVICES)
        before = queries()
        for number in range(20):
            Service.objects.create(id=f"s{number}", status_key=f"s{number}", name=f"S{number}")
            Lease.objects.create(service_id=f"s{number}")
            mutex.acquire(f"s{number}", f"user:{number}")
        mutex.acquire(LLM, "user:3")
        for number in range(20):
            mutex.enqueue(LLM, f"user:{number}", uuid4().hex)
        assert queries() <= before + 1  # the names of those who hold

    @pytest.mark.parametrize("page", [SERVICES, LEASES, TICKETS, HOLDS, OPERATIONS])
    def test_it_is_for_those_who_may_look(self, page: str) -> None:
        assert staff().get(page).status_code == 403
        nosy = Client()
        nosy.force_login(User.objects.create_user("nosy"))
        assert nosy.get(page).status_code in (302, 403)
        assert Client().get(page).status_code == 302
        assert staff(f"view_{page.split('/')[3]}").get(page).status_code == 200


class TestNothingIsEditedByHand:
    def test_a_service_s_words_and_times_are(self, operator: Client) -> None:
        assert operator.post(f"{SERVICES}{LLM}/change/", EDITED).status_code == 302
        service = Service.objects.get(pk=LLM)
        assert (service.name, service.ttl, service.idle_timeout) == ("Oracle", 12.5, None)

    def test_a_stale_form_does_not_switch_a_service_on_again(self, operator: Client) -> None:
        seen = Service.objects.get(pk=LLM)
        operator.post(f"{SERVICES}disable/", {"subject": LLM, "reason": "Broken."})
        admin = ServiceAdmin(Service, site)
        form: Any = type("Form", (), {"changed_data": ["name"]})
        seen.name = "Oracle"
        admin.save_model(None, seen, form, True)  # type: ignore[arg-type]
        service = Service.objects.get(pk=LLM)
        assert (service.name, service.enabled, service.disabled_message) == ("Oracle", False, "Broken.")

    @pytest.mark.parametrize("seconds", ["0", "1e12"])  # the latter is more than SQLite adds to a time
    @pytest.mark.parametrize("field", ["ttl", "idle_timeout"])
    def test_a_timeout_of_nothing_or_of_ages_is_refused(
        self, operator: Client, field: str, seconds: str
    ) -> None:
        assert operator.post(f"{SERVICES}{LLM}/change/", EDITED | {field: seconds}).status_code == 200
        assert getattr(Service.objects.get(pk=LLM), field) is None

    @pytest.mark.parametrize("page", ["service", "lease", "hold", "ticket", "operation"])
    def test_nothing_is_added_or_deleted(self, operator: Client, page: str) -> None:
        mutex.acquire(LLM, "ann")
        assert operator.get(f"/admin/leases/{page}/").status_code == 200
        assert operator.get(f"/admin/leases/{page}/add/").status_code == 403
        assert operator.post(f"/admin/leases/{page}/{LLM}/delete/").status_code in (302, 403)
        assert Lease.objects.live().count() == 1
        assert Service.objects.count() == 2

    def test_leases_and_tickets_are_shown_without_their_secrets(self, operator: Client) -> None:
        grant = mutex.acquire(LLM, "user:7")
        ticket = mutex.enqueue(LLM, "user:8", "f" * 32)
        for url, shown, secret in (
            (f"{LEASES}{LLM}/change/", "former user 7", grant.session_id),
            (f"{TICKETS}{ticket.id}/change/", "former user 8", ticket.waiter),
        ):
            page = text_of(operator, url)
            assert shown in page
            assert secret not in page
            assert operator.post(url, {"owner": "eve"}).status_code == 403


class TestForceRelease:
    def test_it_asks_first_and_wants_a_reason(self, operator: Client) -> None:
        grant, key = a_session()
        page = text_of(operator, f"{LEASES}force-release/?subject={key}")
        assert "held by former user 7" in page
        refused = operator.post(f"{LEASES}force-release/", {"subject": key, "reason": "  "})
        assert "Please say why" in refused.content.decode()
        assert mutex.confirm(grant)
        done = operator.post(f"{LEASES}force-release/", {"subject": key, "reason": "stuck"}, follow=True)
        assert "Ended: " in done.content.decode()
        hold = Hold.objects.get()
        assert (hold.outcome, hold.ended_by, hold.reason) == ("forced", "ops", "stuck")
        record = Operation.objects.get()
        assert (record.actor, record.deed, record.service_id, record.subject, record.reason) == (
            *("ops", "force_release", LLM, "user:7", "stuck"),
        )
        assert "ended a session by force" in text_of(operator, OPERATIONS)

    def test_the_action_leads_to_the_same_page(self, operator: Client) -> None:
        a_session()
        a_session("user:8", VECTORS)
        chosen = {"action": "force_release", "_selected_action": [LLM, VECTORS]}
        page = operator.post(LEASES, chosen, follow=True).content.decode()
        assert "former user 7" in page
        assert "former user 8" in page

    def test_a_successor_is_never_touched(self, operator: Client) -> None:
        grant, key = a_session()
        mutex.release(grant)
        successor = mutex.acquire(LLM, "user:8")
        answer = operator.post(f"{LEASES}force-release/", {"subject": key, "reason": "stuck"}, follow=True)
        assert "Had ended by itself already" in answer.content.decode()
        assert mutex.confirm(successor)
        assert not Operation.objects.exists()

    def test_to_see_is_not_to_end(self) -> None:
        grant, key = a_session()
        onlooker = staff("view_lease", "view_service", "remove_from_queue", "disable_service")
        assert onlooker.get(f"{LEASES}force-release/?subject={key}").status_code == 403
        assert onlooker.post(f"{LEASES}force-release/", {"subject": key, "reason": "x"}).status_code == 403
        onlooker.post(LEASES, {"action": "force_release", "_selected_action": [LLM]})
        assert mutex.confirm(grant)
        ender = staff("view_lease", "force_release")
        ender.post(f"{LEASES}force-release/", {"subject": key, "reason": "x"})
        assert not mutex.confirm(grant)

    @pytest.mark.parametrize("key", ["", "x", f"{LLM}:", f"{LLM}:-1", f"{LLM}:{'9' * 30}", "nothing:1"])
    def test_a_key_that_is_none_ends_nothing(self, operator: Client, key: str) -> None:
        grant, _ = a_session()
        operator.get(f"{LEASES}force-release/", {"subject": key})
        operator.post(f"{LEASES}force-release/", {"subject": key, "reason": "x"})
        assert mutex.confirm(grant)


class TestQueue:
    def waiting(self) -> list[mutex.Ticket]:
        mutex.acquire(LLM, "ann")
        return [mutex.enqueue(LLM, f"user:{number}", uuid4().hex) for number in (7, 8)]

    def test_somebody_is_taken_out_with_a_reason(self, operator: Client) -> None:
        first, second = self.waiting()
        assert "former user 7" in text_of(operator, f"{TICKETS}remove/?subject={first.id}")
        operator.post(f"{TICKETS}remove/", {"subject": first.id, "reason": "asked for it"})
        assert mutex.places([first.waiter, second.waiter])[second.waiter].number == 1
        record = Operation.objects.get()
        assert (record.actor, record.deed, record.subject, record.reason) == (
            *("ops", "remove", "user:7", "asked for it"),
        )
        page = text_of(operator, TICKETS)
        assert "removed by an operator" in page

    def test_places_are_those_of_the_queue_whatever_is_filtered(self, operator: Client) -> None:
        User.objects.create_user("zoe", id=8)
        self.waiting()
        page = text_of(operator, f"{TICKETS}?q=zoe")
        assert "former user 7" not in page
        assert '<td class="field-place">2</td>' in page

    def test_to_see_is_not_to_remove(self) -> None:
        first, _ = self.waiting()
        onlooker = staff("view_ticket", "force_release")
        assert onlooker.get(f"{TICKETS}remove/?subject={first.id}").status_code == 403
        assert onlooker.post(f"{TICKETS}remove/", {"subject": first.id, "reason": "x"}).status_code == 403
        assert not Ticket.objects.filter(removed_at__isnull=False).exists()
        remover = staff("view_ticket", "remove_from_queue")
        chosen = {"action": "remove", "_selected_action": [first.id]}
        assert "former user 7" in remover.post(TICKETS, chosen, follow=True).content.decode()
        remover.post(f"{TICKETS}remove/", {"subject": first.id, "reason": "x"})
        assert Ticket.objects.filter(removed_at__isnull=False).count() == 1


class TestSwitching:
    def test_off_with_a_note_for_callers_and_on_again(self, operator: Client) -> None:
        note = "The oracle sleeps until noon."
        assert "Note that callers read" in text_of(operator, f"{SERVICES}disable/?subject={LLM}")
        operator.post(f"{SERVICES}disable/", {"subject": LLM, "reason": note})
        assert refusals.busy(state_of(LLM), "ann").reason == "disabled"
        assert str(refusals.busy(state_of(LLM), "ann")) == note
        assert "switched off" in text_of(operator, SERVICES)
        again = operator.post(f"{SERVICES}disable/", {"subject": LLM, "reason": "other"}, follow=True)
        assert "Was switched off already" in again.content.decode()
        operator.post(f"{SERVICES}enable/", {"subject": LLM, "reason": "It is noon."})
        assert state_of(LLM).enabled
        assert [(row.deed, row.reason) for row in Operation.objects.order_by("id")] == [
            *(("disable", note), ("enable", "It is noon.")),
        ]

    def test_each_way_has_its_own_permission(self) -> None:
        offer, turner = staff("view_service", "disable_service"), staff("view_service", "enable_service")
        assert turner.post(f"{SERVICES}disable/", {"subject": LLM, "reason": "x"}).status_code == 403
        offer.post(SERVICES, {"action": "disable", "_selected_action": [LLM]})
        offer.post(f"{SERVICES}disable/", {"subject": LLM, "reason": "x"})
        assert not state_of(LLM).enabled
        assert offer.post(f"{SERVICES}enable/", {"subject": LLM, "reason": "x"}).status_code == 403
        turner.post(f"{SERVICES}enable/", {"subject": LLM, "reason": "x"})
        assert state_of(LLM).enabled


class TestHistory:
    def history(self) -> None:
        User.objects.create_user("ann", id=7)
        for owner, service in (("user:7", LLM), ("=cmd()", LLM), ("browser:abcdef0123456789", VECTORS)):
            mutex.release(mutex.acquire(service, owner))
        grant = mutex.acquire(LLM, "user:7")
        mutex.force_release(LLM, grant.session_id, by="ops", reason="=HYPERLINK(1)")

    @pytest.mark.parametrize(
        ("filters", "rows"),
        [
            ("", 4),
            (f"service__id__exact={VECTORS}", 1),
            ("outcome__exact=forced", 1),
            ("owner=user:7", 2),
            ("q=ann", 2),
            ("ended_at__gte=2001-01-01T00:00Z&ended_at__lt=2002-01-01T00:00Z", 0),
        ],
    )
    def test_it_is_filtered_and_searched(self, operator: Client, filters: str, rows: int) -> None:
        self.history()
        page = text_of(operator, f"{HOLDS}?{filters}")
        assert page.count('<td class="field-person') == rows

    async def exported(self, filters: str = "") -> list[dict[str, str]]:
        client = AsyncClient()
        await client.aforce_login(await query(User.objects.create_superuser, f"ops-{uuid4().hex[:6]}"))
        response = await client.get(f"{HOLDS}export.csv?{filters}")
        assert response.status_code == 200
        assert response["Content-Disposition"] == 'attachment; filename="holds.csv"'
        body = b"".join([part async for part in response])  # type: ignore[attr-defined]
        return list(csv.DictReader(io.StringIO(body.decode())))

    async def test_it_is_downloaded_as_the_filters_have_it_and_inert(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("leases.admin.holds.ROWS_AT_ONCE", 2)  # several rounds
        await query(self.history)
        rows = await self.exported()
        assert [row["person"] for row in rows] == ["ann", "visitor abcdef01", "'=cmd()", "ann"]
        assert rows[0]["reason"] == "'=HYPERLINK(1)"
        assert float(rows[0]["held_seconds"]) >= 0
        assert [row["service"] for row in await self.exported("outcome__exact=forced")] == [LLM]

    @pytest.mark.parametrize("filters", ["ended_at__gte=foo", "nonsense=1", "service__id=1&password=x"])
    def test_filters_that_make_no_sense_lead_back_to_the_list(self, operator: Client, filters: str) -> None:
        answer = operator.get(f"{HOLDS}export.csv?{filters}")
        assert (answer.status_code, answer["Location"]) == (302, f"{HOLDS}?e=1")
        assert operator.get(answer["Location"]).status_code == 200

    def test_to_see_is_not_to_download(self) -> None:
        assert staff("view_hold").get(f"{HOLDS}export.csv").status_code == 403
        assert "Download" not in text_of(staff("view_hold"), HOLDS)
        assert "Download" in text_of(staff("view_hold", "export_hold"), HOLDS)
        assert staff("export_hold").get(f"{HOLDS}export.csv").status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        *(f"{SERVICES}disable/?subject=%00", f"{SERVICES}enable/?subject={LLM}&subject=%00"),
        *(f"{SERVICES}%00/change/", f"{SERVICES}a%00/history/", f"{LEASES}%00/change/"),
        *(f"{LEASES}%00/delete/", f"{LEASES}force-release/?subject=%00:1"),
        *(f"{HOLDS}?service__id__exact=%00", f"{HOLDS}?outcome__exact=%00", f"{HOLDS}export.csv?owner=%00"),
        *(f"{TICKETS}?service__id__exact=%00", f"{OPERATIONS}?actor=%00"),
        "/admin/knox/authtoken/%00/change/",
    ],
)
def test_nothing_is_called_nul(operator: Client, address: str) -> None:
    """PostgreSQL has no such character, and refuses the question."""
    assert operator.get(address).status_code == 404


@pytest.mark.parametrize(
    ("page", "form"),
    [
        (f"{SERVICES}disable/", {"subject": "\0", "reason": "x"}),
        (f"{LEASES}force-release/", {"subject": ["\0:1", f"{LLM}:1"], "reason": "x"}),
        (LEASES, {"action": "force_release", "_selected_action": "\0"}),
        (SERVICES, {"action": "disable", "_selected_action": [LLM, "\0"]}),
    ],
)
def test_nothing_is_done_to_nul(operator: Client, page: str, form: dict[str, str]) -> None:
    assert operator.post(page, form).status_code == 404
    assert not Operation.objects.exists()


@pytest.mark.parametrize("page", ["auth/user", "documents/document", "chat/conversation"])
def test_people_s_things_are_listed_without_what_they_say(operator: Client, page: str) -> None:
    from chat.models import Conversation, Message
    from documents.conversion import store
    from documents.models import Document

    ann = User.objects.create_user("ann", id=7)
    conversation = Conversation.objects.create(owner="user:7", title="PRIVATE title")
    Message.objects.create(conversation=conversation, role="user", content="PRIVATE words")
    document = store(
        Document(
            *(), owner="user:7", title="PRIVATE", summary="PRIVATE", tags=["PRIVATE"], text="PRIVATE text",
            content_type="text", file_size=1, word_count=1,
        )
    )  # fmt: skip
    ids = {"auth/user": ann.pk, "documents/document": document.pk, "chat/conversation": conversation.pk}
    for url in (f"/admin/{page}/", f"/admin/{page}/?q=ann", f"/admin/{page}/{ids[page]}/change/"):
        shown = text_of(operator, url)
        assert "ann" in shown
        assert "PRIVATE" not in shown
    if page != "auth/user":
        assert "PRIVATE" not in text_of(operator, f"/admin/{page}/{ids[page]}/delete/")
        operator.post(f"/admin/{page}/{ids[page]}/delete/", {"post": "yes"})
        assert "PRIVATE" not in text_of(operator, "/admin/")
        assert operator.get(f"/admin/{page}/{ids[page]}/change/").status_code == 302


def test_lists_of_people_cost_one_query_more_however_long(
    operator: Client, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for number in range(30):
        User.objects.create_user(f"u{number}", id=1000 + number)
        mutex.release(mutex.acquire(LLM, f"user:{1000 + number}"))
    text_of(operator, HOLDS)
    with django_assert_max_num_queries(12):
        assert text_of(operator, HOLDS).count(">u1") >= 10
