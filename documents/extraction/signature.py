"""What a file seems to be, judged by its bytes and never by its name."""

import io
import zipfile

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"II*\x00", "a picture"),
    (b"MM\x00*", "a picture"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed archive"),
    (b"Rar!\x1a\x07", "a compressed archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\x00", "a database"),
    (b"{\\rtf", "a Rich Text document"),
    (b"%!PS", "a PostScript document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
)
_ZIPPED = (
    ("word/", "a Word document"),
    ("xl/", "an Excel workbook"),
    ("ppt/", "a PowerPoint presentation"),
    ("META-INF/manifest.xml", "an OpenDocument file"),
    ("META-INF/container.xml", "an e-book"),
)
_PDF_HEADER_WITHIN = 1024  # readers accept a few bytes of junk before the header
_LOCKED_OFFICE_STREAM = "EncryptedPackage".encode("utf-16-le")


def seems_to_be(content: bytes) -> str | None:
    """A noun with its article, such as "a picture"; None when nothing speaks against plain text."""
    for magic, noun in _MAGIC:
        if content.startswith(magic):
            return noun
    if content[:4] == b"RIFF" and content[8:12] in {b"WEBP", b"AVI ", b"WAVE"}:
        return "a picture or a recording"
    if content.lstrip()[:5] == b"%PDF-":
        return "a PDF"
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _seems_zipped(content)
    return None


def is_pdf(content: bytes) -> bool:
    return b"%PDF-" in content[:_PDF_HEADER_WITHIN]


def is_html(content: bytes) -> bool:
    start = content[:_PDF_HEADER_WITHIN].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def is_locked_office(content: bytes) -> bool:
    """Whether this is a modern Office file behind a password (kept inside an old-style container)."""
    return content.startswith(b"\xd0\xcf\x11\xe0") and _LOCKED_OFFICE_STREAM in content


def _seems_zipped(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError):
        return "a ZIP archive"
    for prefix, noun in _ZIPPED:
        if any(name.startswith(prefix) for name in names):
            return noun
    return "a ZIP archive"
