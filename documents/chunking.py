"""Text -> chunks for the embedding model, cut where the text itself has joints.

Safe on any text, in the server's own process: the text is tokenised once, in bounded pieces, and
every search for a place to cut looks at one bounded window, so the time grows with the length of
the text and with nothing else.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from documents.tokenizer import load_tokenizer

MAX_TOKENS = 96  # with the two special tokens, [CLS] and [SEP]; see `documents.neighbours`
MAX_CHARACTERS = 4_000  # a "word" of more than 100 letters is a single token, however long
MAX_HEADING = 200

_CAPACITY = MAX_TOKENS - 2
_FULL_ENOUGH = _CAPACITY // 4  # from here on, a chunk ends at the next heading or the best joint
_PIECE = 8_192  # characters tokenised at once
_BATCH = 64  # pieces

_WORD = re.compile(r"\S")
_HEADING = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})"
    r"|#{1,6}(?:[ \t]+(?P<atx>[^\n]*))?$"
    r"|(?P<setext>[^\s#>|*+-][^\n]*)\n(?:={2,}|-{2,})[ \t]*$)",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n){0,200}?---\n")
_JOINTS = (  # from the best place to cut to the worst; a chunk ends where the match does
    re.compile(r"\n[ \t]*\n"),
    re.compile(r"\n"),
    re.compile("[.!?…][\"')\\]\u201d\u2019»]*\\s+(?=[^\\sa-zäöü])|[。\uff01\uff1f]"),
    re.compile(r"\s"),
)


@dataclass(frozen=True)
class Chunk:
    """One passage: `text` is `[start:end]` of the whole text, in code points.

    `page` counts from 1, None for a text without pages; `heading` is the nearest one at or above
    the start, without its marks, "" if there is none.
    """

    index: int
    text: str
    start: int
    end: int
    page: int | None
    heading: str


def chunk(text: str, content_type: str, pages: Sequence[int]) -> list[Chunk]:
    """All of `text` but blanks at the ends of chunks, in order and without overlap.

    Each chunk has at most MAX_TOKENS tokens of the embedding model and MAX_CHARACTERS characters.
    `pages` holds the offset at which each page begins. Headings are looked for in "markdown" only.
    """
    headings = list(_headings(text)) if content_type == "markdown" else []
    starts = [start for start, _ in headings]
    titles = ["", *(title for _, title in headings)]
    return [
        Chunk(
            index=index,
            text=text[start:end],
            start=start,
            end=end,
            page=max(1, bisect_right(pages, start)) if pages else None,
            heading=titles[bisect_right(starts, start)],
        )
        for index, (start, end) in enumerate(_Cutter(text, starts).spans())
    ]


def _headings(text: str) -> Iterator[tuple[int, str]]:
    """Offset and plain words of each heading outside of code."""
    front_matter = _FRONT_MATTER.match(text)
    fence = ""
    for match in _HEADING.finditer(text, front_matter.end() if front_matter else 0):
        mark = match["fence"]
        if mark and not fence:
            fence = mark
        elif mark and mark.startswith(fence):
            fence = ""
        elif not mark and not fence:
            title = (match["atx"] or match["setext"] or "")[: 2 * MAX_HEADING]
            plain = re.sub(r"[*`]|[ \t]#+[ \t]*$", "", title)
            yield _first_letter(text, match.start()), " ".join(plain.split())[:MAX_HEADING]


def _first_letter(text: str, offset: int) -> int:
    """Where a chunk that begins with the heading begins: behind the blanks before its first mark."""
    found = _WORD.search(text, offset)
    return found.start() if found else offset


class _Cutter:
    def __init__(self, text: str, headings: Sequence[int]) -> None:
        self._text = text
        self._headings = headings
        self._tokenizer = load_tokenizer()
        self._begins, self._ends = _tokens(self._tokenizer, text)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Start and end of each chunk, without blanks at either end."""
        position = 0
        while found := _WORD.search(self._text, position):
            start = found.start()
            position = self._cut(start)
            yield start, start + len(self._text[start:position].rstrip())

    def _cut(self, start: int) -> int:
        """Where the chunk that begins at `start` ends."""
        end = self._window(start)
        cut = self._joint(start, end)
        while (shorter := self._fitting(start, cut)) < cut:
            cut = self._joint(start, shorter, inside=True)
        return cut

    def _window(self, start: int) -> int:
        """The furthest end that the number of tokens and of characters allows."""
        first = self._first_token(start)
        section = self._tokens_to_heading(first)
        # What is left of a section is never so little that it would be joined to the next one.
        leaves_little = _CAPACITY < section < _CAPACITY + _FULL_ENOUGH
        end = self._offset(first + (section - _FULL_ENOUGH if leaves_little else _CAPACITY))
        return max(start + 1, min(end, start + MAX_CHARACTERS))

    def _first_token(self, offset: int) -> int:
        return int(np.searchsorted(self._ends, offset, side="right"))

    def _offset(self, token: int) -> int:
        return int(self._begins[token]) if token < len(self._begins) else len(self._text)

    def _tokens_to_heading(self, first: int) -> int:
        """How many tokens from `first` to the next heading where a chunk may end, or to the text's end."""
        following = bisect_left(self._headings, self._offset(first + _FULL_ENOUGH))
        end = self._headings[following] if following < len(self._headings) else len(self._text)
        return int(np.searchsorted(self._begins, end)) - first

    def _joint(self, start: int, end: int, *, inside: bool = False) -> int:
        """The best place to cut between a quarter of the way from `start` and `end`."""
        least = self._offset(self._first_token(start) + _FULL_ENOUGH)
        if least >= end:
            if end == len(self._text) and not inside:
                return end
            least = start + (end - start + 3) // 4
        following = bisect_left(self._headings, least)
        if following < len(self._headings) and self._headings[following] <= end:
            return self._headings[following]
        if end == len(self._text) and not inside:
            return end
        for joint in _JOINTS:
            cut = max((match.end() for match in joint.finditer(self._text, least, end)), default=0)
            if cut:
                return cut
        return end

    def _fitting(self, start: int, end: int) -> int:
        """`end`, or the start of the first token that is one too many.

        Tokens counted in the whole text hold for a chunk between blanks. A cut within a word makes
        other tokens of its halves, so there the chunk is counted by itself.
        """
        text = self._text
        parted = start > 0 and not _is_blank(text[start - 1])
        if not parted and (end == len(text) or _is_blank(text[end]) or _is_blank(text[end - 1])):
            return end
        offsets = self._tokenizer.encode(text[start:end], add_special_tokens=False).offsets
        return end if len(offsets) <= _CAPACITY else start + max(1, offsets[_CAPACITY][0])


def _is_blank(character: str) -> bool:
    return character in " \n\t"


def _tokens(tokenizer: Tokenizer, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The offsets at which the tokens of `text` begin and end."""
    pieces = list(_pieces(text))
    parts = [np.empty((0, 2), np.int64)]
    for first in range(0, len(pieces), _BATCH):
        batch = pieces[first : first + _BATCH]
        encodings = tokenizer.encode_batch(
            [text[start:end] for start, end in batch], add_special_tokens=False
        )
        for (start, _), encoding in zip(batch, encodings, strict=True):
            parts.append(np.array(encoding.offsets, np.int64).reshape(-1, 2) + start)
    spans = np.concatenate(parts)
    return np.ascontiguousarray(spans[:, 0]), np.ascontiguousarray(spans[:, 1])


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Spans that make up `text`, cut behind a blank wherever there is one."""
    start = 0
    while start < len(text):
        end = min(start + _PIECE, len(text))
        if end < len(text):
            blank = max(text.rfind(character, start, end) for character in " \n\t")
            end = blank + 1 if blank > start else end
        yield start, end
        start = end
