"""Who is asking: the one string by which leases, documents and conversations know their owner.

A logged-in user is "user:ID", by cookie or by token alike; a command of `manage.py lease run` is
"command:HOST:PID:RANDOM". Anybody else is "browser:RANDOM", kept in
their session. It is not the session's key: that is a secret, and it changes when they sign in.
"""

from collections.abc import Iterable
from os import getpid
from socket import gethostname
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from rest_framework.request import Request

SESSION_KEY = "owner"


def owner_of(request: HttpRequest | Request) -> str | None:
    """The caller's owner string; None for a stranger to whom nothing can belong yet.

    Reads the session from the database: call it in a thread, not in the event loop.
    """
    if request.user.is_authenticated:
        return owner_of_user(request.user.pk)
    owner: str | None = request.session.get(SESSION_KEY)
    return owner


def brings_nothing(request: HttpRequest | Request) -> bool:
    """Whether the caller is a stranger for certain, without a session and without a token or password: the
    database need not be asked about them."""
    return "HTTP_AUTHORIZATION" not in request.META and settings.SESSION_COOKIE_NAME not in request.COOKIES


def settle_owner(request: HttpRequest | Request) -> str:
    """The caller's owner string, made and kept in their session if they had none: call it just before
    something is saved for them, so that nobody gets a session for merely asking."""
    owner = owner_of(request)
    if owner is None:
        owner = f"browser:{uuid4().hex}"
        request.session[SESSION_KEY] = owner
    return owner


PASSING = "passing:"
COMMAND = "command:"
USER = "user:"
HOST_MAX = 56  # characters: an owner has at most 80
SHOWN_OF_RANDOM = 8  # characters: enough to tell two visitors apart


def passing_owner() -> str:
    """An owner for one request of a stranger, never seen again."""
    return f"{PASSING}{uuid4().hex}"


def command_owner() -> str:
    """A new owner for one command of this process; it says where to find it.

    Containers may share the host's name, and number their processes alike.
    """
    return f"{COMMAND}{gethostname()[:HOST_MAX]}:{getpid()}:{uuid4().hex[:6]}"


def may_come_back(owner: str) -> bool:
    """Whether a later request can be of the same owner."""
    return not owner.startswith((PASSING, COMMAND))


def owner_of_user(pk: int | None) -> str:
    """The owner string of a user."""
    return f"{USER}{pk}"


def names(owners: Iterable[str]) -> dict[str, str]:
    """What operators call each owner: the user's name, "visitor …" for a browser; in one query."""
    strings = set(owners)
    numbers = {owner.removeprefix(USER) for owner in strings if owner.startswith(USER)}
    users = get_user_model().objects.filter(pk__in={number for number in numbers if number.isdecimal()})
    known = {owner_of_user(user.pk): user.get_username() for user in users.only("pk", "username")}
    return {owner: known.get(owner) or _described(owner) for owner in strings}


def _described(owner: str) -> str:
    kind, _, rest = owner.partition(":")
    if kind in ("browser", "passing"):
        return f"visitor {rest[:SHOWN_OF_RANDOM]}"
    return f"former user {rest}" if kind == "user" else owner


def shown(owner: str) -> str:
    """The owner as logs name them: a user's number, the beginning of what tells visitors apart."""
    kind, _, rest = owner.partition(":")
    if kind == "user":
        return owner
    return f"{kind}:{rest[:SHOWN_OF_RANDOM]}" if kind in ("browser", "passing") else kind


def owners_called(words: str, *, at_most: int = 100) -> list[str]:
    """The owner strings of the users in whose names the words stand."""
    field = get_user_model().USERNAME_FIELD
    users = get_user_model().objects.filter(**{f"{field}__icontains": words})
    return [owner_of_user(pk) for pk in users.values_list("pk", flat=True)[:at_most]]
