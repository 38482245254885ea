"""Every address of the site. API paths carry no trailing slash and accept one."""

from django.contrib import admin
from django.urls import include, path, re_path

from chat import pages as chat_pages
from config import accounts, tokens
from documents import pages as documents_pages
from leases import views as lease_views

handler400 = "config.errors.bad_request"
handler403 = "config.errors.forbidden"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("", chat_pages.ChatPage.as_view(), name="chat-page"),
    path("c/<uuid:session_id>/", chat_pages.ChatPage.as_view(), name="conversation-page"),
    path("c/<uuid:session_id>/export.<str:kind>", chat_pages.Export.as_view(), name="export"),
    path("documents/", documents_pages.DocumentsPage.as_view(), name="documents-page"),
    path("documents/<uuid:document_id>/", documents_pages.DocumentPage.as_view(), name="document-page"),
    path("status/", lease_views.StatusPage.as_view(), name="status-page"),
    path("sign-in/", accounts.SignIn.as_view(), name="sign-in"),
    path("sign-out/", accounts.SignOut.as_view(), name="sign-out"),
    path("sign-up/", accounts.SignUp.as_view(), name="sign-up"),
    path("admin/", admin.site.urls),
    re_path(r"^api/auth/token/?$", tokens.Tokens.as_view(), name="token"),
    path("api/", include("leases.urls")),
    path("api/", include("documents.urls")),
    path("api/", include("chat.urls")),
]
