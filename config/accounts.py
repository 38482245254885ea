"""Signing in, out and up; what an anonymous visitor has made stays theirs when they sign in."""

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import BaseUserCreationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.db import transaction
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.generic import FormView

from chat.models import Conversation
from documents.models import Document
from leases.owners import SESSION_KEY


class SignUpForm(BaseUserCreationForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("username",)


class SignIn(LoginView):
    """GET and POST: sign in, and take along what was made before."""

    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(sign_up=settings.SIGN_UP, **kwargs)

    def form_valid(self, form: BaseForm) -> HttpResponse:
        before = self.request.session.get(SESSION_KEY)
        response = super().form_valid(form)  # type: ignore[arg-type]
        _take_along(self.request, before)
        return response


class SignOut(LogoutView):
    """POST: sign out."""


class SignUp(FormView):  # type: ignore[type-arg]
    """GET and POST: a new account, where the operator allows it (SIGN_UP)."""

    template_name = "accounts/sign_up.html"
    form_class = SignUpForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.SIGN_UP:
            raise Http404
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: SignUpForm) -> HttpResponse:
        before = self.request.session.get(SESSION_KEY)
        login(self.request, form.save())
        _take_along(self.request, before)
        return redirect(settings.LOGIN_REDIRECT_URL)


def _take_along(request: HttpRequest, browser: str | None) -> None:
    """Give what belonged to this browser to the user who signed in on it."""
    if browser is None:
        return
    user = f"user:{request.user.pk}"
    with transaction.atomic():
        Document.objects.filter(owner=browser).update(owner=user)
        Conversation.objects.filter(owner=browser).update(owner=user)
    request.session.pop(SESSION_KEY, None)
