"""The pages of the documents. With scripts they use the API as everybody does; without, they answer forms."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unicodedata import normalize
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import date, filesizeformat
from django.views import View
from rest_framework.exceptions import APIException, ValidationError

from documents import serializers as shapes
from documents.conversion import convert
from documents.embedders import get_embedder
from documents.embedders.base import EmbeddingError
from documents.extraction import SUFFIXES, ExtractionError
from documents.models import Document
from documents.page import page
from documents.reading import Passage, Piece, Text, excerpt
from documents.search import Found, Hit, find
from documents.uploads import FILE_MAX_BYTES, STORED_WITHOUT_TEXT, store_file, store_pasted
from leases.database import delete_whole, in_database
from leases.exceptions import LeaseError
from leases.fields import valid_now
from leases.owners import owner_of, settle_owner
from leases.turn import Turn

WEAK = 0.55  # of the best score: what is below is not shown
LISTED = 50  # documents on one page
FOUND = 20  # passages, at most
WAIT_SECONDS = 60.0  # of a browser without scripts, which shows nothing meanwhile
TOLD = (LeaseError, EmbeddingError, ExtractionError)  # whose texts are sentences for people
STATES = {"new": "Not converted", "other": "Outdated", "ready": "Ready", "empty": "No text"}
KINDS = {"markdown": "Markdown", "text": "Plain text"}


@dataclass(frozen=True)
class Row:
    """A document as the pages show it; `state` is a key of STATES."""

    document: Document
    state: str

    @property
    def word(self) -> str:
        return STATES[self.state]

    @property
    def verb(self) -> str:
        return "Convert" if self.state == "new" else "Convert again"

    @property
    def convertible(self) -> bool:
        return self.state != "empty"

    @property
    def kind(self) -> str:
        return KINDS[self.document.content_type]

    @property
    def words(self) -> str:
        return f"{self.document.word_count:,}"

    @property
    def facts(self) -> str:
        size = filesizeformat(self.document.file_size)
        uploaded = date(self.document.uploaded_at, "j M Y")
        return f"{self.kind} · {size} · {self.words} words · {uploaded}"


@dataclass(frozen=True)
class Result:
    """A passage that was found."""

    hit: Hit
    pieces: list[Piece]


class DocumentsPage(View):
    """GET: the caller's documents, or what a search by meaning found in them.

    POST: in a browser without scripts, what `action` says: upload, paste, convert or delete.
    """

    async def get(self, request: HttpRequest) -> HttpResponse:
        try:
            found = await _found(request)
            return await in_database(_list_page, request, found)
        except ValidationError as error:
            messages.error(request, _sentence(error.detail))
            return redirect("documents-page")

    async def post(self, request: HttpRequest) -> HttpResponse:
        await _act(request, request.POST.get("document", ""))
        return redirect("documents-page")


class DocumentPage(View):
    """GET: one document: what is known of it, its text, its chunks. POST: convert or delete it."""

    async def get(self, request: HttpRequest, document_id: UUID) -> HttpResponse:
        return await in_database(_document_page, request, document_id)

    async def post(self, request: HttpRequest, document_id: UUID) -> HttpResponse:
        await _act(request, str(document_id))
        if request.POST.get("action") == "delete":
            return redirect("documents-page")
        return redirect("document-page", document_id=document_id)


async def _act(request: HttpRequest, document_id: str) -> None:
    action = _ACTIONS.get(request.POST.get("action", ""))
    if action is None:
        raise SuspiciousOperation("A form of ours names what it is for.")
    await action(request, document_id)


async def _upload(request: HttpRequest, _: str) -> None:
    files: list[UploadedFile[Any] | None] = [*request.FILES.getlist("file")]
    for file in files or [None]:
        await in_database(_told, request, _store_file, file)


async def _paste(request: HttpRequest, _: str) -> None:
    await in_database(_told, request, _store_pasted)


async def _delete(request: HttpRequest, document_id: str) -> None:
    document = await in_database(_pick, request, document_id)
    await in_database(delete_whole, Document.objects.filter(pk=document.pk))
    messages.success(request, f"“{document.title}” is deleted.")


async def _convert(request: HttpRequest, document_id: str) -> None:
    document = await in_database(_pick, request, document_id)
    with _telling(request):
        conversion = await convert(document, document.owner, Turn(wait=WAIT_SECONDS))
        done = "had its vectors already" if conversion.unchanged else "is converted: find it by meaning"
        messages.success(request, f"“{document.title}” {done}.")


_ACTIONS: dict[str, Callable[[HttpRequest, str], Awaitable[None]]] = {
    "upload": _upload,
    "paste": _paste,
    "convert": _convert,
    "delete": _delete,
}


@contextmanager
def _telling(request: HttpRequest, about: str = "") -> Iterator[None]:
    """What goes wrong in the block is a sentence on the next page."""
    try:
        yield
    except APIException as error:
        messages.error(request, about + _sentence(error.detail))
    except TOLD as error:
        messages.error(request, about + str(error))


def _told(request: HttpRequest, work: Callable[..., Document], *args: Any) -> None:
    names = [f"{file.name}: " for file in args if file is not None]
    with _telling(request, "".join(names)):
        document = work(request, *args)
        if document.text:
            messages.success(request, f"“{document.title}” is uploaded. Convert it to find it by meaning.")
        else:
            messages.warning(request, f"“{document.title}”: {STORED_WITHOUT_TEXT}")


def _store_file(request: HttpRequest, file: "UploadedFile[Any] | None") -> Document:
    return store_file(valid_now(shapes.UploadedFile, {"file": file}), partial(settle_owner, request))


def _store_pasted(request: HttpRequest) -> Document:
    sent = valid_now(shapes.PastedDocument, request.POST.dict())
    return store_pasted(sent, partial(settle_owner, request))


def _pick(request: HttpRequest, document_id: str) -> Document:
    return Document.objects.for_owner(owner_of(request)).pick_one(document_id)


async def _found(request: HttpRequest) -> Found | None:
    if not request.GET.get("q", "").strip():
        return None
    asked = valid_now(shapes.SearchRequest, {"query": request.GET["q"], "limit": FOUND})
    owner = await in_database(owner_of, request)
    return await find(owner, asked["query"], document_ids=None, limit=asked["limit"])


def _list_page(request: HttpRequest, found: Found | None) -> HttpResponse:
    asked = valid_now(shapes.PageRequest, {name: request.GET.get(name, "") for name in ("search", "cursor")})
    mine = Document.objects.for_owner(owner_of(request))
    chosen = mine.filter(title__icontains=asked["search"]) if asked["search"] else mine
    documents, cursor = page(chosen, asked["cursor"], LISTED)
    query = normalize("NFC", request.GET.get("q", "").strip())
    model = get_embedder().model
    context = {
        "any": mine.exists(),
        "total": chosen.count(),
        "rows": [_row(document) for document in documents],
        "cursor": cursor,
        "search": asked["search"],
        "query": query,
        "found": found,
        "results": _results(found, query) if found else [],
        "unconverted": mine.filter(word_count__gt=0).exclude(embedding_model=model).count() if found else 0,
        "accepted": ",".join(sorted(SUFFIXES)),
        "most_bytes": FILE_MAX_BYTES,
    }
    return render(request, "documents/list.html", context)


def _results(found: Found, query: str) -> list[Result]:
    """What was found, without the matches that are weak beside the best."""
    least = max((hit.score for hit in found.hits), default=0) * WEAK
    return [Result(hit, excerpt(hit.chunk.text, query)) for hit in found.hits if hit.score >= least]


def _document_page(request: HttpRequest, document_id: UUID) -> HttpResponse:
    document = _pick(request, str(document_id))
    places = document.chunks.order_by("index").values_list("index", "start", "end", "page", "heading")
    passages = [Passage(*place) for place in places]
    text = Text(document.text, passages, document.pages, headings=document.content_type == "markdown")
    chunk = _number(request.GET.get("chunk", ""))
    part = text.part(_number(request.GET.get("part", "")) or 1 if chunk is None else text.part_of(chunk))
    context = {
        "row": _row(document),
        "document": document,
        "part": part,
        "chunks": len(passages),
        "without_text": STORED_WITHOUT_TEXT,
    }
    return render(request, "documents/document.html", context)


def _row(document: Document) -> Row:
    if not document.word_count:
        return Row(document, "empty")
    if not document.embedding_model:
        return Row(document, "new")
    return Row(document, "ready" if document.embedding_model == get_embedder().model else "other")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _sentence(detail: Any) -> str:
    """The first thing that is wrong, however deep DRF has wrapped it."""
    while isinstance(detail, dict | list):
        detail = next(iter(detail.values() if isinstance(detail, dict) else detail), "")
    return str(detail)
