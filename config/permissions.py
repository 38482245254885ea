"""Who may use the API."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # which imports the default permissions itself
    from rest_framework.views import APIView


class MayUse(BasePermission):
    """Whoever has signed in, and anybody else where ANONYMOUS_USE is on."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return settings.ANONYMOUS_USE or bool(request.user.is_authenticated)
