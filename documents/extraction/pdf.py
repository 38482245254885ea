"""PDF -> lines of text with their places and sizes, read by PDFium; `layout` makes Markdown of them."""

import math
from statistics import median

import pypdfium2
import pypdfium2.raw as pdfium

from documents.extraction.base import (
    MAX_TEXT_CHARACTERS,
    Extracted,
    NoText,
    UnreadableFile,
    clean,
    damaged,
    finish,
    tidy,
    too_long,
)
from documents.extraction.layout import Line, markdown

MAX_PAGES = 5_000
_LINE_END = "\r\n"


def read(content: bytes) -> Extracted:
    """The text of a PDF, with headings told by their size and the offset of each page."""
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise _refusal(error) from error
    with document:
        pages = _pages(document)
    if not any(character.isalnum() for page in pages for line in page for character in line.text):
        raise NoText(
            "There is no text in this PDF; its pages seem to be scanned pictures. "
            "Please run it through text recognition (OCR) and upload the result."
        )
    return finish(tidy(clean(markdown(pages))), "markdown", paged=True)


def _refusal(error: pypdfium2.PdfiumError) -> UnreadableFile:
    if error.err_code == pdfium.FPDF_ERR_PASSWORD:
        return UnreadableFile(
            "This PDF needs a password. Please save a copy without the password and upload that one."
        )
    if error.err_code == pdfium.FPDF_ERR_SECURITY:
        return UnreadableFile(
            "This PDF is locked in a way that we cannot open. "
            "Please print it to a new PDF and upload that one."
        )
    return damaged("a PDF")


def _pages(document: pypdfium2.PdfDocument) -> list[list[Line]]:
    if len(document) > MAX_PAGES:
        raise UnreadableFile(
            f"This PDF says it has more than {MAX_PAGES:,} pages, which is more than we can take in at once. "
            "Please split it into smaller files."
        )
    pages: list[list[Line]] = []
    characters = 0
    for number in range(len(document)):
        try:
            page = document[number]
            text_page = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            raise UnreadableFile(
                f"Page {number + 1} of this PDF is damaged and cannot be read. "
                "Please print the document to a new PDF and upload that one."
            ) from error
        pages.append(_lines(text_page))
        text_page.close()
        page.close()
        characters += sum(len(line.text) for line in pages[-1])
        if characters > MAX_TEXT_CHARACTERS:
            raise too_long()
    return pages


def _lines(text_page: pypdfium2.PdfTextPage) -> list[Line]:
    if text_page.count_chars() == 0:
        return []
    lines: list[Line] = []
    start = 0  # in UTF-16 units, as PDFium counts
    for text in text_page.get_text_range(errors="replace").split(_LINE_END):
        length = len(text.encode("utf-16-le", errors="surrogatepass")) // 2
        if stripped := text.strip():
            first = start + len(text) - len(text.lstrip())
            last = start + length - 1 - (len(text) - len(text.rstrip()))
            lines.append(_placed(text_page, stripped, first, last))
        start += length + len(_LINE_END)
    return lines


def _placed(text_page: pypdfium2.PdfTextPage, text: str, first: int, last: int) -> Line:
    """A line with its place in the direction in which it is written, whatever way the page is turned."""
    begin, end = (pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, index) for index in (first, last))
    samples = [_drawn(text_page, index) for index in (begin, (begin + end) // 2, end)]
    size = median(sample[0] for sample in samples)
    _, cosine, sine = samples[0]
    left, _, top = _corner(text_page, begin, cosine, sine)
    _, right, bottom = _corner(text_page, end, cosine, sine)
    return Line(text, size, left, right, top, bottom)


def _drawn(text_page: pypdfium2.PdfTextPage, index: int) -> tuple[float, float, float]:
    """The size at which one character is drawn, and the cosine and sine of its angle."""
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFText_GetMatrix(text_page, index, matrix):
        return 0.0, 1.0, 0.0
    size = pdfium.FPDFText_GetFontSize(text_page, index) * math.hypot(matrix.c, matrix.d)
    width = math.hypot(matrix.a, matrix.b)
    return (size, matrix.a / width, matrix.b / width) if width else (size, 1.0, 0.0)


def _corner(
    text_page: pypdfium2.PdfTextPage, index: int, cosine: float, sine: float
) -> tuple[float, float, float]:
    """Where a character begins and ends along the line, and how high the line stands."""
    box = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, box)
    along = sorted(x * cosine + y * sine for x in (box.left, box.right) for y in (box.bottom, box.top))
    height = min(y * cosine - x * sine for x in (box.left, box.right) for y in (box.bottom, box.top))
    return along[0], along[-1], height
