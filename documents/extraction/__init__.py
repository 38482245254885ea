"""File -> text. Pure: bytes in, text or a friendly error out; no database, no settings, no network.

The parsers of the formats are large and some are written in C, so a server does not call this
package itself: `documents.sandbox` runs it in a child process. Each parser is imported only when
a file of its format comes, which keeps the start of that child short.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import PurePath

from documents.extraction.base import (
    MAX_FILE_BYTES,
    Extracted,
    ExtractionBusy,
    ExtractionError,
    NoText,
    UnreadableFile,
    UnsupportedFile,
)
from documents.extraction.signature import is_html, is_locked_office, is_pdf, seems_to_be

__all__ = [
    "SUFFIXES",
    "Extracted",
    "ExtractionBusy",
    "ExtractionError",
    "NoText",
    "UnreadableFile",
    "UnsupportedFile",
    "check",
    "extract",
    "suffix_of",
]

_MODULES = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".md": "plain_text",
    ".markdown": "plain_text",
    ".txt": "plain_text",
    ".html": "html",
    ".htm": "html",
}
SUFFIXES = frozenset(_MODULES)
_CONTENT_TYPES = {".md": "markdown", ".markdown": "markdown", ".txt": "text"}
_EXPECTED = {".pdf": "a PDF", ".docx": "a Word document"}


def extract(file_name: str, content: bytes) -> Extracted:
    """The text of a file, by the ending of its name. Headings are kept as Markdown ('#', '##', …).

    Raises UnsupportedFile, UnreadableFile or NoText. A hostile file may take any time and memory,
    or bring the process down: see `documents.sandbox`.
    """
    suffix = check(file_name, content)
    module = import_module(f"documents.extraction.{_MODULES[suffix]}")
    if suffix in _CONTENT_TYPES:
        read_text: Callable[[bytes, str], Extracted] = module.read
        return read_text(content, _CONTENT_TYPES[suffix])
    read: Callable[[bytes], Extracted] = module.read
    return read(content)


def suffix_of(file_name: str) -> str:
    """The ending of a file's name, in lower case. Raises UnsupportedFile for one that is not read here."""
    suffix = PurePath(file_name).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    if suffix == ".doc":
        raise UnsupportedFile(
            "Old Word documents (.doc) cannot be read here. "
            "Please open it in a word processor, save it as .docx and upload that."
        )
    raise UnsupportedFile(
        "Please upload a .pdf, .docx, .md, .txt or .html file; other kinds cannot be read here."
    )


def check(file_name: str, content: bytes) -> str:
    """The ending of the file's name, once the first look at its bytes bears it out. Cheap and safe.

    Raises UnsupportedFile, or UnreadableFile for a .docx behind a password.
    """
    suffix = suffix_of(file_name)
    if not content:
        raise UnsupportedFile("This file is empty. Please choose a file that has text in it.")
    if len(content) > MAX_FILE_BYTES:
        raise UnsupportedFile("This file is larger than 10 MB. Please split it or choose a smaller one.")
    if suffix == ".pdf" and is_pdf(content):
        return suffix
    if suffix == ".docx" and is_locked_office(content):
        raise UnreadableFile(
            "This document needs a password. Please save a copy without the password and upload that one."
        )
    seems = seems_to_be(content)
    if seems == _EXPECTED.get(suffix):
        return suffix
    raise _mislabelled(suffix, seems or ("a web page" if is_html(content) else None))


def _mislabelled(suffix: str, seems: str | None) -> UnsupportedFile:
    if seems == "an old Office document":
        return UnsupportedFile(
            f"This file is named {suffix} but seems to be an old Office document (such as .doc). "
            "Please open it in a word processor, save it as .docx and upload that."
        )
    but = f"seems to be {seems}" if seems else "holds something else"
    return UnsupportedFile(
        f"This file is named {suffix} but {but}. "
        "Please give it its right ending, or save it as .pdf, .docx, .md, .txt or .html, and upload it again."
    )
