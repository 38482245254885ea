"""Documents as operators see them: that they exist, never what they say."""

from django.contrib import admin

from documents.models import Document


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "owner", "content_type", "file_size", "uploaded_at", "embedding_model")
    list_filter = ("content_type", "embedding_model")
    search_fields = ("id", "owner")
    fields = ("id", "owner", "content_type", "file_size", "word_count", "uploaded_at", "embedding_model")
    readonly_fields = fields
