"""What the routes of the leases accept and answer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rest_framework import serializers

from leases.fields import RequestSerializer, milliseconds, sentences
from leases.models import Hold, Lease, Outcome, Ticket
from leases.mutex import Expiry, Grant, Place
from leases.status import State, public_id, public_service

TOO_LONG = "Please keep it to 300 characters."


class Reason(RequestSerializer):
    reason = serializers.CharField(
        max_length=300,
        help_text="Why; kept with the operator's name.",
        error_messages=sentences("Please say why: the reason is kept with your name.", max_length=TOO_LONG),
    )


class Note(RequestSerializer):
    note = serializers.CharField(
        max_length=300,
        help_text="What callers read while the service is off.",
        error_messages=sentences("Please write a note that callers read meanwhile.", max_length=TOO_LONG),
    )


class ForcedEnd(Reason):
    sessionId = serializers.CharField(  # noqa: N815 - the contract's name
        max_length=100,
        help_text="The session's public name, as the status lists it.",
        error_messages=sentences("Please name the session to end, as the status lists it."),
    )


class Page(RequestSerializer):
    """Which part of a list: `limit` rows from `cursor` on."""

    limit = serializers.IntegerField(
        default=50,
        min_value=1,
        max_value=200,
        help_text="The most rows of the answer.",
        error_messages=sentences("Limit must be a number from 1 to 200."),
    )
    cursor = serializers.IntegerField(
        default=None,
        allow_null=True,
        min_value=0,
        max_value=2**63 - 1,
        help_text="Where to go on: the `nextCursor` of the page before.",
        error_messages=sentences("That cursor is not one of ours. Please start from the first page."),
    )
    service = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=50,
        help_text="Only this service's; empty: all.",
        error_messages=sentences("The service must be its id."),
    )


class HoldPage(Page):
    outcome = serializers.ChoiceField(
        Outcome.choices,
        default="",
        allow_blank=True,
        help_text="Only sessions that ended so; empty: all.",
        error_messages=sentences(
            f"The outcome must be one of {', '.join(Outcome.values)}.",
        ),
    )


PROOF_MISSING = "Please send the secret and the fencing token that you got when you acquired the service."


class SessionProof(RequestSerializer):
    """By what a program shows that a session is its own."""

    secret = serializers.CharField(
        max_length=100,
        help_text="The secret that came with the grant.",
        error_messages=sentences(PROOF_MISSING, max_length=PROOF_MISSING),
    )
    fencingToken = serializers.IntegerField(  # noqa: N815 - the contract's style
        min_value=0,
        max_value=2**63 - 1,
        help_text="The fencing token that came with the grant.",
        error_messages=sentences(PROOF_MISSING),
    )


def grant_fields(grant: Grant, expiry: Expiry) -> dict[str, Any]:
    """A session that a program has acquired; times in seconds. `secret` is for its holder alone."""
    return {
        "success": True,
        "service": grant.service_id,
        "sessionId": public_id(grant.session_id),
        "secret": grant.session_id,
        "fencingToken": grant.fencing_token,
        "ttl": grant.ttl,
        "idleTimeout": grant.idle_timeout,
        **expiry_fields(expiry),
        "renewEvery": round(min(grant.ttl, grant.idle_timeout) / 3, 3),
    }


def expiry_fields(expiry: Expiry) -> dict[str, Any]:
    return {"expiresIn": round(expiry.left, 3), "expiresAt": expiry.at}


def service_fields(state: State) -> dict[str, Any]:
    return {"statusKey": state.status_key, **public_service(state)}


def lease_fields(lease: Lease, *, now: datetime, yours: bool, person: str | None) -> dict[str, Any]:
    """A running session. `person` is for operators and for the holder alone."""
    assert lease.session_id and lease.started_at and lease.last_activity_at and lease.expires_at  # noqa: S101, PT018
    return {
        "service": lease.service_id,
        "sessionId": public_id(lease.session_id),
        "fencingToken": lease.fencing_token,
        "startTime": milliseconds(lease.started_at),
        "lastActivity": milliseconds(lease.last_activity_at),
        "expiresAt": milliseconds(lease.expires_at),
        "duration": milliseconds(now) - milliseconds(lease.started_at),
        "offered": lease.offered_to is not None,
        "yours": yours,
        "person": person,
    }


def ticket_fields(ticket: Ticket, place: Place | None, *, yours: bool, person: str) -> dict[str, Any]:
    return {
        "id": ticket.pk,
        "service": ticket.service_id,
        "position": place.number if place else None,
        "enqueuedAt": milliseconds(ticket.enqueued_at),
        "expiresAt": milliseconds(ticket.expires_at),
        "yours": yours,
        "person": person,
    }


def hold_fields(hold: Hold, people: Mapping[str, str], *, owner: str | None, by: bool) -> dict[str, Any]:
    """An ended session; with `by`, which operator ended it and why."""
    return {
        "id": hold.pk,
        "service": hold.service_id,
        "sessionId": public_id(hold.session_id),
        "fencingToken": hold.fencing_token,
        "enqueuedAt": milliseconds(hold.enqueued_at) if hold.enqueued_at else None,
        "startTime": milliseconds(hold.started_at),
        "lastActivity": milliseconds(hold.last_activity_at),
        "endedAt": milliseconds(hold.ended_at),
        "outcome": hold.outcome,
        "yours": hold.owner == owner,
        "person": people[hold.owner],
        "endedBy": hold.ended_by if by else "",
        "reason": hold.reason if by else "",
    }
