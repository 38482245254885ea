"""How the document routes are described."""

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers

from documents import serializers as shapes
from documents.conversion import NO_TEXT
from documents.models import NOT_FOUND, ContentType
from leases.schema import (
    GUARDED,
    RETRY_AFTER,
    Events,
    Progress,
    Queued,
    Shape,
    Started,
    StreamError,
    Success,
    answer,
    asked,
    guarded,
    not_found,
    refused,
    stream_of,
)


class DocumentFields(Shape):
    """A document without its content."""

    _id = serializers.UUIDField(help_text="The document's id.")
    title = serializers.CharField(help_text="Its title.")
    contentType = serializers.ChoiceField(  # noqa: N815 - the contract's name
        ContentType.choices, help_text="How its text is to be read."
    )
    fileSize = serializers.IntegerField(help_text="Bytes as uploaded.")  # noqa: N815
    wordCount = serializers.IntegerField(help_text="Words of its text.")  # noqa: N815
    uploadedAt = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="When it was uploaded, in milliseconds since 1970."
    )
    hasEmbedding = serializers.BooleanField(  # noqa: N815 - the contract's name
        help_text="Whether it is converted and can be found by meaning."
    )
    embeddingModel = serializers.CharField(  # noqa: N815 - the contract's name
        allow_null=True, help_text="The model of its vectors, null before the conversion."
    )
    summary = serializers.CharField(allow_blank=True, help_text="Its summary; may be empty.")
    tags = serializers.ListField(child=serializers.CharField(), help_text="Its tags.")


class Documents(Success):
    """A page of the caller's documents."""

    documents = DocumentFields(many=True, help_text="The documents, newest first.")
    total = serializers.IntegerField(help_text="How many there are on all pages.")
    nextCursor = serializers.CharField(  # noqa: N815 - the contract's name
        allow_null=True, help_text="Say it as `cursor` for the next page; null on the last."
    )


class Document(Success, DocumentFields):
    """One document with its content."""

    content = serializers.CharField(allow_blank=True, help_text="The text that was read from it.")
    pages = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="Where in the content each page begins, in characters; empty where there are no pages.",
    )


class Uploaded(Success):
    """A document is kept."""

    documentId = serializers.UUIDField(help_text="The new document's id.")  # noqa: N815
    message = serializers.CharField(help_text="A sentence that says what to do next.")
    document = DocumentFields(help_text="The new document.")


class DocumentDeleted(Success):
    """A document is gone."""

    documentId = serializers.CharField(help_text="The id that was asked for.")  # noqa: N815
    message = serializers.CharField(help_text="A sentence that says so.")


class ChunkFields(Shape):
    """A piece of a document: what search finds."""

    chunkIndex = serializers.IntegerField(help_text="Which chunk of the document, from 0.")  # noqa: N815
    chunkText = serializers.CharField(help_text="Its text, as it stands in the content.")  # noqa: N815
    start = serializers.IntegerField(help_text="Where it begins in the content, in characters.")
    end = serializers.IntegerField(help_text="Where it ends there.")
    page = serializers.IntegerField(
        allow_null=True, help_text="The page on which it begins, from 1; null where there are no pages."
    )
    heading = serializers.CharField(allow_blank=True, help_text="The heading above it; may be empty.")
    embeddingModel = serializers.CharField(  # noqa: N815 - the contract's name
        allow_null=True, help_text="The model of its vector, null before the conversion."
    )
    embeddingDimensions = serializers.IntegerField(  # noqa: N815 - the contract's name
        allow_null=True, help_text="Numbers in its vector, null before the conversion."
    )


class Chunks(Success):
    """A page of a document's chunks."""

    documentId = serializers.UUIDField(help_text="The document's id.")  # noqa: N815
    chunks = ChunkFields(many=True, help_text="The chunks in their order.")
    total = serializers.IntegerField(help_text="How many there are on all pages.")
    nextCursor = serializers.CharField(  # noqa: N815 - the contract's name
        allow_null=True, help_text="Say it as `cursor` for the next page; null on the last."
    )


