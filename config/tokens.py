"""Tokens for programs: shown once, stored as a digest."""

from knox.models import get_token_model
from rest_framework.authentication import BasicAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.authentication import TokenAuthentication


class Tokens(APIView):
    """POST with name and password (HTTP Basic): a new token. DELETE with a token: revoke it."""

    authentication_classes = [TokenAuthentication, BasicAuthentication]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        _, token = get_token_model().objects.create(user=request.user)
        return Response({"success": True, "token": token}, status=201)

    def delete(self, request: Request) -> Response:
        if request.auth is not None:
            request.auth.delete()
        return Response({"success": True, "message": "The token is revoked."})
