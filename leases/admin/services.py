"""The overview: each service with its holder, its queue and its day."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode

from leases import figures, operations
from leases.admin.confirmation import Confirmation, Subject
from leases.admin.leases import force_release_url, key_of
from leases.admin.reading import NOTHING, span
from leases.models import Lease, Service
from leases.owners import names
from leases.status import states

DISABLE = Confirmation(
    title="Switch off",
    explanation="Nobody new is served and the queue is sent away; whoever holds the service may finish.",
    reason_label="Note that callers read",
    button="Yes, switch off",
    carry_out=lambda key, actor, note: operations.disable(key, actor=actor, note=note),
    done="Switched off: {label}.",
    missed="Was switched off already: {label}.",
    initial=Service._meta.get_field("disabled_message").default,
)
ENABLE = Confirmation(
    title="Switch on",
    explanation="The service takes callers again.",
    reason_label="Reason",
    button="Yes, switch on",
    carry_out=lambda key, actor, reason: operations.enable(key, actor=actor, reason=reason),
    done="Switched on: {label}.",
    missed="Was switched on already: {label}.",
)


class Overview(ChangeList):
    """Looks up what goes on at all services in four queries, however many there are."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        now = {state.id: state for state in states()}
        today = figures.today()
        called = names(state.owner for state in now.values() if state.owner)
        tokens = dict(Lease.objects.values_list("service_id", "fencing_token"))
        for service in self.result_list:
            service.now = now[service.pk]
            service.today = today.get(service.pk, figures.Figures())
            service.holder_called = called.get(service.now.owner or "", NOTHING)
            service.fencing_token = tokens.get(service.pk)


@admin.register(Service)
class ServiceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What is edited here are names, sentences and times; switching on and off is a deed with a reason."""

    list_display = (
        *("name", "state", "buttons", "holder", "idle_for", "expires_in", "queue"),
        *("holds_today", "hold", "wait"),
    )
    fields = (
        *("id", "status_key", "name", "enabled", "disabled_message", "busy_message", "own_busy_message"),
        *("ttl", "idle_timeout", "queue_limit"),
    )
    readonly_fields = ("id", "status_key", "enabled", "disabled_message")
    actions = ("disable", "enable")

    class Media:
        js = ("js/admin-live.js",)
        css = {"all": ("css/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Overview

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().changelist_view(request, {"title": "The services now", **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # a service is code: a migration brings it together with its lease

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_disable_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("leases.disable_service")

    def has_enable_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("leases.enable_service")

    def save_model(
        self, request: HttpRequest, obj: Service, form: "ModelForm[Service]", change: bool
    ) -> None:
        obj.save(update_fields=form.changed_data)  # another operator may be switching it off meanwhile

    @admin.display
    def state(self, service: Any) -> str:
        held = "in use" if service.now.session_id else "free"
        return held if service.now.enabled else f"switched off, {held}"

    @admin.display
    def holder(self, service: Any) -> str:
        called: str = service.holder_called
        return called

    @admin.display
    def idle_for(self, service: Any) -> str:
        last = service.now.last_activity_at
        return NOTHING if last is None else span((service.now.now - last) / 1000)

    @admin.display
    def expires_in(self, service: Any) -> str:
        return span(service.now.expires_in)

    @admin.display
    def queue(self, service: Any) -> str:
        url = f"{reverse('admin:leases_ticket_changelist')}?{urlencode({'service__id__exact': service.pk})}"
        return format_html('<a href="{}">{} waiting</a>', url, service.now.queue_length)

    @admin.display(description="holds today")
    def holds_today(self, service: Any) -> int:
        holds: int = service.today.holds
        return holds

    @admin.display(description="hold: median, longest")
    def hold(self, service: Any) -> str:
        return f"{span(service.today.median_hold)}, {span(service.today.longest_hold)}"

    @admin.display(description="wait: median, longest")
    def wait(self, service: Any) -> str:
        return f"{span(service.today.median_wait)}, {span(service.today.longest_wait)}"

    @admin.display(description="deeds")
    def buttons(self, service: Any) -> str:
        deed = "disable" if service.now.enabled else "enable"
        links = [(_url(deed, [service.pk]), "Disable…" if service.now.enabled else "Enable…")]
        if service.now.session_id:
            links.insert(
                0, (force_release_url([key_of(service.pk, service.fencing_token)]), "Force-release…")
            )
        return format_html_join(" ", '<a class="button" href="{}">{}</a>', links)

    @admin.action(description="Disable the selected services", permissions=["disable"])
    def disable(self, request: HttpRequest, services: QuerySet[Service]) -> HttpResponse:
        return HttpResponseRedirect(_url("disable", [service.pk for service in services]))

    @admin.action(description="Enable the selected services", permissions=["enable"])
    def enable(self, request: HttpRequest, services: QuerySet[Service]) -> HttpResponse:
        return HttpResponseRedirect(_url("enable", [service.pk for service in services]))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("disable/", view(self.confirm_disabling), name="leases_service_disable"),
            path("enable/", view(self.confirm_enabling), name="leases_service_enable"),
            *super().get_urls(),
        ]

    def confirm_disabling(self, request: HttpRequest) -> HttpResponse:
        """GET: the question. POST: the deed."""
        if not self.has_disable_permission(request):
            raise PermissionDenied
        return DISABLE.answer(request, self, _subjects(request))

    def confirm_enabling(self, request: HttpRequest) -> HttpResponse:
        """GET: the question. POST: the deed."""
        if not self.has_enable_permission(request):
            raise PermissionDenied
        return ENABLE.answer(request, self, _subjects(request))


def _url(deed: str, ids: list[str]) -> str:
    return f"{reverse(f'admin:leases_service_{deed}')}?{urlencode({'subject': ids}, doseq=True)}"


def _subjects(request: HttpRequest) -> list[Subject]:
    asked = request.POST.getlist("subject") or request.GET.getlist("subject")
    services = Service.objects.in_bulk(asked)
    return [Subject(key, services[key].name) for key in asked if key in services]