class Conversion(Success):
    """What a conversion came to."""

    document_id = serializers.UUIDField(help_text="The document's id.")
    chunks_saved = serializers.IntegerField(help_text="Chunks that have their vectors now.")
    total_chunks = serializers.IntegerField(help_text="Chunks of the document.")
    embedding_dimension = serializers.IntegerField(help_text="Numbers in each vector.")
    model = serializers.CharField(help_text="The model that made the vectors.")
    processing_time_ms = serializers.IntegerField(help_text="Milliseconds, waiting included.")
    content_length = serializers.IntegerField(help_text="Characters of the document's content.")
    embedding_method = serializers.CharField(help_text="Where the model ran, such as `in-process`.")
    unchanged = serializers.BooleanField(
        help_text="True if the document had these vectors already, so that there was nothing to do."
    )
    message = serializers.CharField(help_text="A sentence that says what was done.")


class ConversionEvents(Events):
    """A conversion as it goes on."""

    kinds = {
        "queued": Queued,
        "started": Started,
        "progress": Progress,
        "done": Conversion,
        "error": StreamError,
    }


class HitFields(Shape):
    """A passage that was found."""

    _id = serializers.UUIDField(help_text="The document's id.")
    _score = serializers.FloatField(help_text="How well it fits, 0 to 1.")
    title = serializers.CharField(help_text="The document's title.")
    snippet = serializers.CharField(help_text="The found chunk on one line, cut where it is long.")
    passage = serializers.CharField(help_text="The chunk as it is, with its neighbours where they are short.")
    chunkIndex = serializers.IntegerField(help_text="Which chunk of the document, from 0.")  # noqa: N815
    contentType = serializers.ChoiceField(  # noqa: N815 - the contract's name
        ContentType.choices, help_text="How the document's text is to be read."
    )
    page = serializers.IntegerField(
        allow_null=True, help_text="The page on which it begins, from 1; null where there are no pages."
    )
    heading = serializers.CharField(allow_blank=True, help_text="The heading above it; may be empty.")
    start = serializers.IntegerField(help_text="Where it begins in the document's content, in characters.")
    end = serializers.IntegerField(help_text="Where it ends there.")


class SearchResults(Success):
    """What was found."""

    results = HitFields(many=True, help_text="The passages found, the best first.")
    total = serializers.IntegerField(help_text="How many passages the answer holds.")
    searchType = serializers.ChoiceField(  # noqa: N815 - the contract's name
        ["hybrid", "keyword"],
        help_text="`hybrid` by meaning and by keywords, `keyword` where there was nothing to compare "
        "meanings with.",
    )
    unconvertedDocuments = serializers.IntegerField(  # noqa: N815 - the contract's name
        help_text="Searched documents that are not converted yet and can be found by keywords only."
    )


class Stats(Success):
    """Counts and sizes of the caller's documents."""

    totalDocuments = serializers.IntegerField(help_text="Documents.")  # noqa: N815
    convertedDocuments = serializers.IntegerField(help_text="Those that are converted.")  # noqa: N815
    totalSize = serializers.IntegerField(help_text="Bytes as uploaded.")  # noqa: N815
    totalWords = serializers.IntegerField(help_text="Words of their texts.")  # noqa: N815
    totalChunks = serializers.IntegerField(help_text="Chunks.")  # noqa: N815
    totalEmbeddings = serializers.IntegerField(help_text="Chunks that have a vector.")  # noqa: N815


