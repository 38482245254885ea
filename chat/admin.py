"""Conversations as operators see them: that they exist, never what was said."""

from django.contrib import admin

from chat.models import Conversation
from leases.person_column import PersonAdmin


@admin.register(Conversation)
class ConversationAdmin(PersonAdmin):
    list_display = ("id", "person", "created_at", "updated_at")
    search_fields = ("id", "owner")
    fields = readonly_fields = ("id", "person", "created_at", "updated_at")
