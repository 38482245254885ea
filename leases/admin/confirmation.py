"""One page between an operator's click and the deed: what will happen, to whom, and the reason for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse


@dataclass(frozen=True)
class Subject:
    """What is confirmed: `key` finds it again, `label` names it for people."""

    key: str
    label: str


@dataclass(frozen=True)
class Confirmation:
    """A deed that wants a reason.

    `carry_out` is called with each key, the operator's name and the reason, and says whether there was
    anything left to do. `done` and `missed` are the sentences for either case, with `{label}`.
    """

    title: str
    explanation: str
    reason_label: str
    button: str
    carry_out: Callable[[str, str, str], bool]
    done: str
    missed: str
    initial: str = ""

    def answer(
        self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]", subjects: Sequence[Subject]
    ) -> HttpResponse:
        """The page, or after its form was sent the deed and the way back to the list."""
        back = reverse(f"admin:leases_{model_admin.opts.model_name}_changelist")
        if not subjects:
            messages.warning(request, "There is nothing left to do: it has ended by itself meanwhile.")
            return HttpResponseRedirect(back)
        form = ReasonForm(request.POST or None, initial={"reason": self.initial}, label=self.reason_label)
        if request.method == "POST" and form.is_valid():
            self._carry_out(request, subjects, form.cleaned_data["reason"])
            return HttpResponseRedirect(back)
        context = {
            **model_admin.admin_site.each_context(request),
            "title": self.title,
            "opts": model_admin.opts,
            "confirmation": self,
            "subjects": subjects,
            "form": form,
            "back": back,
        }
        return TemplateResponse(request, "admin/leases/confirm.html", context)

    def _carry_out(self, request: HttpRequest, subjects: Sequence[Subject], reason: str) -> None:
        for subject in subjects:
            if self.carry_out(subject.key, request.user.get_username(), reason):
                messages.success(request, self.done.format(label=subject.label))
            else:
                messages.warning(request, self.missed.format(label=subject.label))


class ReasonForm(forms.Form):
    """Why an operator does it: required, and kept."""

    reason = forms.CharField(
        max_length=300,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 80, "class": "vLargeTextField"}),
        error_messages={"required": "Please say why: it is kept with your name."},
    )

    def __init__(self, *args: object, label: str, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["reason"].label = label
