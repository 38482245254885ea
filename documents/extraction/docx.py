"""Word documents -> Markdown: headings, paragraphs, lists, tables and page breaks.

Only three parts of the package are ever inflated (the relations, the styles and the body), each
piece by piece up to a limit, whatever the archive says about its sizes.
"""

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator

from lxml import etree  # type: ignore[import-untyped]

from documents.extraction.base import (
    PAGE_BREAK,
    Extracted,
    UnreadableFile,
    UnsupportedFile,
    clean,
    damaged,
    finish,
    tidy,
)

MAX_PART_BYTES = 60_000_000
_MAX_BASED_ON = 20
_HEADING_NAME = re.compile(r"heading ([1-9])", re.IGNORECASE)
_UNREAD = frozenset(
    {"del", "moveFrom", "Fallback", "instrText", "delText", "rPr", "pPr", "tblPr", "trPr", "tcPr", "sdtPr"}
)
_CHARACTERS = {"tab": "\t", "cr": "\n", "noBreakHyphen": "-", "lastRenderedPageBreak": PAGE_BREAK}
_BLANKS = re.compile(r"[ \t\n]+")  # not \s: form feeds mark pages
# The format allows no other ways of compression, and these two can be inflated piece by piece.
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read(content: bytes) -> Extracted:
    """The text of a .docx, with pages if it holds page breaks."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            body, styles = _parts(archive)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        etree.XMLSyntaxError,
        ValueError,
    ) as error:
        raise damaged("a Word document") from error
    except RuntimeError as error:  # zipfile's way to say that a member is encrypted
        raise UnreadableFile(
            "This document needs a password. Please save a copy without the password and upload that one."
        ) from error
    text = tidy(clean(_Body(body, styles).markdown()))
    return finish(text, "markdown", paged=PAGE_BREAK in text)


def _parts(archive: zipfile.ZipFile) -> tuple[etree._Element, etree._Element | None]:
    """The trees of the body and of the styles."""
    main = _related(archive, "", "officeDocument") or "word/document.xml"
    body = _tree(archive, main)
    if body is None:
        raise UnsupportedFile(
            "This file is named .docx but holds no Word document. "
            "Please open it in a word processor, save it as .docx and upload that."
        )
    styles = _related(archive, main, "styles")
    return body, _tree(archive, styles) if styles else None


def _related(archive: zipfile.ZipFile, part: str, kind: str) -> str | None:
    """The name of the part that `part` (or the package, for "") relates to as `kind`."""
    folder, name = posixpath.split(part)
    relations = _tree(archive, posixpath.join(folder, "_rels", f"{name}.rels"))
    for relation in () if relations is None else relations:
        if relation.get("Type", "").endswith(f"/{kind}") and relation.get("TargetMode") != "External":
            target = relation.get("Target", "")
            return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
    return None


def _tree(archive: zipfile.ZipFile, name: str) -> etree._Element | None:
    """One part's XML, or None if there is no such part."""
    if name not in archive.NameToInfo:
        return None
    if archive.getinfo(name).compress_type not in _COMPRESSIONS:
        raise damaged("a Word document")
    with archive.open(name) as member:
        xml = member.read(MAX_PART_BYTES + 1)
    if len(xml) > MAX_PART_BYTES:
        raise UnreadableFile(
            "This document unpacks to far more than a document of its size should. "
            "Please save it again in a word processor, without tracked changes, or split it, and upload that."
        )
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    root = etree.fromstring(xml, parser)
    if root.getroottree().docinfo.doctype:
        raise damaged("a Word document")  # Word writes no DTD, and entities are a way to blow up a parser
    return root


