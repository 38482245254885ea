"""What operators did, for good."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from leases.models import Operation
from leases.owners import names


@admin.register(Operation)
class OperationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("at", "actor", "deed", "service", "reason")
    list_filter = ("service", "deed", "at")
    list_select_related = ("service",)
    search_fields = ("actor", "reason")
    fields = readonly_fields = ("at", "actor", "deed", "service", "whose", "reason")
    show_full_result_count = False

    @admin.display(description="whose session or place")
    def whose(self, operation: Operation) -> str:
        return names([operation.subject])[operation.subject]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().changelist_view(request, {"title": "What operators did", **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
