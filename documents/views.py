"""The document routes of the contract."""

from functools import partial
from typing import Any

from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.http import HttpResponseBase
from rest_framework import status
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from documents import schema
from documents import serializers as shapes
from documents.conversion import Conversion, convert
from documents.models import Chunk, Document, DocumentQuerySet
from documents.page import page
from documents.search import find
from documents.uploads import STORED_WITHOUT_TEXT, store_file, store_pasted
from leases.database import delete_whole, in_database
from leases.fields import RequestSerializer, valid, valid_now
from leases.guarded_view import GuardedView
from leases.owned_view import OwnedView
from leases.owners import settle_owner
from leases.turn import Turn


class DocumentView(OwnedView):
    """A view of the caller's own documents, and of nobody else's."""

    @property
    def documents(self) -> DocumentQuerySet:
        return Document.objects.for_owner(self.owner)


class DocumentList(DocumentView):
    """GET: the caller's documents, newest first, by pages."""

    @schema.list_documents
    def get(self, request: Request) -> Response:
        asked = valid_now(shapes.PageRequest, request.query_params)
        documents = self.documents
        if words := asked["search"]:
            documents = documents.filter(
                Q(title__icontains=words) | Q(summary__icontains=words) | Q(tags__icontains=words)
            )
        rows, cursor = page(documents, asked["cursor"], asked["limit"])
        return Response(
            {
                "success": True,
                "documents": [shapes.document_fields(row) for row in rows],
                "total": documents.count(),
                "nextCursor": cursor,
            }
        )


class Upload(DocumentList):
    """POST: a new document, pasted as JSON or sent as a file. GET: the list, as DocumentList."""

    costly_methods = ("POST",)
    parser_classes = [*OwnedView.parser_classes, MultiPartParser]
    serializer_class = shapes.UploadedFile  # the browsable page's form

    @schema.list_uploads
    @schema.list_documents
    def get(self, request: Request) -> Response:
        return super().get(request)

    @schema.upload_document
    def post(self, request: Request) -> Response:
        owner = partial(settle_owner, request)
        if is_form(request):
            document = store_file(valid_now(shapes.UploadedFile, request.data), owner)
        else:
            document = store_pasted(valid_now(shapes.PastedDocument, request.data), owner)
        message = f"“{document.title}” is uploaded. Convert it to find it by meaning."
        body = {
            "success": True,
            "documentId": str(document.pk),
            "message": message if document.text else STORED_WITHOUT_TEXT,
            "document": shapes.document_fields(document),
        }
        return Response(body, status=status.HTTP_201_CREATED)


class DocumentDetail(DocumentView):
    """GET: one document with its content. DELETE: it and its chunks."""

    @schema.get_document
    def get(self, request: Request, document_id: str) -> Response:
        document = self.documents.pick_one(document_id)
        return Response(
            {
                "success": True,
                **shapes.document_fields(document),
                "content": document.text,
                "pages": document.pages,
            }
        )

    @schema.delete_document
    def delete(self, request: Request, document_id: str) -> Response:
        document = self.documents.pick_one(document_id)
        delete_whole(self.documents.filter(pk=document.pk))
        return Response(
            {"success": True, "documentId": document_id, "message": f"“{document.title}” is deleted."}
        )


class DocumentChunks(DocumentView):
    """GET: a document's chunks in their order, by pages."""

    @schema.list_chunks
    def get(self, request: Request, document_id: str) -> Response:
        asked = valid_now(shapes.ChunkPageRequest, request.query_params)
        document = self.documents.pick_one(document_id)
        chunks = document.chunks.order_by("index").filter(index__gte=asked["cursor"]).defer("vector")
        rows: list[Chunk] = list(chunks[: asked["limit"] + 1])
        for row in rows:
            row.document = document
        following = rows[asked["limit"] :]
        return Response(
            {
                "success": True,
                "documentId": str(document.pk),
                "chunks": [shapes.chunk_fields(row) for row in rows[: asked["limit"]]],
                "total": document.chunks.count(),
                "nextCursor": str(following[0].index) if following else None,
            }
        )


class Conversions(DocumentView, GuardedView):
    """POST: convert a document to vectors, under the lease of the conversion service."""

    request_shape: type[RequestSerializer] = shapes.ConversionRequest

    @schema.process_document
    async def post(self, request: Request) -> HttpResponseBase:
        document_id = (await valid(self.request_shape, request))["document_id"]
        document = await in_database(self.documents.pick_one, document_id)

        async def work(turn: Turn) -> dict[str, Any]:
            return _conversion_fields(await convert(document, document.owner, turn))

        return await self.answer(work)


class Embeddings(Conversions):
    """POST: the same by the contract's other name."""

    request_shape = shapes.EmbeddingRequest

    @schema.process_document_alias
    @schema.process_document
    async def post(self, request: Request) -> HttpResponseBase:
        return await super().post(request)


class Search(DocumentView):
    """GET and POST: search the caller's documents by meaning and by keywords."""

    @schema.search
    async def get(self, request: Request) -> Response:
        asked = {"query": request.query_params.get("q", ""), "limit": request.query_params.get("limit", 10)}
        return await self._search(valid_now(shapes.SearchRequest, asked))

    @schema.search_among
    async def post(self, request: Request) -> Response:
        return await self._search(await valid(shapes.SearchRequest, request))

    async def _search(self, asked: dict[str, Any]) -> Response:
        found = await find(
            self.owner, asked["query"], document_ids=asked["documentIds"], limit=asked["limit"]
        )
        return Response(shapes.search_fields(found))


class Stats(DocumentView):
    """GET: counts and sizes of the caller's documents and chunks."""

    @schema.stats
    def get(self, request: Request) -> Response:
        documents = self.documents.aggregate(
            totalDocuments=Count("pk"),
            convertedDocuments=Count("pk", filter=~Q(embedding_model="")),
            totalSize=Coalesce(Sum("file_size"), 0),
            totalWords=Coalesce(Sum("word_count"), 0),
        )
        chunks = Chunk.objects.filter(document__in=self.documents.order_by()).aggregate(
            totalChunks=Count("pk"), totalEmbeddings=Count("pk", filter=Q(vector__isnull=False))
        )
        return Response({"success": True, **documents, **chunks})


def is_form(request: Request) -> bool:
    return bool(request.content_type.startswith("multipart/"))


def _conversion_fields(conversion: Conversion) -> dict[str, Any]:
    return {
        "success": True,
        "document_id": str(conversion.document.pk),
        "chunks_saved": conversion.chunks,
        "total_chunks": conversion.chunks,
        "embedding_dimension": conversion.dimensions,
        "model": conversion.model,
        "processing_time_ms": conversion.milliseconds,
        "content_length": len(conversion.document.text),
        "embedding_method": conversion.method,
        "unchanged": conversion.unchanged,
        "message": "This document already had these vectors, so there was nothing to do."
        if conversion.unchanged
        else "The document is converted and can be searched by meaning.",
    }
