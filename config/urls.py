"""Every address of the site. API paths carry no trailing slash and accept one."""

from django.contrib import admin
from django.urls import include, path, re_path

from chat import pages as chat_pages
from config import accounts, api, errors, health, metrics, tokens
from config.throttles import throttled
from documents import pages as documents_pages
from leases.views import status as status_views

handler400 = "config.errors.bad_request"
handler403 = "config.errors.forbidden"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    # Django tries one after the other, so what programs ask all the time comes first.
    path("api/", include("chat.urls")),
    path("api/", include("leases.urls")),
    path("api/", include("documents.urls")),
    re_path(r"^api/?$", api.Root.as_view(), name="api"),
    re_path(r"^api/schema/?$", api.Description.as_view(), name="schema"),
    re_path(r"^api/docs/?$", api.Docs.as_view(), name="docs"),
    re_path(r"^api/auth/token/?$", tokens.Tokens.as_view(), name="token"),
    re_path(r"^api(?:/|$)", errors.api_not_found),  # the last of them
    path("", throttled(chat_pages.ChatPage.as_view()), name="chat-page"),
    path("c/<uuid:session_id>/", throttled(chat_pages.ChatPage.as_view()), name="conversation-page"),
    path("c/<uuid:session_id>/export.<str:kind>", chat_pages.Export.as_view(), name="export"),
    path("documents/", throttled(documents_pages.DocumentsPage.as_view()), name="documents-page"),
    path(
        "documents/<uuid:document_id>/",
        throttled(documents_pages.DocumentPage.as_view()),
        name="document-page",
    ),
    path("status/", status_views.StatusPage.as_view(), name="status-page"),
    path("sign-in/", accounts.SignIn.as_view(), name="sign-in"),
    path("sign-out/", accounts.SignOut.as_view(), name="sign-out"),
    path("sign-up/", accounts.SignUp.as_view(), name="sign-up"),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]
