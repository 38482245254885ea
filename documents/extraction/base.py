"""The errors of extraction, what it returns, and the cleaning that every format's text goes through."""

import re
from dataclasses import dataclass
from unicodedata import normalize

MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_TEXT_CHARACTERS = 10 * 1024 * 1024  # so that no text file of a permitted size is too long
PAGE_BREAK = "\f"


class ExtractionError(Exception):
    """No text came out of a file. The message is a whole sentence for the person who uploaded it."""


class UnsupportedFile(ExtractionError):  # noqa: N818 - named for what the file is, like its neighbours
    """The file is of a kind that is not read here, or is not what its name says."""


class UnreadableFile(ExtractionError):  # noqa: N818
    """The file is of the right kind but cannot be read: locked, damaged, or too much to read."""


class NoText(ExtractionError):  # noqa: N818
    """The file is sound, but there are no words in it."""


class ExtractionBusy(ExtractionError):  # noqa: N818
    """Too many files are being read at this moment; nothing is wrong with this one."""


@dataclass(frozen=True)
class Extracted:
    """The text of one file.

    `pages` holds the offset into `text`, in code points, at which each page begins; it is empty
    for formats without pages. `content_type` is "markdown" or "text".
    """

    text: str
    pages: list[int]
    content_type: str


_UNSEEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u00ad\ufeff\ufffe\uffff]")
_LINE_END = re.compile("\r\n?|[\u0085\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRAILING_BLANKS = re.compile(r"(?<![ \t])[ \t]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")
_BETWEEN_PAGES = re.compile(rf"\n{{1,2}}({PAGE_BREAK}[{PAGE_BREAK}\n]*)")


def clean(text: str) -> str:
    """`text` with plain line ends and composed letters (NFC), without control characters, soft hyphens and
    byte order marks.

    Lone surrogates become U+FFFD. Form feeds stay: they mark page breaks until `finish`.
    """
    plain = _SURROGATE.sub("\ufffd", _UNSEEN.sub("", _LINE_END.sub("\n", text)))
    return normalize("NFC", plain)


def tidy(text: str) -> str:
    """`text` without blanks at line ends and with at most one blank line in a row.

    A page that begins between two paragraphs begins with the first letter of the second.
    """
    text = _BLANK_LINES.sub("\n\n", _TRAILING_BLANKS.sub("", text))
    text = _BETWEEN_PAGES.sub(lambda match: "\n\n" + match[1].replace("\n", ""), text)
    return text.strip(" \t\n")


def finish(text: str, content_type: str, *, paged: bool = False) -> Extracted:
    """The result for a cleaned text in which each form feed begins a new page.

    Raises UnreadableFile when the text is too long and NoText when there are no words in it.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise too_long()
    parts = text.split(PAGE_BREAK)
    whole = "".join(parts)
    if not any(character.isalnum() for character in whole):
        raise NoText("There is no text in this file. Please choose a file that has words in it.")
    if not paged:
        return Extracted(whole, [], content_type)
    pages = [0]
    for part in parts[:-1]:
        pages.append(pages[-1] + len(part))
    return Extracted(whole, pages, content_type)


def too_long() -> UnreadableFile:
    return UnreadableFile(
        f"This file holds more than {MAX_TEXT_CHARACTERS:,} characters of text, which is more than we can "
        "take in at once. Please split it into smaller files and upload them one by one."
    )


def damaged(kind: str) -> UnreadableFile:
    """`kind` with its article, such as "a PDF"."""
    return UnreadableFile(
        f"This file looks like {kind}, but it is damaged and cannot be read. "
        "Please open it in the program it came from, save it again and upload the new copy."
    )
