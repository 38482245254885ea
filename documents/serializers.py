"""What the document routes accept and answer."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from documents.models import Chunk, ContentType, Document
from documents.search import Found, Hit
from leases.fields import BoundedList, RequestSerializer, Text, milliseconds, sentences

NO_CONTENT = "Content is required"


class TagsField(BoundedList):
    child = Text(max_length=50, error_messages=sentences("Each tag must be a short text."))


class NewDocument(RequestSerializer):
    """What may be said of a document, however it is sent."""

    title = Text(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="Its title; without one, the file's name gives it one.",
        error_messages=sentences(
            "The title must be text.", max_length="Please choose a title of at most 200 characters."
        ),
    )
    tags = TagsField(
        default=list,
        max_length=20,
        help_text="Short texts by which to find it.",
        error_messages=sentences("Tags must be a list of short texts, at most 20."),
    )
    summary = Text(
        default="",
        allow_blank=True,
        max_length=2000,
        help_text="What it is about, in a few words.",
        error_messages=sentences(
            "The summary must be text.", max_length="Please keep the summary to at most 2000 characters."
        ),
    )


class PastedDocument(NewDocument):
    """A document sent as JSON, which has no file's name to take a title from."""

    title = Text(
        max_length=200,
        help_text="Its title.",
        error_messages=sentences(
            "Title is required", max_length="Please choose a title of at most 200 characters."
        ),
    )
    content = Text(
        help_text="Its text, at most 1 MB; not blank.",
        error_messages=sentences(NO_CONTENT),
        trim_whitespace=False,
    )
    contentType = serializers.ChoiceField(  # noqa: N815 - the contract's name
        ContentType.choices,
        default=ContentType.TEXT,
        help_text="How the text is to be read.",
        error_messages=sentences("The content type must be markdown or text."),
    )

    def validate_content(self, content: str) -> str:
        if not content.strip():
            raise serializers.ValidationError(NO_CONTENT)
        return content


@extend_schema_field(OpenApiTypes.BINARY)
class FileField(serializers.FileField):
    """A file of a form."""


class UploadedFile(NewDocument):
    """A document sent as a file of a form."""

    file = FileField(
        help_text="A .pdf, .docx, .md, .txt or .html file of at most 10 MB.",
        max_length=200,
        error_messages=sentences(
            "Please choose a file to upload.",
            empty="The file is empty. Please choose one with text in it.",
            max_length="The file's name is too long. Please shorten it to 200 characters.",
        ),
    )


class ConversionRequest(RequestSerializer):
    """The body of POST /api/vector-convert-llm/process-document."""

    document_id = serializers.CharField(
        max_length=100,
        help_text="The document to convert, by its id.",
        error_messages=sentences("Document ID is required"),
    )


class EmbeddingRequest(RequestSerializer):
    """The body of POST /api/RAG/embeddings."""

    documentId = serializers.CharField(  # noqa: N815 - the contract's name
        max_length=100,
        help_text="The document to convert, by its id.",
        error_messages=sentences("Document ID is required"),
        source="document_id",
    )


class PageRequest(RequestSerializer):
    """Which part of a list: `limit` rows from `cursor` on."""

    limit = serializers.IntegerField(
        default=50,
        min_value=1,
        max_value=200,
        help_text="Documents on a page at most.",
        error_messages=sentences("Limit must be a number from 1 to 200."),
    )
    cursor = serializers.CharField(
        default="", allow_blank=True, max_length=100, help_text="The `nextCursor` of the page before."
    )
    search = Text(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="Words that stand in the title, the summary or the tags.",
        error_messages={"max_length": "Please search for at most 200 characters."},
    )


class ChunkPageRequest(RequestSerializer):
    """Which part of a document's chunks: `limit` of them from `cursor` on."""

    limit = serializers.IntegerField(
        default=500,
        min_value=1,
        max_value=1000,
        help_text="Chunks on a page at most.",
        error_messages=sentences("Limit must be a number from 1 to 1000."),
    )
    cursor = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=2**31 - 1,
        help_text="The `nextCursor` of the page before.",
        error_messages=sentences("That cursor is not one of ours. Please start from the first page."),
    )


class SearchRequest(RequestSerializer):
    """The body of POST /api/RAG/search."""

    query = Text(
        max_length=2000,
        help_text="What to look for; not blank.",
        error_messages=sentences(
            "A search query is required", max_length="Please search for at most 2000 characters."
        ),
    )
    limit = serializers.IntegerField(
        default=10,
        min_value=1,
        max_value=50,
        help_text="How many passages at most.",
        error_messages=sentences("Limit must be a number from 1 to 50."),
    )
    documentIds = BoundedList(  # noqa: N815 - the contract's name
        child=serializers.CharField(max_length=100),
        default=None,
        allow_null=True,
        max_length=50,
        help_text="The documents to search, by their ids; null for all.",
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
        "_id": str(hit.chunk.document),
        "_score": hit.score,
        "title": hit.chunk.title,
        "snippet": hit.snippet,
        "passage": hit.passage,
        "chunkIndex": hit.chunk.number,
        "contentType": hit.chunk.content_type,
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
