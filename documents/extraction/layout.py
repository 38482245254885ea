"""Lines as they stand on printed pages -> paragraphs, list items and headings in Markdown."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from documents.extraction.base import PAGE_BREAK

HYPHEN = "\ufffe"  # PDFium's mark for a hyphen at a line end, with the next line following at once

_HEADING_RATIO = 1.15  # a heading is at least this much larger than the body
_MAX_HEADING_LINES = 3
_MAX_HEADING_CHARACTERS = 200
_MAX_LEVEL = 6
_PARAGRAPH_GAP = 1.25  # of the usual distance between two lines
_LETTER_WIDTH = 0.6  # of the type size, on the wide side
_INDENT = 0.8  # of the type size

_BULLET = re.compile("^[•‣◦▪●○■□·\uf0b7\uf0a7]\\s*")
_ITEM = re.compile(r"^(?:[-\u2013\u2014*]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|§+)\s")
_SENTENCE_END = re.compile("[.!?:;…。\uff01\uff1f][\"')\\]\u201d\u2019»\u201c]*$")
_LINE_END_HYPHEN = re.compile("(?<=[^\\W\\d_])[-\u00ad\u2010]$")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff00-\uffef]")  # kana and Chinese characters
_WORD = re.compile(r"\w+(?:-\w+)*")
_WORD_BEFORE = re.compile(r"\w+$")
_WORD_AFTER = re.compile(r"^\w+")
_LONGEST_WORD = 60
_JOINING_WORDS = frozenset({"and", "or", "to", "und", "oder", "bzw", "sowie", "et", "ou", "y", "o"})


class Line(NamedTuple):
    """One line of a page; lengths in points, heights growing upwards.

    Since PDFium runs hyphenated lines together, a line may begin (`left`, `top`) higher than it
    ends (`right`, `bottom`).
    """

    text: str
    size: float
    left: float
    right: float
    top: float
    bottom: float


class _Type(NamedTuple):
    """What is usual in one document."""

    levels: dict[float, int]
    leading: float


def markdown(pages: list[list[Line]]) -> str:
    """The text of all pages, a form feed between each two."""
    usual = _usual([line for page in pages for line in page])
    written: list[str] = []
    open_end = False  # whether the last block is body text that may go on on the next page
    for number, page in enumerate(pages):
        pending = PAGE_BREAK if number else ""
        for block in _blocks(page, usual):
            level = _level(block, usual)
            text = _heading(block, level) if level else _body(block)
            if written:
                goes_on = open_end and not level and _goes_on(written[-1], text)
                written.append(" " if goes_on else "\n\n")
            written.append(pending + text)
            pending, open_end = "", not level
        if pending:
            written.append(pending)
    return _mended("".join(written))


def _usual(lines: list[Line]) -> _Type:
    weight: Counter[float] = Counter()
    for line in lines:
        weight[_rounded(line.size)] += len(line.text)
    body = weight.most_common(1)[0][0] if weight else 0.0
    larger = sorted((size for size in weight if size >= body * _HEADING_RATIO and size > 0), reverse=True)
    levels = {size: min(rank, _MAX_LEVEL) for rank, size in enumerate(larger, 1)}
    leadings = [
        (above.bottom - below.top) / below.size
        for above, below in pairwise(lines)
        if below.size > 0 and _rounded(above.size) == _rounded(below.size) == body
    ]
    sane = [leading for leading in leadings if 0.8 < leading < 3]
    return _Type(levels, median(sane) if sane else 1.2)


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _blocks(page: list[Line], usual: _Type) -> Iterator[list[Line]]:
    """Runs of lines of one size at the usual distance from each other."""
    block: list[Line] = []
    for line in page:
        if block and _breaks(block[-1], line, usual):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _breaks(above: Line, below: Line, usual: _Type) -> bool:
    if _rounded(above.size) != _rounded(below.size):
        return abs(above.size - below.size) > 0.08 * max(above.size, below.size)
    gap = above.bottom - below.top
    widest = usual.leading * _PARAGRAPH_GAP * below.size
    return gap > widest or gap < -0.5 * below.size


def _level(block: list[Line], usual: _Type) -> int:
    """The level of a heading, 0 for a block of body text."""
    length = sum(len(line.text) for line in block)
    if len(block) > _MAX_HEADING_LINES or length > _MAX_HEADING_CHARACTERS:
        return 0
    if not any(character.isalpha() for line in block for character in line.text):
        return 0
    return usual.levels.get(_rounded(block[0].size), 0)


def _heading(block: list[Line], level: int) -> str:
    return f"{'#' * level} {' '.join(line.text for line in block)}"


def _body(block: list[Line]) -> str:
    margin = max(line.right for line in block)
    parts = [_BULLET.sub("- ", block[0].text)]
    for above, below in pairwise(block):
        separator = _separator(above, below, margin)
        if separator in {"", " "}:
            if _LINE_END_HYPHEN.search(parts[-1]):
                parts[-1], separator = parts[-1][:-1], HYPHEN
            parts += [separator, below.text]
        else:
            parts += [separator, _BULLET.sub("- ", below.text)]
    return "".join(parts)


def _separator(above: Line, below: Line, margin: float) -> str:
    """What goes between two lines of a block: nothing, a blank, a line end or a blank line."""
    first_word = below.text.split(maxsplit=1)[0]
    room = margin - above.right
    # The next word would have fitted: the line was ended on purpose.
    meant = room > _LETTER_WIDTH * above.size * (len(first_word) + 1)
    ended = _SENTENCE_END.search(above.text[-8:]) is not None
    if _BULLET.match(below.text) or ((meant or ended) and _ITEM.match(below.text)):
        return "\n"
    if meant:
        return "\n\n" if ended else "\n"
    if ended and below.left > above.left + _INDENT * below.size:
        return "\n\n"
    return "" if _UNSPACED.match(above.text[-1]) and _UNSPACED.match(below.text[0]) else " "


def _goes_on(before: str, after: str) -> bool:
    """Whether a paragraph goes on behind a page break, or at the head of the next column."""
    return after[:1].islower() and (before[-1:].isalpha() or before[-1:] == ",")


def _mended(text: str) -> str:
    """`text` with the words joined that were parted at line ends.

    The document itself says whether the hyphen belongs to the word: by the same word elsewhere.
    """
    if HYPHEN not in text:
        return text
    words = {word.lower() for word in _WORD.findall(text)}

    def joint(match: re.Match[str]) -> str:
        before = _WORD_BEFORE.search(text[max(0, match.start() - _LONGEST_WORD) : match.start()])
        after = _WORD_AFTER.search(text[match.end() : match.end() + _LONGEST_WORD])
        return _joint(before[0] if before else "", after[0] if after else "", words)

    return re.sub(HYPHEN, joint, text)


def _joint(before: str, after: str, words: set[str]) -> str:
    if not before:
        return ""
    if after in _JOINING_WORDS:
        return "- "
    if not after[:1].islower():
        return "-"
    whole, parted = f"{before}{after}".lower(), f"{before}-{after}".lower()
    return "-" if parted in words and whole not in words else ""
