"""The operators' site."""

from functools import wraps
from typing import Any
from urllib.parse import unquote

from django.contrib.admin import AdminSite
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache


@method_decorator([never_cache, login_not_required], name="login")
class Site(AdminSite):
    """The admin, without a second door: everybody signs in on the one page that counts the tries."""

    site_header = site_title = "Leasehold"

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """The view, where the request names nothing that PostgreSQL would refuse to look for."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if _names_nul(request):
                raise Http404
            response: HttpResponseBase = view(request, *args, **kwargs)
            return response

        return super().admin_view(guarded, cacheable)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead to the sign-in page. Raises PermissionDenied for who has signed in and is no operator."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get(REDIRECT_FIELD_NAME) or "/admin/")


def _names_nul(request: HttpRequest) -> bool:
    """Whether a NUL character stands in the address or in the names of what is to be done something to."""
    posted = [name for key in ("subject", "_selected_action") for name in request.POST.getlist(key)]
    return any("\0" in name for name in (unquote(request.get_full_path()), *posted))
