"""Who is asking: the one string by which leases, documents and conversations know their owner.

A logged-in user is "user:ID", by cookie or by token alike. Anybody else is "browser:RANDOM", kept in
their session. It is not the session's key: that is a secret, and it changes when they sign in.
"""

from uuid import uuid4

from django.http import HttpRequest
from rest_framework.request import Request

SESSION_KEY = "owner"


def owner_of(request: HttpRequest | Request) -> str | None:
    """The caller's owner string; None for a stranger to whom nothing can belong yet.

    Reads the session from the database: call it in a thread, not in the event loop.
    """
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    owner: str | None = request.session.get(SESSION_KEY)
    return owner


def settle_owner(request: HttpRequest | Request) -> str:
    """The caller's owner string, made and kept in their session if they had none: call it just before
    something is saved for them, so that nobody gets a session for merely asking."""
    owner = owner_of(request)
    if owner is None:
        owner = f"browser:{uuid4().hex}"
        request.session[SESSION_KEY] = owner
    return owner


PASSING = "passing:"


def passing_owner() -> str:
    """An owner for one request of a stranger, never seen again."""
    return f"{PASSING}{uuid4().hex}"


def may_come_back(owner: str) -> bool:
    """Whether a later request can be of the same owner."""
    return not owner.startswith(PASSING)
