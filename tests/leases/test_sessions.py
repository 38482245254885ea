"""Programs that acquire, renew and release over HTTP: theirs to use, and nobody else's."""

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.db import connection
from django.test import AsyncRequestFactory, Client
from knox.models import get_token_model
from pytest_django import Settings
from rest_framework.test import APIClient

from leases import mutex, operations
from leases.event_stream import EventStream
from leases.guarded_view import GuardedView
from leases.models import Hold, Lease, Service, Ticket
from leases.status import public_id
from leases.views.sessions import Acquiring
from tests.chat.test_streams import events
from tests.database import query
from tests.faults.test_cancellation import Stepped, left_behind
from tests.leases.clock import let_pass
from tests.server import client_of_server

pytestmark = pytest.mark.usefixtures("leases")

LLM = "lightweight-llm"
ROUTE = f"/api/leases/{LLM}"
VERBS = ("acquire", "renew", "release")

Program = Callable[..., tuple[int, dict[str, Any]]]


def signed_up(name: str = "ann") -> tuple[User, str]:
    """A user, and a token of theirs."""
    user = User.objects.create_user(name)
    return user, get_token_model().objects.create(user)[1]


def program_of(name: str) -> Program:
    """A program that calls a verb with fields of a session, and returns the status and the body."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {signed_up(name)[1]}")

    def call(verb: str, session: dict[str, Any] | None = None, service: str = LLM) -> tuple[int, Any]:
        proof = {key: session[key] for key in ("secret", "fencingToken")} if session else {}
        response = client.post(f"/api/leases/{service}/{verb}", proof, format="json")
        return response.status_code, response.json()

    return call


@pytest.fixture
def ann() -> Program:
    return program_of("ann")


@pytest.fixture
def bob() -> Program:
    return program_of("bob")


def acquired(program: Program) -> dict[str, Any]:
    status, body = program("acquire")
    assert (status, body["success"]) == (201, True)
    return body


def outcomes() -> list[str]:
    return list(Hold.objects.order_by("id").values_list("outcome", flat=True))


def held_by(session: dict[str, Any]) -> bool:
    return Lease.objects.live().filter(session_id=session["secret"]).exists()


class TestHolding:
    def test_a_program_acquires_renews_and_releases(self, ann: Program, api: APIClient) -> None:
        session = acquired(ann)
        assert session.keys() == {
            *("success", "service", "sessionId", "secret", "fencingToken", "ttl", "idleTimeout"),
            *("expiresIn", "expiresAt", "renewEvery"),
        }
        assert (session["service"], session["ttl"], session["idleTimeout"]) == (LLM, 30, 300)
        assert session["renewEvery"] == 10
        assert session["expiresIn"] == pytest.approx(30, abs=1)
        status = api.get("/api/services/status").json()
        assert status["activeSessions"][0]["sessionId"] == session["sessionId"]
        assert session["expiresAt"] == pytest.approx(status["timestamp"] + 30_000, abs=2000)
        assert Lease.objects.get(service=LLM).owner == f"user:{User.objects.get().pk}"

        let_pass(20)
        answer, renewed = ann("renew", session)
        assert (answer, set(renewed)) == (200, {"success", "expiresIn", "expiresAt"})
        assert renewed["expiresIn"] == pytest.approx(30, abs=1)
        assert renewed["expiresAt"] >= session["expiresAt"]
        assert ann("release", session) == (200, {"success": True, "released": True})
        assert ann("release", session) == (200, {"success": True, "released": False, "ended": "released"})
        assert outcomes() == ["released"]

    def test_a_renewal_is_activity(self, ann: Program) -> None:
        session = acquired(ann)
        for _ in range(15):  # 375 seconds, of which 300 may be idle
            let_pass(25)
            assert ann("renew", session)[0] == 200
        assert held_by(session)

    def test_the_times_are_those_of_the_service(self, ann: Program) -> None:
        Service.objects.filter(pk=LLM).update(ttl=60, idle_timeout=12)
        session = acquired(ann)
        assert (session["ttl"], session["idleTimeout"], session["renewEvery"]) == (60, 12, 4)
        assert session["expiresIn"] == pytest.approx(12, abs=1)

    def test_the_same_persons_chat_is_told_whose_session_is_in_the_way(self) -> None:
        user, token = signed_up()
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        client.post(f"{ROUTE}/acquire")
        browser = Client()
        browser.force_login(user)
        refused = browser.post(
            "/api/lightweight-llm/chat", {"message": "hello"}, content_type="application/json"
        )
        assert refused.status_code == 503
        assert refused.json()["error"].startswith("You are already using")
        again = client.post(f"{ROUTE}/acquire")
        assert again.status_code == 503
        assert again.json()["error"].startswith("You are already using")

    def test_whoever_is_signed_in_on_the_site_may_with_a_csrf_token(self) -> None:
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(signed_up()[0])
        assert browser.post(f"{ROUTE}/acquire").status_code == 403
        assert not Lease.objects.live().exists()
        trusting = Client()
        trusting.force_login(User.objects.get())
        assert trusting.post(f"{ROUTE}/acquire").status_code == 201


class TestRefusals:
    @pytest.mark.parametrize("verb", VERBS)
    def test_a_stranger_is_asked_to_sign_in(self, verb: str, api: APIClient) -> None:
        grant = mutex.acquire(LLM, "browser:x") if verb != "acquire" else None
        proof = {"secret": grant.session_id, "fencingToken": grant.fencing_token} if grant else {}
        response = api.post(f"{ROUTE}/{verb}", proof, format="json")
        assert response.status_code == 401
        assert response.json()["error"].startswith("Please sign in")
        assert grant is None or mutex.confirm(grant)
        assert Lease.objects.live().count() == (verb != "acquire")

    def test_a_busy_service_is_refused_as_everywhere(self, ann: Program, bob: Program) -> None:
        acquired(ann)
        status, body = bob("acquire")
        assert (status, body["reason"], body["serviceUnavailable"]) == (503, "busy", True)
        assert body["error"].startswith("Someone else is using the chat service")

    def test_a_disabled_service_says_its_note(self, ann: Program) -> None:
        operations.disable(LLM, actor="ops", note="Back at noon.")
        status, body = ann("acquire")
        assert (status, body["reason"], body["error"]) == (503, "disabled", "Back at noon.")

    @pytest.mark.parametrize("wait", [None, 1])
    def test_an_unknown_service_does_not_exist(self, wait: int | None) -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {signed_up()[1]}")
        headers: Any = {} if wait is None else {"HTTP_PREFER": f"wait={wait}"}
        response = client.post("/api/leases/nothing/acquire", **headers)
        assert response.status_code == 404
        assert "no service called 'nothing'" in response.json()["error"]

    @pytest.mark.parametrize("verb", ["renew", "release"])
    def test_only_the_exact_session_of_the_same_person_counts(
        self, verb: str, ann: Program, bob: Program
    ) -> None:
        session = acquired(ann)
        before = Lease.objects.get(service=LLM)
        for program, claimed, service in (
            (bob, session, LLM),  # the right secret in the wrong hands
            (ann, session | {"secret": session["sessionId"]}, LLM),  # the name that the status lists
            (ann, session | {"secret": "0" * 32}, LLM),
            (ann, session | {"fencingToken": session["fencingToken"] - 1}, LLM),
            (ann, session | {"fencingToken": session["fencingToken"] + 1}, LLM),
            (ann, session, "vector-convert"),
            (ann, session, "nothing"),
        ):
            status, body = program(verb, claimed, service)
            assert (status, body["success"]) == (404, False)
            assert body["error"].startswith("You have no such session")
        assert Lease.objects.filter(pk=LLM).values().get() == {
            field.attname: getattr(before, field.attname) for field in Lease._meta.concrete_fields
        }

    def test_a_session_that_ended_is_not_told_to_others(self, ann: Program, bob: Program) -> None:
        session = acquired(ann)
        ann("release", session)
        assert bob("renew", session)[0] == bob("release", session)[0] == 404

    @pytest.mark.parametrize("swept", [False, True])
    @pytest.mark.parametrize("outcome", ["expired", "lost", "forced"])
    def test_who_comes_too_late_learns_how_it_ended(
        self, outcome: str, swept: bool, ann: Program, bob: Program, settings: Settings
    ) -> None:
        if outcome == "expired":
            settings.LEASE_IDLE_TIMEOUT = 20.0
        session = acquired(ann)
        if outcome == "forced":
            operations.force_release(LLM, session["fencingToken"], actor="ops", reason="needed")
        else:
            let_pass(31)
        successor = acquired(bob) if swept else None
        status, body = ann("renew", session)
        assert (status, body["success"], body["ended"]) == (409, False, outcome)
        assert body["error"].startswith("Your session ")
        released = {"success": True, "released": False, "ended": outcome}
        assert ann("release", session) == ann("release", session) == (200, released)
        assert successor is None or held_by(successor)
        assert ann("renew", session)[1]["ended"] == outcome

    @pytest.mark.parametrize(
        "wrong", [{}, {"secret": ""}, {"fencingToken": "x"}, {"fencingToken": 2**63}, {"secret": "x" * 101}]
    )
    @pytest.mark.parametrize("verb", ["renew", "release"])
    def test_what_is_missing_is_said(self, verb: str, wrong: dict[str, Any]) -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {signed_up()[1]}")
        proof = {"secret": "x", "fencingToken": 1} | wrong if wrong else {}
        response = client.post(f"{ROUTE}/{verb}", proof, format="json")
        assert response.status_code == 400
        assert response.json()["error"].startswith("Please send the")


def test_statements_per_verb(statements: list[str]) -> None:
    """Pinned, besides what it costs to know the caller; of all threads together."""
    client = APIClient()
    client.force_authenticate(signed_up()[0])

    def call(verb: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        statements.clear()
        response = client.post(f"{ROUTE}/{verb}", body, format="json")
        assert response.status_code < 300
        return len([sql for sql in statements if not sql.startswith("PRAGMA")]), response.json()

    count, session = call("acquire", {})
    assert count == (3 if connection.vendor == "sqlite" else 2)  # the last begins its deadlines
    proof = {key: session[key] for key in ("secret", "fencingToken")}
    assert call("renew", proof)[0] == 1
    assert call("release", proof)[0] == 1


class TestWaiting:
    async def test_two_programs_take_turns(self) -> None:
        (_, first), (_, second) = await query(signed_up, "ann"), await query(signed_up, "bob")
        async with client_of_server() as client:

            async def call(verb: str, token: str, body: Any = None, **headers: str) -> httpx.Response:
                headers |= {"Authorization": f"Token {token}"}
                return await client.post(f"{ROUTE}/{verb}", json=body or {}, headers=headers)

            session = (await call("acquire", first)).json()
            waiting = asyncio.ensure_future(call("acquire", second, Prefer="wait=30"))
            await until(Ticket.objects.live().exists)
            overtaking = await call("acquire", first, Prefer="wait=0")
            assert (overtaking.status_code, overtaking.json()["reason"]) == (503, "wait_timeout")
            assert not waiting.done()
            proof = {key: session[key] for key in ("secret", "fencingToken")}
            assert (await call("renew", first, proof)).status_code == 200
            assert (await call("release", first, proof)).json()["released"] is True
            answer = await asyncio.wait_for(waiting, 10)
            assert (answer.status_code, answer.headers["Preference-Applied"]) == (201, "wait=30")
            assert answer.json()["fencingToken"] == session["fencingToken"] + 1
            assert answer.json()["expiresIn"] == pytest.approx(30, abs=1)  # not what an offer has left
            assert (await call("renew", first, proof)).json()["ended"] == "released"
        assert await query(held_by, answer.json()), "a restart of the server ends no program's session"

    async def test_as_a_stream_it_tells_the_place_and_then_the_session(self) -> None:
        _, token = await query(signed_up)
        grant = await query(mutex.acquire, LLM, "browser:x")
        headers = {"Authorization": f"Token {token}", "Accept": "text/event-stream", "Prefer": "wait=30"}
        async with client_of_server() as client:
            async with client.stream("POST", f"{ROUTE}/acquire", headers=headers) as response:
                assert response.status_code == 200
                told = events(response)
                name, data = await asyncio.wait_for(anext(told), 10)
                assert (name, data["position"], data["yours"]) == ("queued", 1, False)
                await query(mutex.release, grant)
                rest = [event async for event in told]
        assert [name for name, _ in rest] == ["done"]
        assert await query(held_by, rest[0][1])
        assert rest[0][1]["sessionId"] == public_id(rest[0][1]["secret"])

    async def test_who_hangs_up_in_the_queue_leaves_it(self) -> None:
        _, token = await query(signed_up)
        grant = await query(mutex.acquire, LLM, "browser:x")
        headers = {"Authorization": f"Token {token}", "Prefer": "wait=30"}
        async with client_of_server() as client:
            waiting = asyncio.ensure_future(client.post(f"{ROUTE}/acquire", headers=headers))
            await until(Ticket.objects.live().exists)
            waiting.cancel()
            await until(lambda: not Ticket.objects.live().exists())
            await query(mutex.release, grant)
            assert not await query(Lease.objects.live().exists)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await query(condition):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)


class TestNobodyHears:
    """Who is gone before the answer sets out must not keep the service from others for a TTL."""

    @pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
    async def test_a_request_cancelled_at_any_moment_leaves_no_lease(
        self, accept: str, settings: Settings
    ) -> None:
        settings.LEASE_TTL = settings.LEASE_IDLE_TIMEOUT = 60.0
        user, token = await query(signed_up)
        cancelled = 0
        for moment in count(1):
            left, finished = await self.cancelled_at(moment, accept, token, f"user:{user.pk}")
            assert left == [], f"cancelled at {moment}"
            if finished:
                break
            cancelled += 1
        print(f"cancelled at {cancelled} moments")
        assert cancelled > 5

    async def cancelled_at(self, moment: int, accept: str, token: str, owner: str) -> tuple[list[str], bool]:
        """What a request leaves behind that is cancelled at this await, and whether it had ended before."""
        request = AsyncRequestFactory().post(
            f"{ROUTE}/acquire", headers={"Authorization": f"Token {token}", "Accept": accept}
        )

        answers: list[Any] = []

        async def answer() -> None:
            answers.append(await ASGIHandler().get_response_async(request))

        async def stepped() -> None:
            await Stepped(answer(), lambda number: number == moment and task.cancel())

        task = asyncio.ensure_future(stepped())
        try:
            await task
        except asyncio.CancelledError:
            return await left_behind(owner, [], 3.0), False
        (response,) = answers
        assert response.status_code in (200, 201)
        if response.streaming:
            response.close()
            return await left_behind(owner, [], 3.0), True
        await query(release, json.loads(response.content), owner)
        return [], True

    async def test_the_check_can_fail(self, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
        monkeypatch.setattr(Acquiring, "undo", GuardedView.undo)
        with pytest.raises(AssertionError, match="cancelled at"):
            await self.test_a_request_cancelled_at_any_moment_leaves_no_lease("application/json", settings)

    @pytest.mark.parametrize("read", [False, True])
    async def test_a_stream_that_ends_unread_is_undone(self, read: bool) -> None:
        undone: list[bool] = []

        async def work(tell: object) -> dict[str, Any]:
            return {"success": True}

        stream = EventStream(work, lambda error: {}, lambda: undone.append(True))
        await stream.begin()
        if read:
            assert (await anext(stream)).startswith(b"event: done")
        stream.close()
        stream.close()
        assert undone == ([] if read else [True])


def release(session: dict[str, Any], owner: str) -> None:
    assert mutex.release(mutex.Session(LLM, session["secret"], owner, session["fencingToken"]))
