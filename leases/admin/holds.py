"""The history of who held what, and its way into a spreadsheet."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse

from leases.admin.reading import NOTHING, span
from leases.database import in_database
from leases.models import Hold
from leases.owners import names
from leases.person_column import PersonAdmin

COLUMNS = (
    *("service", "person", "fencing_token", "enqueued_at", "started_at", "last_activity_at", "ended_at"),
    *("held_seconds", "waited_seconds", "outcome", "ended_by", "reason"),
)
ROWS_AT_ONCE = 2000
RECENT = 1000  # sessions, whose holders the filter offers


class PersonFilter(admin.SimpleListFilter):
    """Those who held a service lately."""

    title = "person"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        recent = Hold.objects.order_by("-id").values_list("owner", flat=True)[:RECENT]
        return sorted(names(recent).items(), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Hold]) -> QuerySet[Hold]:
        return queryset.filter(owner=self.value()) if self.value() else queryset


@admin.register(Hold)
class HoldAdmin(PersonAdmin):
    """The newest first."""

    list_display = ("service", "person", "started_at", "held_for", "waited", "outcome", "ended_by", "reason")
    list_filter = ("service", "outcome", "ended_at", PersonFilter)
    list_select_related = ("service",)
    search_fields = ("owner", "ended_by", "reason")
    ordering = ("-id",)
    show_full_result_count = False
    fields = readonly_fields = (
        *("service", "person", "fencing_token", "enqueued_at", "started_at", "last_activity_at", "ended_at"),
        *("held_for", "waited", "outcome", "ended_by", "reason"),
    )  # and not the session's secret
    change_list_template = "admin/leases/holds.html"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_export_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("leases.export_hold") and self.has_view_permission(request)

    @admin.display
    def held_for(self, hold: Hold) -> str:
        return span(hold.ended_at - hold.started_at)

    @admin.display
    def waited(self, hold: Hold) -> str:
        return NOTHING if hold.enqueued_at is None else span(hold.started_at - hold.enqueued_at)

    def get_urls(self) -> list[URLPattern]:
        export = path("export.csv", self.admin_site.admin_view(self.export), name="leases_hold_export")
        return [export, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        may_export = {"may_export": self.has_export_permission(request), "title": "Sessions that ended"}
        return super().changelist_view(request, (extra_context or {}) | may_export)

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """GET: the history, as the filters and the search of the list have it, as CSV."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            holds = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect(f"{reverse('admin:leases_hold_changelist')}?{ERROR_FLAG}=1")  # as the list does
        return StreamingHttpResponse(
            _csv(holds),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="holds.csv"', "Cache-Control": "no-store"},
        )


async def _csv(holds: QuerySet[Hold]) -> AsyncIterator[str]:
    """The rows a few thousand at a time, so that neither memory nor a transaction grows with the history."""
    yield _lines([COLUMNS])
    before: int | None = None
    while rows := await in_database(_older, holds, before):
        called = await in_database(names, {row.owner for row in rows})
        yield _lines(_cells(row, called[row.owner]) for row in rows)
        before = rows[-1].pk


def _older(holds: QuerySet[Hold], before: int | None) -> list[Hold]:
    if before is not None:
        holds = holds.filter(pk__lt=before)
    return list(holds.order_by("-pk")[:ROWS_AT_ONCE])


def _cells(hold: Hold, person: str) -> list[Any]:
    waited = None if hold.enqueued_at is None else (hold.started_at - hold.enqueued_at).total_seconds()
    return [
        *(hold.service_id, _inert(person), hold.fencing_token),
        *(moment and moment.isoformat() for moment in (hold.enqueued_at, hold.started_at)),
        *(hold.last_activity_at.isoformat(), hold.ended_at.isoformat()),
        *((hold.ended_at - hold.started_at).total_seconds(), waited),
        *(hold.outcome, _inert(hold.ended_by), _inert(hold.reason)),
    ]


def _inert(text: str) -> str:
    """Text that a spreadsheet would take for a formula, so that it does not."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
