"""Documents as their text, and the chunks of it that search and chat work with."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import models
from django.http import Http404

from documents.vectors import VectorField

NOT_FOUND = "There is no such document among yours. The list of your documents shows those that exist."


class ContentType(models.TextChoices):
    MARKDOWN = "markdown"
    TEXT = "text"


class ReadableJSON(json.JSONEncoder):
    """Letters as they are, so that a search for "é" finds it in the database's text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"ensure_ascii": False})


class DocumentQuerySet(models.QuerySet["Document"]):
    def for_owner(self, owner: str | None) -> "DocumentQuerySet":
        """What this owner may see, and the only way by which a request reaches a document."""
        return self.none() if owner is None else self.filter(owner=owner)

    def pick(self, ids: Sequence[str] | None) -> "DocumentQuerySet":
        """These documents of the set, or all of it for None. Raises Http404 if one is not in it."""
        if ids is None:
            return self
        try:
            wanted = {UUID(pk) for pk in ids}
        except ValueError:
            raise Http404(NOT_FOUND) from None
        picked = self.filter(pk__in=wanted)
        if picked.count() != len(wanted):
            raise Http404(NOT_FOUND)
        return picked

    def pick_one(self, pk: str) -> "Document":
        """This document of the set. Raises Http404 if it is not in it."""
        return self.pick([pk]).get()


class Document(models.Model):
    """One uploaded document. Its text never changes; what is kept of a file is the text read from it.

    `pages` holds the offset in `text` at which each page begins, empty where the format has no pages.
    `embedding_model` names the model of the vectors of all its chunks, empty before the conversion.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    owner = models.CharField(max_length=80, editable=False)
    title = models.CharField(max_length=200)
    summary = models.CharField(max_length=2000, blank=True)
    tags = models.JSONField(default=list, blank=True, encoder=ReadableJSON)
    content_type = models.CharField(max_length=10, choices=ContentType)
    text = models.TextField(editable=False)
    pages = models.JSONField(default=list, editable=False)
    file_size = models.PositiveIntegerField(help_text="Bytes as uploaded.", editable=False)
    word_count = models.PositiveIntegerField(editable=False)
    uploaded_at = models.DateTimeField(auto_now_add=True)
    embedding_model = models.CharField(max_length=200, blank=True, editable=False)
    embedding_dimensions = models.PositiveIntegerField(null=True, editable=False)
    converted_at = models.DateTimeField(null=True, editable=False)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ("-uploaded_at", "-id")
        indexes = [models.Index(fields=["owner", "-uploaded_at", "-id"], name="document_newest")]

    def __str__(self) -> str:
        return f"document {self.pk}"  # not its title, which is its owner's business


class Chunk(models.Model):
    """A piece of a document: `document.text[start:end] == text`, its vector null before the conversion."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="chunks")
    index = models.PositiveIntegerField()
    text = models.TextField()
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    page = models.PositiveIntegerField(null=True, help_text="Counted from 1.")
    heading = models.CharField(max_length=200, blank=True)
    vector = VectorField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["document", "index"], name="chunk_once")]

    def __str__(self) -> str:
        return f"chunk {self.index} of {self.document_id}"
