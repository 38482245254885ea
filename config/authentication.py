"""Signing in by token, and by name and password."""

from typing import Any

from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied, Throttled
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from config.sign_in_tries import Tries

STALE = (
    "This page is older than your last signing in or out. Please reload it; what you have written is still "
    "there. (A program sends a token, or X-CSRFToken with its cookies.)"
)


class TokenAuthentication(KnoxAuthentication):  # type: ignore[misc]
    """Knox's, with an answer for bytes that are no text, and a quick one for who sends no token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        if "HTTP_AUTHORIZATION" not in request.META:
            return None
        try:
            found: tuple[Any, Any] | None = super().authenticate(request)
        except UnicodeError:
            raise AuthenticationFailed("Invalid token.") from None
        return found


class SessionAuthentication(authentication.SessionAuthentication):
    """DRF's, which protects those who have signed in; and other sites' pages may not send anything in the
    name of those who have not, whose session holds their documents all the same."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Raises PermissionDenied."""
        found = super().authenticate(request)
        if found is None and request.method not in SAFE_METHODS and "HTTP_ORIGIN" in request.META:
            check = CsrfViewMiddleware(lambda _: HttpResponse())
            if not check._origin_verified(request._request):  # type: ignore[attr-defined]
                raise PermissionDenied("This was sent by another site's page. Please use a page of ours.")
        return found

    def enforce_csrf(self, request: Request) -> None:
        """Raises PermissionDenied, in words for who has signed in or out in another tab meanwhile."""
        try:
            super().enforce_csrf(request)
        except PermissionDenied:
            raise PermissionDenied(STALE) from None


class BasicAuthentication(authentication.BasicAuthentication):
    """DRF's, which counts the tries: a view's throttles would come too late, after the password."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[Any, Any]:
        """Raises AuthenticationFailed and Throttled."""
        if "\0" in userid + password:  # of which PostgreSQL wants to hear nothing
            raise AuthenticationFailed("Invalid username/password.")
        tries = Tries(request, userid)
        if wait := tries.take():
            raise Throttled(wait)
        found = super().authenticate_credentials(userid, password, request)
        tries.forgive()
        return found