ID = "6b0a1e91-e3e0-48c3-bc25-4260ae6e6611"
HANDBOOK = {
    "_id": ID,
    "title": "handbook",
    "contentType": "markdown",
    "fileSize": 195,
    "wordCount": 37,
    "uploadedAt": 1795372766953,
    "hasEmbedding": False,
    "embeddingModel": None,
    "summary": "",
    "tags": ["hr"],
}
TEXT = "# Staff handbook\n\n## Leave\n\nEvery employee of Brightwater Mills gets 31 days of paid leave."
LIST = {"success": True, "documents": [HANDBOOK], "total": 1, "nextCursor": None}
CONVERTED = {
    "success": True,
    "document_id": ID,
    "chunks_saved": 1,
    "total_chunks": 1,
    "embedding_dimension": 384,
    "model": "all-MiniLM-L6-v2-f32",
    "processing_time_ms": 43,
    "content_length": 195,
    "embedding_method": "in-process",
    "unchanged": False,
    "message": "The document is converted and can be searched by meaning.",
}
FOUND = {
    "success": True,
    "results": [
        {
            "_id": ID,
            "_score": 0.2038,
            "title": "handbook",
            "snippet": "# Staff handbook ## Leave Every employee of Brightwater Mills gets 31 days of "
            "paid leave.",
            "passage": TEXT,
            "chunkIndex": 0,
            "contentType": "markdown",
            "page": None,
            "heading": "Staff handbook",
            "start": 0,
            "end": 194,
        }
    ],
    "total": 1,
    "searchType": "hybrid",
    "unconvertedDocuments": 1,
}

DOCUMENT_ID = OpenApiParameter(
    "document_id",
    str,
    OpenApiParameter.PATH,
    description="The document's id, as the upload and the list give it.",
    examples=[OpenApiExample("document", value=ID)],
)


list_documents = extend_schema(
    operation_id="list_documents",
    tags=["documents"],
    summary="The caller's documents",
    description="Newest first, by pages; with `search`, those in whose title, summary or tags the words "
    "stand.",
    parameters=[shapes.PageRequest],
    responses={200: answer(Documents, "A page of documents.", one=LIST)},
)

list_uploads = extend_schema(
    operation_id="list_uploads",
    summary="The caller's documents, by the upload's name",
    description="The same as `GET /api/RAG/documents`.",
)

upload_document = extend_schema(
    operation_id="upload_document",
    tags=["documents"],
    summary="Upload a document",
    description="Text as JSON (at most 1 MB), or a .pdf, .docx, .md, .txt or .html file as a form (at "
    "most 10 MB). "
    "It can be found by keywords at once; convert it to find it by meaning too. A caller without cookie "
    "or token "
    "gets a session cookie, to which the document belongs.",
    parameters=[RETRY_AFTER],
    request={
        "application/json": asked(
            shapes.PastedDocument,
            text={
                "title": "Tea",
                "content": "Green tea is steeped at 75 degrees for two minutes.",
                "contentType": "text",
            },
            markdown={"title": "handbook", "content": TEXT, "contentType": "markdown", "tags": ["hr"]},
        ),
        "multipart/form-data": asked(
            shapes.UploadedFile, file={"file": "the file's bytes", "title": "handbook", "tags": ["hr"]}
        ),
    },
    responses={
        201: answer(
            Uploaded,
            "The document is kept.",
            uploaded={
                "success": True,
                "documentId": ID,
                "message": "“handbook” is uploaded. Convert it to find it by meaning.",
                "document": HANDBOOK,
            },
        ),
        422: refused("No text can be read from the file.", "The PDF is damaged. Please export it again."),
        503: refused(
            "Too many files are being read at this moment.",
            "We are reading many files at this moment. Please try again in a minute.",
        ),
    },
)

get_document = extend_schema(
    operation_id="get_document",
    tags=["documents"],
    summary="One document",
    description="A document of the caller with its content.",
    parameters=[DOCUMENT_ID],
    responses={
        200: answer(
            Document, "The document.", document={"success": True, **HANDBOOK, "content": TEXT, "pages": []}
        ),
        404: not_found(NOT_FOUND),
    },
)

delete_document = extend_schema(
    operation_id="delete_document",
    tags=["documents"],
    summary="Delete a document",
    description="It, its chunks and their vectors.",
    parameters=[DOCUMENT_ID],
    responses={
        200: answer(
            DocumentDeleted,
            "It is gone.",
            deleted={"success": True, "documentId": ID, "message": "“handbook” is deleted."},
        ),
        404: not_found(NOT_FOUND),
    },
)

