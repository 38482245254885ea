"""Lists of the admin that say whose a row is, in names instead of owner strings."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.http import HttpRequest

from leases.database import delete_whole
from leases.owners import names, owners_called


class PersonChangeList(ChangeList):
    """Looks up the names of a whole page of rows in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        called = names(row.owner for row in self.result_list)
        for row in self.result_list:
            row.called = called[row.owner]


class PersonAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that have an `owner`: the column `person`, and a search for names. Nothing is edited by hand."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PersonChangeList

    @admin.display(description="person", ordering="owner")
    def person(self, row: Any) -> str:
        called: str = row.called if hasattr(row, "called") else names([row.owner])[row.owner]
        return called

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if search_term:
            found |= queryset.filter(owner__in=owners_called(search_term))
        return found, duplicates

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """The rows themselves: what goes with them may be thousands of others, and is not for reading."""
        return [str(row) for row in objs], {str(self.opts.verbose_name_plural): len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, self.get_queryset(request).filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        delete_whole(queryset)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
