"""Sessions that programs hold by themselves: acquired, renewed and released over HTTP."""

from typing import Any

from django.http import Http404, HttpResponseBase
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from leases import mutex, session_schema
from leases import serializers as shapes
from leases.database import in_database
from leases.exceptions import LeaseLost
from leases.fields import valid_now
from leases.guarded_view import GuardedView
from leases.holding import give_back, take
from leases.models import Outcome
from leases.mutex import Expiry, Grant, Session
from leases.owned_view import OwnedView
from leases.turn import Turn

NO_SESSION = (
    "You have no such session of this service. Please send the secret and the fencing token that you got "
    "when you acquired it."
)


class Acquiring(GuardedView):
    """POST: acquire a service for a program, which then renews and releases it by itself."""

    permission_classes = [IsAuthenticated]
    success_status = 201
    grant: Grant | None = None

    @session_schema.acquire
    async def post(self, request: Request, service_id: str) -> HttpResponseBase:
        async def work(turn: Turn) -> dict[str, Any]:
            grant = (await take(service_id, self.owner or "", turn)).grant
            try:
                expiry = await in_database(begin, grant)
            except BaseException:
                give_back(grant)
                raise
            self.grant = grant
            return shapes.grant_fields(grant, expiry)

        return await self.answer(work)

    def undo(self) -> None:
        if self.grant is not None:
            give_back(self.grant)


def begin(grant: Grant) -> Expiry:
    """Let the deadlines of a session begin when its holder is told of it. Raises LeaseLost."""
    expiry = mutex.renewal(grant)
    if expiry is None:
        raise LeaseLost(grant.service_id, mutex.fate(grant))
    return expiry


class SessionView(OwnedView):
    """POST: something for a session that the caller's program holds, or held."""

    permission_classes = [IsAuthenticated]

    def session(self, request: Request, service_id: str) -> Session:
        asked = valid_now(shapes.SessionProof, request.data)
        return Session(service_id, asked["secret"], self.owner or "", asked["fencingToken"])

    def ended(self, session: Session) -> Outcome:
        """How the session ended. Raises Http404 if it is unknown or somebody else's."""
        outcome = mutex.ended(session)
        if outcome is None:
            raise Http404(NO_SESSION)
        return outcome


class Renewing(SessionView):
    """POST: keep a session alive and say that its work goes on; 409 if it has ended."""

    @session_schema.renew
    def post(self, request: Request, service_id: str) -> Response:
        session = self.session(request, service_id)
        expiry = mutex.renewal(session)
        if expiry is not None:
            return Response({"success": True, **shapes.expiry_fields(expiry)})
        lost = LeaseLost(service_id, self.ended(session))
        return Response({"success": False, "error": str(lost), "ended": lost.outcome}, status=409)


class Releasing(SessionView):
    """POST: give a session back; harmless if it has ended already."""

    @session_schema.release
    def post(self, request: Request, service_id: str) -> Response:
        session = self.session(request, service_id)
        if mutex.release(session):
            return Response({"success": True, "released": True})
        return Response({"success": True, "released": False, "ended": self.ended(session)})
