"""Signing in by token."""

from typing import Any

from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class TokenAuthentication(KnoxAuthentication):  # type: ignore[misc]
    """Knox's, with an answer for bytes that are no text."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        try:
            found: tuple[Any, Any] | None = super().authenticate(request)
        except UnicodeError:
            raise AuthenticationFailed("Invalid token.") from None
        return found
