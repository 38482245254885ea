"""From what a person sends to a stored document."""

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any
from unicodedata import normalize

from django.core.files.uploadedfile import UploadedFile
from rest_framework import status
from rest_framework.exceptions import APIException

from documents import sandbox
from documents.conversion import store
from documents.extraction import Extracted, NoText
from documents.models import Document

STORED_WITHOUT_TEXT = (
    "The file is stored, but no text can be read from it. If it is a scan, please run it through text "
    "recognition (OCR) and upload the result."
)


FILE_MAX_BYTES = 10 * 1024 * 1024
PASTED_MAX_BYTES = 1024 * 1024


class TooLarge(APIException):
    """More than may be uploaded at once."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE


def store_file(sent: dict[str, Any], owner: Callable[[], str]) -> Document:
    """Keep a file as the `UploadedFile` shape gives it; `owner` is asked once it is read.

    Raises TooLarge and ExtractionError.
    """
    file = sent["file"]
    if file.size > FILE_MAX_BYTES:
        raise TooLarge("The file is larger than 10 MB. Please split it and upload the parts.")
    extracted = read_file(file)
    title = sent["title"] or title_of(file.name or "")
    return _store(extracted, sent, title=title, size=file.size, owner=owner())


def store_pasted(sent: dict[str, Any], owner: Callable[[], str]) -> Document:
    """Keep a text as the `PastedDocument` shape gives it. Raises TooLarge."""
    size = len(sent["content"].encode())
    if size > PASTED_MAX_BYTES:
        raise TooLarge("The text is longer than 1 MB. Please upload it as a file instead, or split it.")
    text = sent["content"].replace("\r\n", "\n")
    pasted = Extracted(text=text, pages=[], content_type=sent["contentType"])
    return _store(pasted, sent, title=sent["title"], size=size, owner=owner())


def read_file(file: "UploadedFile[Any]") -> Extracted:
    """The text of a file, read in a child process; empty if it holds none. Raises ExtractionError."""
    try:
        return sandbox.extract(file.name or "", file.read())
    except NoText:
        return Extracted(text="", pages=[], content_type="text")


def _store(extracted: Extracted, sent: dict[str, Any], *, title: str, size: int, owner: str) -> Document:
    return store(
        Document(
            owner=owner,
            title=title,
            summary=sent["summary"],
            tags=sent["tags"],
            content_type=extracted.content_type,
            text=extracted.text,
            pages=extracted.pages,
            file_size=size,
            word_count=len(extracted.text.split()),
        )
    )


def title_of(file_name: str) -> str:
    """A title from a file's name, which may be anything that a client cares to send."""
    stem = PurePath(file_name.replace("\\", "/")).stem
    printable = "".join(character if character.isprintable() else " " for character in stem)
    return re.sub(r"\s+", " ", normalize("NFC", printable)).strip()[:200] or "Untitled document"
