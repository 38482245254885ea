"""Signing in, out and up; what an anonymous visitor has made stays theirs when they sign in."""

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.db import IntegrityError, transaction
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.views.generic import FormView

from chat.models import Conversation
from config.sign_in_tries import Tries
from config.throttles import too_often
from documents.models import Document
from leases.owners import SESSION_KEY, owner_of_user


class SignUpForm(UserCreationForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("username",)


class SignIn(LoginView):
    """GET and POST: sign in, and take along what was made before."""

    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(sign_up=settings.SIGN_UP, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        name = request.POST.get("username", "")
        if wait := Tries(request, name).take():
            return _too_many(self, self.form_class(request, initial={"username": name[:150]}), wait)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: BaseForm) -> HttpResponse:
        before = self.request.session.get(SESSION_KEY)
        response = super().form_valid(form)  # type: ignore[arg-type]
        Tries(self.request, self.request.POST["username"]).forgive()
        _take_along(self.request, before)
        return response


class SignOut(LogoutView):
    """POST: sign out."""


@method_decorator(login_not_required, name="dispatch")
class SignUp(FormView):  # type: ignore[type-arg]
    """GET and POST: a new account, where the operator allows it (SIGN_UP)."""

    template_name = "accounts/sign_up.html"
    form_class = SignUpForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.SIGN_UP:
            raise Http404
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if wait := Tries(request, "").take():  # accounts are counted by address: their names are made up
            return _too_many(self, self.form_class(), wait)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: SignUpForm) -> HttpResponse:
        before = self.request.session.get(SESSION_KEY)
        try:
            user = form.save()
        except IntegrityError:  # somebody took the name while the password was hashed: a second click, say
            form.add_error("username", form.instance.unique_error_message(User, ("username",)))
            return self.form_invalid(form)
        login(self.request, user)
        _take_along(self.request, before)
        return redirect(settings.LOGIN_REDIRECT_URL)


def _too_many(view: SignIn | SignUp, form: BaseForm, wait: int) -> HttpResponse:
    """The empty form again, with nothing of the password looked at."""
    sentence, _ = too_often(wait)
    return view.render_to_response(
        view.get_context_data(form=form, too_often=sentence), status=429, headers={"Retry-After": str(wait)}
    )


def _take_along(request: HttpRequest, browser: str | None) -> None:
    """Give what belonged to this browser to the user who signed in on it."""
    if browser is None:
        return
    user = owner_of_user(request.user.pk)
    with transaction.atomic():
        Document.objects.filter(owner=browser).update(owner=user)
        Conversation.objects.filter(owner=browser).update(owner=user)
    request.session.pop(SESSION_KEY, None)
