"""Tokens for programs: shown once, stored as a digest."""

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from knox.models import get_token_model
from knox.settings import knox_settings
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config import schema
from config.authentication import BasicAuthentication, TokenAuthentication

SHOWN = 8  # characters of a token by which its owner knows it again


class Tokens(APIView):
    """POST with name and password (HTTP Basic): a new token. GET: what tokens there are.

    DELETE with a token: revoke it. DELETE `?all=true`: revoke all that its user has.
    """

    authentication_classes = [TokenAuthentication, BasicAuthentication]
    permission_classes = [IsAuthenticated]

    @schema.list_tokens
    def get(self, request: Request) -> Response:
        tokens = [
            {
                "begins": token.token_key[:SHOWN],
                "createdAt": round(token.created.timestamp() * 1000),
                "current": token == request.auth,
            }
            for token in self._tokens().order_by("created")
        ]
        return Response({"success": True, "tokens": tokens})

    @schema.create_token
    def post(self, request: Request) -> Response:
        most: int = knox_settings.TOKEN_LIMIT_PER_USER
        with transaction.atomic():
            User.objects.select_for_update().get(username=request.user.username)  # others count after us
            if self._tokens().count() >= most:
                raise PermissionDenied(
                    f"You have {most} tokens already. Please revoke those that you do not need, or all of "
                    "them: DELETE /api/auth/token?all=true."
                )
            _, token = get_token_model().objects.create(user=request.user)
        return Response({"success": True, "token": token}, status=201)

    @schema.revoke_token
    def delete(self, request: Request) -> Response:
        if request.query_params.get("all") == "true":
            self._tokens().delete()
            return Response({"success": True, "message": "All your tokens are revoked."})
        if request.auth is None:
            raise ValidationError("Please send the token to revoke, or ask for all of them: ?all=true.")
        request.auth.delete()
        return Response({"success": True, "message": "The token is revoked."})

    def _tokens(self) -> "QuerySet[Any]":
        tokens: QuerySet[Any] = get_token_model().objects.filter(user=self.request.user)
        return tokens
