"""Every address of the site. API paths carry no trailing slash and accept one."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from config import tokens

handler400 = "config.errors.bad_request"
handler403 = "config.errors.forbidden"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="services-status")),
    path("admin/", admin.site.urls),
    re_path(r"^api/auth/token/?$", tokens.Tokens.as_view(), name="token"),
    path("api/", include("leases.urls")),
    path("api/", include("documents.urls")),
    path("api/", include("chat.urls")),
]
