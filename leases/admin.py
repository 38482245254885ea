"""Operators see who holds what; only services can be edited, and never a lease or its history."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from leases.models import Hold, Lease, Service, Ticket


@admin.register(Service)
class ServiceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "id", "enabled", "ttl", "idle_timeout", "queue_limit")
    readonly_fields = ("id", "status_key")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # a service is code: a migration brings it together with its lease

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("service", "owner", "fencing_token", "started_at", "last_activity_at", "expires_at")
    fields = readonly_fields = (*list_display, "ttl", "idle_timeout")  # and not the session's secret


@admin.register(Ticket)
class TicketAdmin(ReadOnlyAdmin):
    list_display = ("service", "id", "owner", "enqueued_at", "expires_at")
    list_filter = ("service",)
    search_fields = ("owner",)
    fields = readonly_fields = list_display  # and not the waiter's secret


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("service", "owner", "started_at", "ended_at", "outcome", "ended_by")
    list_filter = ("service", "outcome")
    date_hierarchy = "ended_at"
    search_fields = ("owner", "reason")
    exclude = ("session_id",)
