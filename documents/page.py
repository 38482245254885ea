"""One page of a list of documents, newest first."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from uuid import UUID

from django.db.models import Q
from rest_framework.exceptions import ValidationError

from documents.models import Document, DocumentQuerySet


def page(documents: DocumentQuerySet, cursor: str, limit: int) -> tuple[list[Document], str | None]:
    """At most `limit` documents from the cursor on, without their text, and the next page's cursor.

    Rows that come or go between two pages neither repeat nor hide others. Raises ValidationError.
    """
    if cursor:
        uploaded_at, pk = _place(cursor)
        documents = documents.filter(Q(uploaded_at__lt=uploaded_at) | Q(uploaded_at=uploaded_at, pk__lt=pk))
    rows = list(documents.defer("text", "pages")[: limit + 1])
    return rows[:limit], _cursor(rows[limit - 1]) if len(rows) > limit else None


def _cursor(document: Document) -> str:
    return urlsafe_b64encode(f"{document.uploaded_at.isoformat()} {document.pk}".encode()).decode()


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        moment, pk = urlsafe_b64decode(cursor.encode()).decode().split(" ")
        return datetime.fromisoformat(moment).astimezone(UTC), UUID(pk)
    except (ValueError, OverflowError):
        raise ValidationError("That cursor is not one of ours. Please start from the first page.") from None
