"""The base of the routes by which operators step in."""

from abc import abstractmethod
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from leases.fields import RequestSerializer, valid_now
from leases.owned_view import OwnedView
from leases.serializers import Reason


class MayOperate(BasePermission):
    """Members of the staff who have the permission that the view `needs`."""

    message = "This is for operators. Please sign in with an account that may do it."

    def has_permission(self, request: Request, view: Any) -> bool:
        return may(request, view.needs)


def may(request: Request, permission: str) -> bool:
    """Whether the caller is of the staff and has this permission."""
    return bool(request.user.is_staff) and request.user.has_perm(permission)


class DeedView(OwnedView):
    """POST: a deed of an operator, recorded with their name and reason; 409 if nothing was left to do."""

    permission_classes = [MayOperate]
    needs: str
    shape: type[RequestSerializer] = Reason
    done: str
    missed: str

    def post(self, request: Request, **what: str) -> Response:
        asked = valid_now(self.shape, request.data)
        if self.carry_out(request.user.get_username(), asked, **what):
            return Response({"success": True, "message": self.done})
        return Response({"success": False, "error": self.missed}, status=409)

    @abstractmethod
    def carry_out(self, actor: str, asked: dict[str, Any], **what: str) -> bool:
        """Do it; False if there was nothing left to do. Raises Http404."""
