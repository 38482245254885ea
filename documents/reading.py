"""What a person reads of a document: its text by parts, and what a search found with its words marked."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import Stemmer

PART = 200_000  # characters of a text on one page
EXCERPT = 300  # characters of a found passage
BEFORE = 80  # of them at most so many before the first word that was asked for

_WORD = re.compile(r"\w+")
_MARKS = re.compile(r"^#{1,6}[ \t]+", re.MULTILINE)
_LINE = re.compile(r"^ {0,3}(?:(?P<fence>`{3}|~{3})|(?P<marks>#{1,6})[ \t]+\S[^\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Passage:
    """A chunk without its text: `[start:end]` of the whole."""

    index: int
    start: int
    end: int
    page: int | None
    heading: str

    @property
    def number(self) -> int:
        return self.index + 1

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Run:
    """Text that looks the same throughout: `level` of a heading, 0 for none; `page` if one begins here."""

    text: str
    level: int
    page: int | None


@dataclass(frozen=True)
class Segment:
    """`[start:end]` of the whole text, in which no chunk begins or ends; `chunk` is one that begins here."""

    start: int
    end: int
    chunk: int | None
    runs: list[Run]


@dataclass(frozen=True)
class Part:
    """As much of a text as one page shows; parts count from 1 and begin where a chunk begins."""

    number: int
    count: int
    segments: list[Segment]
    passages: list[Passage]

    @property
    def previous(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def following(self) -> int | None:
        return self.number + 1 if self.number < self.count else None


@dataclass(frozen=True)
class Piece:
    """A piece of an excerpt, `marked` if it is a word that was asked for."""

    text: str
    marked: bool


class Text:
    """A text with its chunks, in their order, and the offsets of its pages."""

    def __init__(
        self, text: str, passages: Sequence[Passage], pages: Sequence[int], *, headings: bool
    ) -> None:
        self._text = text
        self._passages = passages
        self._pages = pages
        self._headings = headings
        self._begins = [0]
        for passage in passages:
            if passage.start - self._begins[-1] >= PART:
                self._begins.append(passage.start)

    def part_of(self, index: int) -> int:
        """The number of the part in which this chunk begins, or of the last one."""
        at = bisect_left(self._passages, index, key=lambda passage: passage.index)
        if at == len(self._passages):
            return len(self._begins)
        return bisect_right(self._begins, self._passages[at].start)

    def part(self, number: int) -> Part:
        """This part, or the nearest that there is."""
        number = min(max(number, 1), len(self._begins))
        begin, end = [*self._begins, len(self._text)][number - 1 : number + 1]
        passages = [passage for passage in self._passages if begin <= passage.start < end]
        return Part(number, len(self._begins), list(self._segments(begin, end, passages)), passages)

    def _segments(self, begin: int, end: int, passages: Sequence[Passage]) -> Iterator[Segment]:
        chunks = {passage.start: passage.index for passage in passages}
        pages = {offset: page for page, offset in enumerate(self._pages, 1) if begin <= offset < end}
        headings = dict(self._lines(begin, end)) if self._headings else {}
        levels = {start: level for start, (_, level) in headings.items()}
        joints = sorted({*pages, *headings, *(stop for stop, _ in headings.values())})
        for start, stop in _spans(begin, end, sorted({*chunks, *(passage.end for passage in passages)})):
            runs = [
                Run(self._text[a:b], levels.get(a, 0), pages.get(a)) for a, b in _spans(start, stop, joints)
            ]
            yield Segment(start, stop, chunks.get(start), runs)

    def _lines(self, begin: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Start -> end and level of the lines that are headings, outside of code."""
        fence = ""
        for match in _LINE.finditer(self._text, begin, end):
            if match["marks"] and not fence:
                yield match.start(), (match.end(), min(len(match["marks"]) + 2, 6))
            elif match["fence"]:
                fence = "" if fence == match["fence"] else fence or match["fence"]


def excerpt(text: str, query: str) -> list[Piece]:
    """The neighbourhood of the query's first word, on one line without the marks of headings, with all of
    the query's words marked.

    Words are compared by their stems, as the search does.
    """
    line = " ".join(_MARKS.sub("", text).split())
    asked = _WORD.findall(query.lower())
    stemmer = Stemmer.Stemmer("english")
    stems = set(stemmer.stemWords([word for word in asked if len(word) > 2] or asked))
    spans = [match.span() for match in _WORD.finditer(line)]
    found = stemmer.stemWords([line[start:end].lower() for start, end in spans])
    hits = [span for span, stem in zip(spans, found, strict=True) if stem in stems]
    begin, end = _window(line, hits[0][0] if hits else 0)
    return list(_pieces(line, begin, end, hits))


def _window(line: str, first: int) -> tuple[int, int]:
    begin = line.find(" ", first - BEFORE, first) + 1 if first > BEFORE else 0
    end = begin + EXCERPT
    if end < len(line):
        end = max(line.rfind(" ", begin, end), first + 1)
    return begin, min(end, len(line))


def _pieces(line: str, begin: int, end: int, hits: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    at = begin
    if begin:
        yield Piece("… ", marked=False)
    for start, stop in hits:
        if begin <= start and stop <= end:
            yield Piece(line[at:start], marked=False)
            yield Piece(line[start:stop], marked=True)
            at = stop
    yield Piece(line[at:end], marked=False)
    if end < len(line):
        yield Piece(" …", marked=False)


def _spans(begin: int, end: int, joints: Sequence[int]) -> Iterator[tuple[int, int]]:
    """What `[begin:end]` falls into when it is cut at the joints, which are sorted."""
    inside = joints[bisect_right(joints, begin) : bisect_left(joints, end)]
    return pairwise([begin, *inside, end])