list_chunks = extend_schema(
    operation_id="list_chunks",
    tags=["documents"],
    summary="A document's chunks",
    description="The pieces of a document in their order, by pages.",
    parameters=[DOCUMENT_ID, shapes.ChunkPageRequest],
    responses={
        200: answer(
            Chunks,
            "A page of chunks.",
            one={
                "success": True,
                "documentId": ID,
                "chunks": [
                    {
                        "chunkIndex": 0,
                        "chunkText": TEXT,
                        "start": 0,
                        "end": 194,
                        "page": None,
                        "heading": "Staff handbook",
                        "embeddingModel": "all-MiniLM-L6-v2-f32",
                        "embeddingDimensions": 384,
                    }
                ],
                "total": 1,
                "nextCursor": None,
            },
        ),
        404: not_found(NOT_FOUND),
    },
)

process_document = extend_schema(
    operation_id="process_document",
    tags=["documents"],
    summary="Convert a document to vectors",
    description="Gives every chunk its vector, so that the document can be found by meaning. The old "
    "vectors stand "
    "until the new ones are complete. A document that has the model's vectors already is no work and "
    "needs no lease.",
    parameters=GUARDED,
    request=asked(shapes.ConversionRequest, document={"document_id": ID}),
    responses=guarded(
        answer(Conversion, "The document is converted.", converted=CONVERTED),
        ConversionEvents,
        stream_of(
            ("queued", {"position": 1, "estimatedWaitSeconds": None, "yours": False}),
            ("started", {"sessionId": "1f175e3f36acef43696c4cc2b70122ba", "queuedMs": 1219}),
            ("progress", {"done": 0, "total": 1}),
            ("progress", {"done": 1, "total": 1}),
            ("done", CONVERTED),
        ),
        service="vector-convert",
        called="document conversion",
    )
    | {404: not_found(NOT_FOUND), 422: refused("The document holds no text.", NO_TEXT)},
)

process_document_alias = extend_schema(
    operation_id="process_document_alias",
    summary="Convert a document to vectors, by its other name",
    description="The same as `POST /api/vector-convert-llm/process-document`; the field is called "
    "`documentId`.",
    request=asked(shapes.EmbeddingRequest, document={"documentId": ID}),
)

search = extend_schema(
    operation_id="search",
    tags=["search"],
    summary="Search by meaning and by keywords",
    description="The passages of the caller's documents that fit the words best.",
    parameters=[
        OpenApiParameter(
            "q",
            str,
            description="What to look for, at most 2000 characters.",
            required=True,
            examples=[OpenApiExample("words", value="time off work")],
        ),
        OpenApiParameter("limit", int, description="How many passages at most, 1 to 50.", default=10),
    ],
    responses={200: answer(SearchResults, "What was found.", one=FOUND)},
)

search_among = extend_schema(
    operation_id="search_among",
    tags=["search"],
    summary="Search among chosen documents",
    description="The same as `GET /api/RAG/search`, and `documentIds` may choose the documents to search.",
    request=asked(
        shapes.SearchRequest,
        everywhere={"query": "holidays"},
        in_one={"query": "holidays", "documentIds": [ID], "limit": 1},
    ),
    responses={200: answer(SearchResults, "What was found.", one=FOUND), 404: not_found(NOT_FOUND)},
)

stats = extend_schema(
    operation_id="document_stats",
    tags=["documents"],
    summary="Counts and sizes",
    description="How many documents the caller has, and how large they are.",
    responses={
        200: answer(
            Stats,
            "Counts and sizes.",
            two_documents={
                "success": True,
                "totalDocuments": 2,
                "convertedDocuments": 1,
                "totalSize": 246,
                "totalWords": 47,
                "totalChunks": 2,
                "totalEmbeddings": 1,
            },
        )
    },
)
