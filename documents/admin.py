"""Documents as operators see them: that they exist, never what they say."""

from django.contrib import admin

from documents.models import Document
from leases.person_column import PersonAdmin


@admin.register(Document)
class DocumentAdmin(PersonAdmin):
    list_display = ("id", "person", "content_type", "file_size", "uploaded_at", "embedding_model")
    list_filter = ("content_type", "embedding_model")
    search_fields = ("id", "owner")
    fields = readonly_fields = (
        *("id", "person", "content_type", "file_size", "word_count", "uploaded_at", "embedding_model"),
    )
