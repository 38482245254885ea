"""From what a person sends to a stored document."""

import re
from pathlib import PurePath
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from documents import sandbox
from documents.conversion import store
from documents.extraction import Extracted, NoText
from documents.models import Document

STORED_WITHOUT_TEXT = (
    "The file is stored, but no text can be read from it. If it is a scan, please run it through text "
    "recognition (OCR) and upload the result."
)


def store_file(
    file: "UploadedFile[Any]", *, owner: str, title: str, summary: str, tags: list[str]
) -> Document:
    """Read the file in a child process and keep its text. Raises ExtractionError."""
    name = file.name or "document"
    try:
        extracted = sandbox.extract(name, file.read())
    except NoText:
        extracted = Extracted(text="", pages=[], content_type="text")
    return _store(
        extracted, file.size or 0, owner=owner, title=title or title_of(name), summary=summary, tags=tags
    )


def store_pasted(
    content: str, *, owner: str, content_type: str, title: str, summary: str, tags: list[str]
) -> Document:
    """Keep a text that was sent as it is."""
    extracted = Extracted(text=content.replace("\r\n", "\n"), pages=[], content_type=content_type)
    return _store(extracted, len(content.encode()), owner=owner, title=title, summary=summary, tags=tags)


def title_of(file_name: str) -> str:
    """A title from a file's name, which may be anything that a client cares to send."""
    stem = PurePath(file_name.replace("\\", "/")).stem
    printable = "".join(character if character.isprintable() else " " for character in stem)
    return re.sub(r"\s+", " ", printable).strip()[:200] or "Untitled document"


def _store(
    extracted: Extracted, size: int, *, owner: str, title: str, summary: str, tags: list[str]
) -> Document:
    return store(
        Document(
            owner=owner,
            title=title,
            summary=summary,
            tags=tags,
            content_type=extracted.content_type,
            text=extracted.text,
            pages=extracted.pages,
            file_size=size,
            word_count=len(extracted.text.split()),
        )
    )
