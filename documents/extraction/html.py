"""Web pages -> Markdown: headings, paragraphs, lists, tables, the words of links; no pictures or scripts."""

import re

from lxml import etree  # type: ignore[import-untyped]

from documents.extraction.base import Extracted, UnreadableFile, clean, damaged, finish, tidy
from documents.extraction.plain_text import decode

_DECLARED = re.compile(rb"""<meta[^>]{0,200}charset\s{0,9}=\s{0,9}["']?([\w.:-]{1,40})""", re.IGNORECASE)
_DECLARED_WITHIN = 4096
_HIDDEN = re.compile(r"(?i)\b(?:display\s*:\s*none|visibility\s*:\s*hidden)")
_SKIPPED = frozenset(
    re.findall(
        r"\w+",
        """
            audio button canvas datalist embed head iframe img input map math meter noscript object picture
            progress script select style svg template textarea video
        """,
    )
)
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        """
            address article aside blockquote body caption center dd details dialog dir div dl dt fieldset
            figcaption figure footer form header hr legend li main menu nav ol p pre search section summary
            table tbody td tfoot th thead tr ul h1 h2 h3 h4 h5 h6
        """,
    )
)
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_CELLS = frozenset({"td", "th"})
_HEADING = re.compile(r"h([1-6])")
_BR = "\v"  # stands for <br>, since a line end in the source is only a blank; `clean` lets no other through


def read(content: bytes) -> Extracted:
    """What a browser would show as text. The page's title comes first when there is no <h1>."""
    declared = _DECLARED.search(content[:_DECLARED_WITHIN])
    text = clean(decode(content, declared[1].decode("ascii") if declared else None)).replace("\f", " ")
    root = _parsed(text)
    if root is None:
        return finish("", "markdown")
    written = _Page(root).markdown()
    title = " ".join((root.findtext(".//title") or "").split())
    if title and root.find(".//h1") is None:
        written = f"# {title}\n\n{written}"
    return finish(tidy(written), "markdown")


def _parsed(text: str) -> etree._Element | None:
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.ParserError:  # an empty document
        return None
    except etree.XMLSyntaxError as error:
        raise damaged("a web page") from error
    if any(entry.level_name == "FATAL" for entry in parser.error_log):
        # Past a depth of 256 the parser stops in silence and the rest of the page would be lost.
        raise UnreadableFile(
            "This web page is nested too deeply to be read. "
            "Please open it in a browser, save it as a PDF and upload that."
        )
    return root


class _Page:
    """One walk over the tree, without recursion, writing blocks of Markdown as they end."""

    def __init__(self, root: etree._Element) -> None:
        self._root = root
        self._blocks: list[str] = []
        self._inline: list[str] = []
        self._lists: list[int | None] = []  # the last number of an <ol>, None for other lists
        self._mark = ""  # what goes before the next block: "## ", "- "
        self._row: list[str] | None = None
        self._rows = 0
        self._preformatted = False
        self._layout_tables = {
            outer for table in root.iter("table") for outer in table.iterancestors("table")
        }

    def markdown(self) -> str:
        walk = etree.iterwalk(self._root, events=("start", "end"))
        for event, element in walk:
            if event == "start":
                if _is_skipped(element):
                    walk.skip_subtree()
                    continue
                self._start(element)
                self._inline.append(element.text or "")
            elif _is_skipped(element):
                self._inline.append(element.tail or "")
            else:
                self._end(element)
                self._inline.append(element.tail or "")
        self._flush()
        return "".join(self._blocks)

    def _start(self, element: etree._Element) -> None:
        tag = element.tag
        if tag == "br":
            self._inline.append(" " if self._row is not None else _BR)
        if tag not in _BLOCKS:
            return
        self._flush()
        if tag in _LISTS:
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._mark = self._bullet()
        elif heading := _HEADING.fullmatch(tag):
            self._mark = "#" * int(heading[1]) + " "
        elif tag == "pre":
            self._preformatted = True
        elif tag == "table":
            self._rows = 0
        elif tag == "tr" and not self._is_layout(element):
            self._row = []

    def _end(self, element: etree._Element) -> None:
        tag = element.tag
        if tag not in _BLOCKS:
            return
        if tag in _CELLS and self._row is not None:
            self._row.append(" ".join("".join(self._inline).split()))
            self._inline.clear()
            return
        self._flush()
        if tag in _LISTS and self._lists:
            self._lists.pop()
        elif tag == "pre":
            self._preformatted = False
        elif tag == "tr" and self._row is not None:
            self._end_row(self._row)
            self._row = None
        elif tag == "li" or _HEADING.fullmatch(tag):
            self._mark = ""
        if tag == "table" or (tag in _LISTS and not self._lists):
            self._blocks.append("\n")

    def _is_layout(self, row: etree._Element) -> bool:
        return next(row.iterancestors("table"), None) in self._layout_tables

    def _bullet(self) -> str:
        if not self._lists:
            return "- "
        indent = "  " * min(len(self._lists) - 1, 8)
        number = self._lists[-1]
        if number is None:
            return f"{indent}- "
        self._lists[-1] = number + 1
        return f"{indent}{number + 1}. "

    def _end_row(self, row: list[str]) -> None:
        if not any(row):
            return
        self._rows += 1
        self._blocks.append(f"| {' | '.join(row)} |\n")
        if self._rows == 1:
            self._blocks.append(f"|{' --- |' * len(row)}\n")

    def _flush(self) -> None:
        """Ends the present block. Within a table's cell a block only ends a word."""
        if self._row is not None:
            self._inline.append(" ")
            return
        text = "".join(self._inline)
        self._inline.clear()
        if self._preformatted:
            text = text.replace(_BR, "\n").strip("\n")
            if text.strip():
                self._blocks.append(f"```\n{text}\n```\n\n")
            return
        joint = " " if self._mark.startswith("#") else "\n"
        text = joint.join(filter(None, (" ".join(line.split()) for line in text.split(_BR))))
        if not text:
            return
        item = self._mark != "" and not self._mark.startswith("#")
        self._blocks.append(f"{self._mark}{text}\n" if item else f"{self._mark}{text}\n\n")
        self._mark = ""


def _is_skipped(element: etree._Element) -> bool:
    return (
        element.tag in _SKIPPED
        or "hidden" in element.attrib
        or _HIDDEN.search(element.get("style", "")) is not None
    )
