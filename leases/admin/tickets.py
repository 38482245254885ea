"""Who waits, and the way out of the queue."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from leases import mutex, operations
from leases.admin.confirmation import Confirmation, Subject
from leases.admin.reading import NOTHING, span
from leases.models import Ticket
from leases.owners import names
from leases.person_column import PersonAdmin, PersonChangeList

REMOVE = Confirmation(
    title="Remove from the queue",
    explanation="Whoever waits there reads that an operator took them out. They may queue again, at the end.",
    reason_label="Reason",
    button="Yes, remove",
    carry_out=lambda key, actor, reason: operations.remove(int(key), actor=actor, reason=reason),
    done="Removed: {label}.",
    missed="Does not wait any more: {label}.",
)


class TicketChangeList(PersonChangeList):
    """Looks up the places of a whole page of tickets in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        places = mutex.places([ticket.waiter for ticket in self.result_list])
        for ticket in self.result_list:
            ticket.place = places.get(ticket.waiter)


@admin.register(Ticket)
class TicketAdmin(PersonAdmin):
    """The queues. Times are the database's."""

    list_display = ("service", "place", "person", "state", "waits_for", "expires_in", "button")
    list_filter = ("service",)
    list_select_related = ("service",)
    search_fields = ("owner",)
    fields = readonly_fields = (
        *("service", "place", "person", "state", "enqueued_at", "waits_for", "expires_in", "button"),
    )  # and not the waiter's secret
    actions = ("remove",)

    class Media:
        js = ("js/admin-live.js",)
        css = {"all": ("css/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TicketChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().changelist_view(request, {"title": "The queues now", **(extra_context or {})})

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("leases.remove_from_queue")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Ticket]:
        tickets: QuerySet[Ticket] = super().get_queryset(request).annotate(now=Now())
        return tickets

    @admin.display(ordering="id")
    def place(self, ticket: Any) -> str:
        found = ticket.place if hasattr(ticket, "place") else mutex.places([ticket.waiter]).get(ticket.waiter)
        return str(found.number) if found else NOTHING

    @admin.display
    def state(self, ticket: Any) -> str:
        if ticket.removed_at is not None:
            return "removed by an operator"
        if ticket.expires_at <= ticket.now:
            return "expired"
        return "waits" if ticket.process else "away, may come back"

    @admin.display(ordering="enqueued_at")
    def waits_for(self, ticket: Any) -> str:
        return span(ticket.now - ticket.enqueued_at)

    @admin.display
    def expires_in(self, ticket: Any) -> str:
        return span(ticket.expires_at - ticket.now)

    @admin.display(description="deeds")
    def button(self, ticket: Any) -> str:
        if not _is_live(ticket):
            return ""
        return format_html('<a class="button" href="{}">Remove…</a>', _remove_url([ticket.pk]))

    @admin.action(description="Remove the selected from the queue", permissions=["remove"])
    def remove(self, request: HttpRequest, tickets: QuerySet[Ticket]) -> HttpResponse:
        return HttpResponseRedirect(_remove_url([ticket.pk for ticket in tickets if _is_live(ticket)]))

    def get_urls(self) -> list[URLPattern]:
        confirm = path(
            "remove/", self.admin_site.admin_view(self.confirm_removal), name="leases_ticket_remove"
        )
        return [confirm, *super().get_urls()]

    def confirm_removal(self, request: HttpRequest) -> HttpResponse:
        """GET: the question. POST: the deed."""
        if not self.has_remove_permission(request):
            raise PermissionDenied
        asked = request.POST.getlist("subject") or request.GET.getlist("subject")
        numbers = [int(key) for key in asked[:MOST_AT_ONCE] if key.isdecimal() and len(key) < 19]
        waiting = Ticket.objects.live().select_related("service").annotate(now=Now()).in_bulk(numbers)
        called = names(ticket.owner for ticket in waiting.values())
        subjects = [
            Subject(str(number), _label(waiting.get(number), called, number))
            for number in numbers
            if number in waiting or request.method == "POST"
        ]
        return REMOVE.answer(request, self, subjects)


MOST_AT_ONCE = 200


def _remove_url(numbers: list[int]) -> str:
    return f"{reverse('admin:leases_ticket_remove')}?{urlencode({'subject': numbers}, doseq=True)}"


def _is_live(ticket: Any) -> bool:
    return bool(ticket.process) and ticket.expires_at > ticket.now


def _label(ticket: Any, called: dict[str, str], number: int) -> str:
    if ticket is None:
        return f"ticket {number}"
    waits_for = span(ticket.now - ticket.enqueued_at)
    return f"{called[ticket.owner]}, waiting for the {ticket.service} since {waits_for}"
