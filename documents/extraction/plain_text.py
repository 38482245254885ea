"""Plain text and Markdown: finding the encoding, and refusing what is not text at all."""

import codecs
import re

from documents.extraction.base import Extracted, UnsupportedFile, clean, finish

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01


def read(content: bytes, content_type: str) -> Extracted:
    """The words as they were written; only line ends and unseen characters are changed."""
    return finish(clean(decode(content)).replace("\f", "\n"), content_type)


def decode(content: bytes, declared: str | None = None) -> str:
    """Text from bytes: by byte order mark, as UTF-8, in the `declared` encoding, or as Windows-1252.

    Raises UnsupportedFile for bytes that are no text.
    """
    text = _decoded(content, declared)
    if text is None or len(_CONTROL.findall(text)) > _MAX_CONTROL_SHARE * len(text):
        raise UnsupportedFile(
            "This file does not seem to hold text. "
            "Please save it as plain text in UTF-8, or choose another file."
        )
    return text


def _decoded(content: bytes, declared: str | None) -> str | None:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    for candidate in ("utf-8", declared or "utf-8"):
        try:
            return content.decode(candidate)
        except (UnicodeError, LookupError):
            continue
    damaged = content.decode("utf-8", errors="replace")
    broken = damaged.count("\ufffd")
    if sum(character > "\x7f" for character in damaged) > 10 * broken:
        return damaged  # UTF-8 with a few broken bytes, as after a cut in the middle of a character
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return None
