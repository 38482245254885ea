"""The description of the whole API: what stands at its head, and what is true of every route."""

from functools import cache
from typing import Any

from drf_spectacular.authentication import BasicScheme, SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from config.errors import STRANGE
from leases.schema import Shape, Success, answer
from leases.views.status import Status

Endpoint = tuple[str, str, str, Any]

COMMON = {
    "400": ("Something in the request is missing or wrong.", STRANGE),
    "429": (
        "Too many requests of one caller.",
        "You are asking too fast. Please try again in a few seconds.",
    ),
}
WITH_ID = {
    "404": (
        "There is no such thing, or it is somebody else's.",
        "There is nothing at this address. Please check it for a typing error.",
    )
}
SIGNED_IN = {"401": ("The token is not valid, or the route needs one.", "Invalid token.")}
UNSAFE = {
    "403": (
        "A browser's request without its CSRF token.",
        "CSRF Failed: CSRF token missing.",
    )
}
WITH_BODY = {
    "413": ("More than the route takes.", "That is too much at once: send at most 2 MB. Please split it."),
    "415": (
        "The body is of a kind that the route does not read.",
        'Unsupported media type "text/csv" in request.',
    ),
}
RETRY_AFTER = {
    "schema": {"type": "integer"},
    "required": True,
    "description": "Seconds after which another try makes sense.",
}
REQUEST_ID = {
    "schema": {"type": "string"},
    "description": "An id of the request, made up if the client sends none; the server's logs name it.",
}


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a program signs in."""

    target_class = "config.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token ` and the token, as in `Authorization: Token a4b1922725…`. "
            "`POST /api/auth/token` makes one.",
        }


class SignedInScheme(SessionScheme):  # type: ignore[no-untyped-call]
    """How a browser that has signed in is known."""

    target_class = "config.authentication.SessionAuthentication"


class PasswordScheme(BasicScheme):  # type: ignore[no-untyped-call]
    """How a token is asked for."""

    target_class = "config.authentication.BasicAuthentication"


def endpoints(endpoints: list[Endpoint], **_: Any) -> list[Endpoint]:
    """One path for each route, though a trailing slash is accepted; the status too, a plain view."""
    found = [(_path(path, regex), regex, method, callback) for path, regex, method, callback in endpoints]
    return [*found, ("/api/services/status", "", "GET", Status.as_view())]


def _path(path: str, regex: str) -> str:
    if "(?:RAG/)?" in regex:
        path = path.replace("/api/", "/api/RAG/", 1)  # as the contract has it
    return path.removesuffix("/") if regex.endswith("/?$") else path


def common_to_all(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """What is true of every route, where it does not say so itself: errors, and the request's id."""
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            errors = COMMON | (WITH_ID if "{" in path else {})
            if operation.get("security"):
                errors |= SIGNED_IN | (UNSAFE if method != "get" else {})
            if "requestBody" in operation:
                errors |= WITH_BODY
            responses = operation["responses"]
            for status, (description, sentence) in errors.items():
                responses.setdefault(status, _error(description, sentence))
            responses["429"].setdefault("headers", {"Retry-After": RETRY_AFTER})
            operation.setdefault("parameters", []).append(
                {"in": "header", "name": "X-Request-ID", **REQUEST_ID}
            )
            for response in responses.values():
                response.setdefault("headers", {})["X-Request-ID"] = REQUEST_ID
            operation["responses"] = dict(sorted(responses.items()))
    return result


def _error(description: str, sentence: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "examples": {"example": {"value": {"success": False, "error": sentence}}},
            }
        },
    }


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI document. It is the same for everybody, and made once."""
    document: dict[str, Any] = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return document


class Resources(Success):
    """Where to go on."""

    resources = serializers.DictField(
        child=serializers.URLField(), help_text="The address of each resource by its name."
    )


class NewToken(Success):
    """A token for programs, which is shown this once."""

    token = serializers.CharField(help_text="Send it as `Authorization: Token` and this.")


class TokenRevoked(Success):
    """The token is of no use any more."""

    message = serializers.CharField(help_text="A sentence that says so.")


root = extend_schema(
    operation_id="root",
    tags=["api"],
    summary="What there is",
    description="The addresses of the API's resources.",
    responses={
        200: answer(
            Resources,
            "The addresses.",
            some={
                "success": True,
                "resources": {"documents": "https://leasehold.example/api/documents"},
            },
        )
    },
)

description = extend_schema(
    operation_id="description",
    tags=["api"],
    summary="This description",
    description="The OpenAPI 3.1 document that describes the API.",
    responses={
        200: OpenApiResponse(
            OpenApiTypes.OBJECT,
            "The document.",
            examples=[
                OpenApiExample("beginning", value={"openapi": "3.1.0", "info": {"title": "Leasehold"}})
            ],
        )
    },
)

create_token = extend_schema(
    operation_id="create_token",
    tags=["tokens"],
    summary="Make a token",
    description="With name and password (HTTP Basic). The token acts as that user until it is revoked.",
    request=None,
    responses={201: answer(NewToken, "The token.", token={"success": True, "token": "a4b1922725344c43ae69"})},
)


class KnownToken(Shape):
    """A token of the caller, by which it is known again and never used."""

    begins = serializers.CharField(help_text="The token's first characters.")
    createdAt = serializers.IntegerField(help_text="When it was made, in milliseconds since 1970.")  # noqa: N815
    current = serializers.BooleanField(help_text="Whether the request was made with it.")


class TokenList(Success):
    """The caller's tokens."""

    tokens = KnownToken(many=True, help_text="The tokens, the oldest first.")


list_tokens = extend_schema(
    operation_id="list_tokens",
    tags=["tokens"],
    summary="The caller's tokens",
    description="What is known of them: a token itself is shown once, when it is made.",
    responses={
        200: answer(
            TokenList,
            "The tokens.",
            one={
                "success": True,
                "tokens": [{"begins": "a4b19227", "createdAt": 1795372832575, "current": True}],
            },
        )
    },
)

revoke_token = extend_schema(
    operation_id="revoke_token",
    tags=["tokens"],
    summary="Revoke a token",
    description="The one with which the request is made, or all of the caller's.",
    parameters=[
        OpenApiParameter(
            "all",
            bool,
            description="`true` revokes every token of the caller.",
            examples=[OpenApiExample("all of them", value=True)],
        )
    ],
    request=None,
    responses={
        200: answer(
            TokenRevoked, "It is revoked.", revoked={"success": True, "message": "The token is revoked."}
        )
    },
)
