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


def read_file(file: "UploadedFile[Any]") -> Extracted:
    """The text of a file, read in a child process; empty if it holds none. Raises ExtractionError."""
    try:
        return sandbox.extract(file.name or "", file.read())
    except NoText:
        return Extracted(text="", pages=[], content_type="text")


def read_pasted(content: str, content_type: str) -> Extracted:
    """A text that was sent as it is."""
    return Extracted(text=content.replace("\r\n", "\n"), pages=[], content_type=content_type)


def store_upload(
    extracted: Extracted, *, size: int, owner: str, title: str, summary: str, tags: list[str]
) -> Document:
    """Keep what was read, `size` bytes as sent, for its owner."""
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


def title_of(file_name: str) -> str:
    """A title from a file's name, which may be anything that a client cares to send."""
    stem = PurePath(file_name.replace("\\", "/")).stem
    printable = "".join(character if character.isprintable() else " " for character in stem)
    return re.sub(r"\s+", " ", printable).strip()[:200] or "Untitled document"
