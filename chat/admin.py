"""Conversations as operators see them: that they exist, never what was said."""

from django.contrib import admin

from chat.models import Conversation


@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "owner", "created_at", "updated_at")
    search_fields = ("id", "owner")
    fields = ("id", "owner", "created_at", "updated_at")
    readonly_fields = fields
