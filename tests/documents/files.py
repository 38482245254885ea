"""Sample and hostile files, made in code so that the repository holds no binaries."""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

import docx
from docx.document import Document
from docx.enum.text import WD_BREAK
from PIL import Image
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.pdfencrypt import StandardEncryption  # type: ignore[import-untyped]
from reportlab.lib.utils import ImageReader  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

Printed = tuple[str, float, float]  # text, size, distance from the line above


def pdf(pages: Sequence[Sequence[Printed]], password: str | None = None) -> bytes:
    """A PDF of lines in Helvetica, each at its size and distance below the one before."""
    buffer = io.BytesIO()
    encryption = StandardEncryption(password) if password else None
    canvas = Canvas(buffer, pagesize=A4, encrypt=encryption)
    for page in pages:
        height = 780.0
        for text, size, distance in page:
            height -= distance
            canvas.setFont("Helvetica", size)
            canvas.drawString(72, height, text)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def long_pdf(pages: int) -> bytes:
    """Forty full lines on each page under a heading."""
    line = "The tenant pays the rent on the first day of each month and keeps the garden in order"
    return pdf([[(f"Chapter {number}", 18, 20), *[(line, 11, 14)] * 40] for number in range(1, pages + 1)])


def scanned_pdf() -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    canvas.drawImage(ImageReader(Image.new("RGB", (60, 80), "white")), 50, 50, 400, 600)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def raw_pdf(
    content: bytes, *, cmap: bytes = b"", compressed: bool = False, kids: bytes = b"[3 0 R]"
) -> bytes:
    """A PDF of one page put together by hand, for what no program would write."""
    extra = b""
    if compressed:
        content, extra = zlib.compress(content, 9), b" /Filter /FlateDecode"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids %s /Count %d >>" % (kids, kids.count(b"R")),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(content), extra, content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(cmap), cmap),
    ]
    written, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        written
        + b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
        % (
            len(objects) + 1,
            table,
            len(objects) + 1,
            len(written),
        )
    )


def character_map(pairs: dict[bytes, str]) -> bytes:
    """A /ToUnicode map: which text each byte of a PDF's strings stands for."""
    rows = b" ".join(
        b"<%s> <%s>" % (code.hex().encode(), text.encode("utf-16-be").hex().encode())
        for code, text in pairs.items()
    )
    return (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        b"1 begincodespacerange <00> <FF> endcodespacerange\n"
        b"%d beginbfchar %s endbfchar\nendcmap end end" % (len(pairs), rows)
    )


def word() -> bytes:
    """A .docx with a title, headings, lists, a table, umlauts and a page break."""
    document = docx.Document()
    document.add_heading("Mietvertrag", 0)
    document.add_heading("Wohnung", 1)
    document.add_paragraph("Die Wohnung liegt in Köln.")
    document.add_paragraph("ein Balkon", style="List Bullet")
    document.add_paragraph("ein Keller", style="List Number")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        (cell for row in table.rows for cell in row.cells), ("Raum", "Größe", "Küche", "12 m²"), strict=True
    ):
        cell.text = text
    document.add_paragraph("Ende der ersten Seite.").add_run().add_break(WD_BREAK.PAGE)
    document.add_heading("Kündigung", 2)
    document.add_paragraph("Drei Monate.")
    return _saved(document)


def word_without_text() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(picture, "PNG")
    picture.seek(0)
    document = docx.Document()
    document.add_picture(picture)
    return _saved(document)


def _saved(document: Document) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def word_of(body: str, *, prologue: str = "", styles: str = "") -> bytes:
    """A .docx whose body is the given WordprocessingML."""
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    xml = f'<?xml version="1.0" encoding="UTF-8"?>{prologue}{document}'
    return package(
        {
            "word/document.xml": xml.encode(),
            "word/styles.xml": f'<w:styles xmlns:w="{_WORD}">{styles}</w:styles>'.encode(),
        }
    )


def package(parts: dict[str, bytes]) -> bytes:
    relations = {
        "_rels/.rels": _relations("officeDocument", "word/document.xml"),
        "word/_rels/document.xml.rels": _relations("styles", "styles.xml"),
    }
    return zipped({**relations, **parts})


def _relations(kind: str, target: str) -> bytes:
    relation = f'<Relationship Id="r1" Type="{_OFFICE}/{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{_RELATIONS}">{relation}</Relationships>'.encode()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def word_bomb(megabytes: int) -> bytes:
    """A small .docx whose body unpacks to so many megabytes of blanks."""
    return word_of(f"<w:p><w:r><w:t>x</w:t></w:r></w:p>{' ' * (megabytes * 1_000_000)}")


def lying_word_bomb(megabytes: int) -> bytes:
    """The same, with headers that claim 100 bytes."""
    content = bytearray(word_bomb(megabytes))
    name = b"word/document.xml"
    for signature, field in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.find(signature)
        while at != -1:
            length_at = at + (26 if field == 22 else 28)
            name_at = at + (30 if field == 22 else 46)
            length = struct.unpack_from("<H", content, length_at)[0]
            if content[name_at : name_at + length] == name:
                struct.pack_into("<I", content, at + field, 100)
            at = content.find(signature, at + 4)
    return bytes(content)


def entity_bomb() -> bytes:
    levels = "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10))
    prologue = f'<!DOCTYPE bomb [<!ENTITY a0 "ha">{levels}]>'
    return word_of("<w:p><w:r><w:t>&a9;</w:t></w:r></w:p>", prologue=prologue)


def external_entity(address: str) -> bytes:
    prologue = f'<!DOCTYPE x [<!ENTITY file SYSTEM "{address}">]>'
    return word_of("<w:p><w:r><w:t>before &file; after</w:t></w:r></w:p>", prologue=prologue)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "blue").save(buffer, "PNG")
    return buffer.getvalue()
