"""Who holds what, and the end of it by force."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from leases import operations
from leases.admin.confirmation import Confirmation, Subject
from leases.admin.reading import NOTHING, span
from leases.models import Lease
from leases.owners import names
from leases.person_column import PersonAdmin
from leases.status import public_id


def _force_release(key: str, actor: str, reason: str) -> bool:
    service_id, _, fencing_token = key.partition(":")
    return operations.force_release(service_id, int(fencing_token), actor=actor, reason=reason)


FORCE_RELEASE = Confirmation(
    title="Force-release",
    explanation="The session ends at once and the next in the queue begins. Its holder hears at the next "
    "heartbeat, some seconds later, that an administrator ended it: the work is cancelled then, and nothing "
    "of it is saved but what was said of an answer, marked as incomplete.",
    reason_label="Reason",
    button="Yes, end it",
    carry_out=_force_release,
    done="Ended: {label}.",
    missed="Had ended by itself already, and nobody else was touched: {label}.",
)


def key_of(service_id: str, fencing_token: int) -> str:
    """A session's key on the page that confirms its end: its token, which no later session has."""
    return f"{service_id}:{fencing_token}"


def force_release_url(keys: list[str]) -> str:
    """Where to confirm the end of these sessions."""
    return f"{reverse('admin:leases_lease_force_release')}?{urlencode({'subject': keys}, doseq=True)}"


@admin.register(Lease)
class LeaseAdmin(PersonAdmin):
    """One row a service. Times are the database's."""

    list_display = ("service", "state", "holder", "held_for", "idle_for", "expires_in", "waited", "button")
    list_select_related = ("service",)
    fields = readonly_fields = (
        *("service", "state", "holder", "session", "fencing_token", "started_at", "held_for"),
        *("idle_for", "expires_in", "waited", "ttl", "idle_timeout", "button"),
    )  # and not the session's secret
    actions = ("force_release",)

    class Media:
        js = ("js/admin-live.js",)
        css = {"all": ("css/admin.css",)}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().changelist_view(request, {"title": "The leases now", **(extra_context or {})})

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_force_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("leases.force_release")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lease]:
        leases: QuerySet[Lease] = super().get_queryset(request).annotate(now=Now())
        return leases

    @admin.display
    def state(self, lease: Any) -> str:
        if not _is_live(lease):
            return "free"
        return "offered to the next in the queue" if lease.offered_to else "held"

    @admin.display
    def holder(self, lease: Any) -> str:
        return self.person(lease) if _is_live(lease) else NOTHING

    @admin.display(description="session as the status lists it")
    def session(self, lease: Any) -> str:
        return public_id(lease.session_id) if _is_live(lease) else NOTHING

    @admin.display
    def held_for(self, lease: Any) -> str:
        return span(lease.now - lease.started_at) if _is_live(lease) else NOTHING

    @admin.display
    def idle_for(self, lease: Any) -> str:
        return span(lease.now - lease.last_activity_at) if _is_live(lease) else NOTHING

    @admin.display
    def expires_in(self, lease: Any) -> str:
        return span(lease.expires_at - lease.now) if _is_live(lease) else NOTHING

    @admin.display(description="waited")
    def waited(self, lease: Any) -> str:
        if not _is_live(lease) or lease.enqueued_at is None:
            return NOTHING
        return span(lease.started_at - lease.enqueued_at)

    @admin.display(description="deeds")
    def button(self, lease: Any) -> str:
        if not _is_live(lease):
            return ""
        url = force_release_url([key_of(lease.service_id, lease.fencing_token)])
        return format_html('<a class="button" href="{}">Force-release…</a>', url)

    @admin.action(description="Force-release the selected sessions", permissions=["force_release"])
    def force_release(self, request: HttpRequest, leases: QuerySet[Lease]) -> HttpResponse:
        live = [key_of(lease.service_id, lease.fencing_token) for lease in leases if _is_live(lease)]
        return HttpResponseRedirect(force_release_url(live))

    def get_urls(self) -> list[URLPattern]:
        confirm = path(
            "force-release/",
            self.admin_site.admin_view(self.confirm_force_release),
            name="leases_lease_force_release",
        )
        return [confirm, *super().get_urls()]

    def confirm_force_release(self, request: HttpRequest) -> HttpResponse:
        """GET: the question. POST: the deed."""
        if not self.has_force_release_permission(request):
            raise PermissionDenied
        asked = request.POST.getlist("subject") or request.GET.getlist("subject")
        live = {key_of(lease.service_id, lease.fencing_token): lease for lease in _live_leases()}
        if request.method == "POST":
            subjects = [Subject(key, _label(live.get(key), key)) for key in asked if _is_key(key)]
        else:
            subjects = [Subject(key, _label(live[key], key)) for key in asked if key in live]
        return FORCE_RELEASE.answer(request, self, subjects)


def _live_leases() -> QuerySet[Lease]:
    return Lease.objects.live().select_related("service").annotate(now=Now())


def _is_live(lease: Any) -> bool:
    return lease.session_id is not None and lease.expires_at > lease.now


def _is_key(key: str) -> bool:
    service_id, _, fencing_token = key.partition(":")
    return bool(service_id) and fencing_token.isdecimal() and len(fencing_token) < 19


def _label(lease: Any, key: str) -> str:
    if lease is None:
        return f"session {key}"
    holder = names([lease.owner])[lease.owner]
    return f"{lease.service}, held by {holder} for {span(lease.now - lease.started_at)}"