class _Body:
    def __init__(self, root: etree._Element, styles: etree._Element | None) -> None:
        self._root = root
        self._levels, self._list_styles = ({}, frozenset()) if styles is None else _read_styles(styles)
        # Word notes each page break of its last layout; without these, the breaks set by hand count.
        self._rendered = next(root.iter("{*}lastRenderedPageBreak"), None) is not None

    def markdown(self) -> str:
        return "".join(self._blocks(self._root))

    def _blocks(self, parent: etree._Element) -> Iterator[str]:
        for child in parent:
            name = _name(child)
            if name == "p":
                yield self._paragraph(child)
            elif name == "tbl":
                yield self._table(child)
            elif name not in _UNREAD:  # content controls, tracked insertions and the body itself
                yield from self._blocks(child)

    def _paragraph(self, paragraph: etree._Element) -> str:
        inline = "".join(self._inline(paragraph))
        text = inline.strip()  # takes form feeds too: no mark stands on another page than its words
        if not text:
            return PAGE_BREAK * inline.count(PAGE_BREAK)
        before = PAGE_BREAK * inline[: len(inline) - len(inline.lstrip())].count(PAGE_BREAK)
        after = PAGE_BREAK * inline[len(inline.rstrip()) :].count(PAGE_BREAK)
        level, depth = self._role(paragraph)
        if level:
            return f"\n{before}{'#' * min(level, 6)} {_BLANKS.sub(' ', text)}\n\n{after}"
        if depth is not None:
            return f"{before}{'  ' * depth}- {text}\n{after}"
        return f"\n{before}{text}\n\n{after}"

    def _role(self, paragraph: etree._Element) -> tuple[int, int | None]:
        """The level as a heading (0: none) and the depth as a list item (None: no item)."""
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return self._levels.get("", 0), None
        style = _value(properties, "pStyle") or ""
        outline = _value(properties, "outlineLvl")
        level = int(outline) + 1 if outline in set("012345678") else self._levels.get(style, 0)
        numbering = properties.find("{*}numPr")
        if numbering is not None and _value(numbering, "numId") != "0":
            depth = _value(numbering, "ilvl") or "0"
            return level, min(int(depth), 8) if depth.isdigit() else 0
        return level, 0 if style in self._list_styles else None

    def _inline(self, parent: etree._Element) -> Iterator[str]:
        for child in parent:
            name = _name(child)
            if name == "t":
                yield (child.text or "").replace(PAGE_BREAK, " ")
            elif name == "br":
                by_hand = _attribute(child, "type") == "page"
                yield (PAGE_BREAK if not self._rendered else "") if by_hand else "\n"
            elif name in _CHARACTERS:
                yield _CHARACTERS[name]
            elif name in {"p", "tbl"}:  # a text box, anchored in this paragraph
                yield "\n"
                yield from self._inline(child)
                yield "\n"
            elif name not in _UNREAD:
                yield from self._inline(child)

    def _table(self, table: etree._Element) -> str:
        lines: list[str] = []
        for row in table.iter("{*}tr"):
            if _nearest(row, "tbl") is not table:
                continue
            cells = [self._cell(cell) for cell in row.iter("{*}tc") if _nearest(cell, "tr") is row]
            if not any(cells):
                continue
            lines.append(f"| {' | '.join(cells)} |\n")
            if len(lines) == 1:
                lines.append(f"|{' --- |' * len(cells)}\n")
        return f"\n{''.join(lines)}\n"

    def _cell(self, cell: etree._Element) -> str:
        texts = ("".join(self._inline(child)) for child in cell if _name(child) not in _UNREAD)
        return _BLANKS.sub(" ", " ".join(texts)).strip(" ")


def _read_styles(styles: etree._Element) -> tuple[dict[str, int], frozenset[str]]:
    """The heading level of each style that has one ("" for the default), and the ids of the list styles."""
    found = {_attribute(style, "styleId"): style for style in styles.iter("{*}style")}
    levels: dict[str, int] = {}
    lists: set[str] = set()
    for identifier, style in found.items():
        if _attribute(style, "type") != "paragraph":
            continue
        ancestor: etree._Element | None = style
        for _ in range(_MAX_BASED_ON):
            if ancestor is None:
                break
            if level := _style_level(ancestor):
                levels[identifier] = level
                break
            if (_value(ancestor, "name") or "").lower().startswith("list "):
                lists.add(identifier)
                break
            ancestor = found.get(_value(ancestor, "basedOn") or "")
    return levels, frozenset(lists)


def _style_level(style: etree._Element) -> int:
    name = _value(style, "name") or ""
    if name.lower() == "title":
        return 1
    if match := _HEADING_NAME.fullmatch(name):
        return int(match[1])
    properties = style.find("{*}pPr")
    outline = None if properties is None else _value(properties, "outlineLvl")
    return int(outline) + 1 if outline in set("012345678") else 0


def _nearest(element: etree._Element, name: str) -> etree._Element | None:
    return next(element.iterancestors(f"{{*}}{name}"), None)


def _name(element: etree._Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else "Fallback"  # a comment or the like: not read


def _attribute(element: etree._Element, name: str) -> str:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""


def _value(parent: etree._Element, name: str) -> str | None:
    child = parent.find(f"{{*}}{name}")
    return None if child is None else _attribute(child, "val")
