"""What the document routes accept and answer."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from documents.models import Chunk, ContentType, Document
from documents.search import Found, Hit
from leases.fields import BoundedList, RequestSerializer, sentences

NO_CONTENT = "Content is required"


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


class TagsField(BoundedList):
    child = serializers.CharField(max_length=50, error_messages=sentences("Each tag must be a short text."))


class NewDocument(RequestSerializer):
    """What may be said of a document, however it is sent."""

    title = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=200,
        error_messages=sentences(
            "The title must be text.", max_length="Please choose a title of at most 200 characters."
        ),
    )
    tags = TagsField(
        default=list,
        max_length=20,
        error_messages=sentences("Tags must be a list of short texts, at most 20."),
    )
    summary = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=2000,
        error_messages=sentences(
            "The summary must be text.", max_length="Please keep the summary to at most 2000 characters."
        ),
    )


class PastedDocument(NewDocument):
    """A document sent as JSON, which has no file's name to take a title from."""

    title = serializers.CharField(
        max_length=200,
        error_messages=sentences(
            "Title is required", max_length="Please choose a title of at most 200 characters."
        ),
    )
    content = serializers.CharField(error_messages=sentences(NO_CONTENT), trim_whitespace=False)
    contentType = serializers.ChoiceField(  # noqa: N815 - the contract's name
        ContentType.choices,
        default=ContentType.TEXT,
        error_messages=sentences("The content type must be markdown or text."),
    )

    def validate_content(self, content: str) -> str:
        if not content.strip():
            raise serializers.ValidationError(NO_CONTENT)
        return content


class UploadedFile(NewDocument):
    """A document sent as a file of a form."""

    file = serializers.FileField(
        max_length=200,
        error_messages=sentences(
            "Please choose a file to upload.",
            empty="The file is empty. Please choose one with text in it.",
            max_length="The file's name is too long. Please shorten it to 200 characters.",
        ),
    )


class ConversionRequest(RequestSerializer):
    document_id = serializers.CharField(max_length=100, error_messages=sentences("Document ID is required"))


class EmbeddingRequest(RequestSerializer):
    documentId = serializers.CharField(  # noqa: N815 - the contract's name
        max_length=100, error_messages=sentences("Document ID is required"), source="document_id"
    )


class PageRequest(RequestSerializer):
    """Which part of a list: `limit` rows from `cursor` on."""

    limit = serializers.IntegerField(
        default=50,
        min_value=1,
        max_value=200,
        error_messages=sentences("Limit must be a number from 1 to 200."),
    )
    cursor = serializers.CharField(default="", allow_blank=True, max_length=100)
    search = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=200,
        error_messages={"max_length": "Please search for at most 200 characters."},
    )


class ChunkPageRequest(RequestSerializer):
    limit = serializers.IntegerField(
        default=500,
        min_value=1,
        max_value=1000,
        error_messages=sentences("Limit must be a number from 1 to 1000."),
    )
    cursor = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=2**31 - 1,
        error_messages=sentences("That cursor is not one of ours. Please start from the first page."),
    )


class SearchRequest(RequestSerializer):
    query = serializers.CharField(
        max_length=2000,
        error_messages=sentences(
            "A search query is required", max_length="Please search for at most 2000 characters."
        ),
    )
    limit = serializers.IntegerField(
        default=10,
        min_value=1,
        max_value=50,
        error_messages=sentences("Limit must be a number from 1 to 50."),
    )
    documentIds = BoundedList(  # noqa: N815 - the contract's name
        child=serializers.CharField(max_length=100),
        default=None,
        allow_null=True,
        max_length=50,
        error_messages=sentences(
            "Document IDs must be a list of ids.", max_length="Please choose at most 50 documents."
        ),
    )


def document_fields(document: Document) -> dict[str, Any]:
    """One document of a list."""
    return {
        "_id": str(document.pk),
        "title": document.title,
        "contentType": document.content_type,
        "fileSize": document.file_size,
        "wordCount": document.word_count,
        "uploadedAt": milliseconds(document.uploaded_at),
        "hasEmbedding": bool(document.embedding_model),
        "embeddingModel": document.embedding_model or None,
        "summary": document.summary,
        "tags": document.tags,
    }


def chunk_fields(chunk: Chunk) -> dict[str, Any]:
    """One chunk with its place in the text; the model is null before the conversion."""
    document = chunk.document
    return {
        "chunkIndex": chunk.index,
        "chunkText": chunk.text,
        "start": chunk.start,
        "end": chunk.end,
        "page": chunk.page,
        "heading": chunk.heading,
        "embeddingModel": document.embedding_model or None,
        "embeddingDimensions": document.embedding_dimensions,
    }


def hit_fields(hit: Hit) -> dict[str, Any]:
    """One search result."""
    return {
        "_id": str(hit.document.pk),
        "_score": hit.score,
        "title": hit.document.title,
        "snippet": hit.snippet,
        "chunkIndex": hit.chunk.index,
        "contentType": hit.document.content_type,
        "page": hit.chunk.page,
        "heading": hit.chunk.heading,
        "start": hit.chunk.start,
        "end": hit.chunk.end,
    }


def search_fields(found: Found) -> dict[str, Any]:
    return {
        "success": True,
        "results": [hit_fields(hit) for hit in found.hits],
        "total": len(found.hits),
        "searchType": "hybrid" if found.by_meaning else "keyword",
        "unconvertedDocuments": found.unconverted,
    }
