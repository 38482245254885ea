"""Bytes -> text, in this process: what people read, pages, headings, and a clear refusal of all else."""

import zipfile
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents.extraction import NoText, UnreadableFile, UnsupportedFile, extract
from documents.extraction.base import MAX_TEXT_CHARACTERS
from tests.documents import files

BODY = (11, 14)


def page_of(result_pages: list[int], offset: int) -> int:
    return bisect_right(result_pages, offset)


def test_pdf_keeps_headings_pages_and_umlauts() -> None:
    content = files.pdf(
        [
            [("Der Mietvertrag", 22, 20), ("Wohnung", 16, 40), ("Über die Größe der Küche.", 11, 30)],
            [],
            [
                ("Kündigung", 16, 20),
                ("Drei Monate vorher.", 11, 30),
                ("Schriftlich, an den Vermieter.", 11, 60),
            ],
        ]
    )
    result = extract("Vertrag.PDF", content)
    assert result.text == (
        "# Der Mietvertrag\n\n## Wohnung\n\nÜber die Größe der Küche.\n\n"
        "## Kündigung\n\nDrei Monate vorher.\n\nSchriftlich, an den Vermieter."
    )
    assert result.content_type == "markdown"
    assert len(result.pages) == 3
    assert page_of(result.pages, result.text.index("Küche")) == 1
    assert page_of(result.pages, result.text.index("Kündigung") - 3) == 3


def test_pdf_lines_are_joined_to_paragraphs() -> None:
    lines = [
        "The tenant pays the rent on the first day of each month, in advance,",
        "and the landlord keeps the house in a state that is fit for living in",
        "at all times. This ends here.",
        "A new paragraph begins since the line above had room for its first",
        "word, and goes on.",
    ]
    result = extract("a.pdf", files.pdf([[(line, *BODY) for line in lines]]))
    assert result.text == f"{' '.join(lines[:3])}\n\n{' '.join(lines[3:])}"


def test_pdf_mends_hyphens_as_the_document_itself_spells_the_word() -> None:
    lines = [
        "a well-known rule of the house which is written down in the agree-",
        "ment of both parties and which is called a rule that is quite well-",
        "known, and so are the Miet-",
        "und Pachtrecht rules, as in the Baden-",
        "Baden case.",
    ]
    text = extract("a.pdf", files.pdf([[(line, *BODY) for line in lines]])).text
    assert "the agreement of" in text
    assert "quite well-known, and" in text
    assert "Miet- und Pachtrecht" in text
    assert "Baden-Baden case" in text


def test_pdf_paragraph_goes_on_over_the_page_break() -> None:
    first = [("The rent is due on the first day of each month, and the deposit", *BODY)]
    second = [("is paid back within a year.", *BODY)]
    result = extract("a.pdf", files.pdf([first, second]))
    assert "and the deposit is paid back" in result.text
    assert result.text[result.pages[1] :].startswith("is paid back")


def test_pdf_reads_ligatures_and_characters_beyond_the_basic_plane() -> None:
    cmap = files.character_map({b"A": "\U0001f600", b"B": "\ufb01", b"C": "ff"})
    content = files.raw_pdf(b"BT /F1 12 Tf 72 700 Td (Bnd the oCice A) Tj ET", cmap=cmap)
    assert extract("a.pdf", content).text == "find the office \U0001f600"


def test_pdf_size_counts_the_drawn_size_and_not_the_nominal() -> None:
    content = files.raw_pdf(
        b"q 2 0 0 2 0 0 cm BT /F1 10 Tf 36 360 Td (Big words) Tj ET Q "
        b"BT /F1 10 Tf 72 650 Td (The body of this page is small and longer.) Tj ET"
    )
    assert extract("a.pdf", content).text.startswith("# Big words\n\nThe body")


def test_docx_keeps_headings_lists_tables_and_pages() -> None:
    result = extract("a.docx", files.word())
    assert result.text == (
        "# Mietvertrag\n\n# Wohnung\n\nDie Wohnung liegt in Köln.\n\n- ein Balkon\n- ein Keller\n\n"
        "| Raum | Größe |\n| --- | --- |\n| Küche | 12 m² |\n\nEnde der ersten Seite.\n\n"
        "## Kündigung\n\nDrei Monate."
    )
    assert result.pages == [0, result.text.index("## Kündigung")]


def test_docx_prefers_the_page_breaks_that_word_laid_out() -> None:
    body = (
        '<w:p><w:r><w:t>one</w:t><w:br w:type="page"/></w:r></w:p>'
        "<w:p><w:r><w:lastRenderedPageBreak/><w:t>two runs </w:t></w:r>"
        "<w:r><w:lastRenderedPageBreak/><w:t>on</w:t></w:r></w:p>"
    )
    result = extract("a.docx", files.word_of(body))
    assert result.text == "one\n\ntwo runs on"
    assert result.pages == [0, 5, 14]


def test_docx_without_page_breaks_has_no_pages() -> None:
    assert extract("a.docx", files.word_of("<w:p><w:r><w:t>one</w:t></w:r></w:p>")).pages == []


def test_docx_reads_styles_of_other_languages_insertions_and_controls_but_nothing_deleted() -> None:
    styles = (
        '<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="Mein"><w:basedOn w:val="berschrift2"/></w:style>'
    )
    body = (
        '<w:p><w:pPr><w:pStyle w:val="Mein"/></w:pPr><w:r><w:t>Titel</w:t></w:r></w:p>'
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>held</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:ins><w:r><w:t>added</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        "<w:p><w:r><w:instrText>PAGEREF</w:instrText><w:t>7</w:t></w:r></w:p>"
    )
    assert extract("a.docx", files.word_of(body, styles=styles)).text == "## Titel\n\nheld\n\nadded\n\n7"


def test_html_keeps_what_is_read() -> None:
    page = """<!DOCTYPE html><html><head><title>Not &amp; shown</title><style>p {}</style></head><body>
    <h1>The <em>House</em></h1><script>alert(1)</script><!-- secret -->
    <p>A <a href="https://example.org/x">link</a> and * a star_with #5
    on two lines<br>and a break</p><img src="x" alt="picture">
    <ul><li>one<ul><li>inner</li></ul></li><li><p>two</p></li></ul><ol><li>first<li>second</ol>
    <table><tr><th>Room</th><th>Size</th></tr><tr><td>Bath</td><td>4 <b>m</b></td></tr></table>
    <form>Kept<input value="no"><select><option>no</option></select></form>
    <p hidden>no</p><p style="display: none">no</p><pre>  a
    b</pre></body></html>"""
    assert extract("a.html", page.encode()).text == (
        "# The House\n\nA link and * a star_with #5 on two lines\nand a break\n\n"
        "- one\n  - inner\n- two\n\n1. first\n2. second\n\n"
        "| Room | Size |\n| --- | --- |\n| Bath | 4 m |\n\nKept\n\n```\n  a\n    b\n```"
    )


def test_html_title_stands_in_for_a_missing_heading() -> None:
    assert extract("a.htm", b"<title>House rules</title><p>Quiet.").text == "# House rules\n\nQuiet."


def test_html_tables_that_only_lay_out_the_page_are_read_as_text() -> None:
    inner = b"<table><tr><td>a</td><td>b</td></tr></table>"
    page = b"<table><tr><td><h2>Head</h2><p>text</p>%s</td></tr></table>" % inner
    assert extract("a.html", page).text == "## Head\n\ntext\n\n| a | b |\n| --- | --- |"


def test_html_in_its_declared_encoding() -> None:
    page = '<meta charset="iso-8859-5"><p>Привет'.encode("iso-8859-5")
    assert extract("a.html", page).text == "Привет"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_in_any_usual_encoding(encoding: str) -> None:
    result = extract("a.txt", "Größe: 5 € \u2013 “gut”\r\nEnde\r".encode(encoding))
    assert result.text == "Größe: 5 € \u2013 “gut”\nEnde\n"
    assert (result.content_type, result.pages) == ("text", [])


def test_utf8_cut_within_a_character_is_still_read_as_utf8() -> None:
    assert extract("a.txt", ("Größe " * 20).encode() + b"\xc3").text.startswith("Größe Größe")


def test_markdown_stays_as_it_was_written() -> None:
    source = "# A\n\n\n*b*  \n\tcode\n"
    result = extract("a.md", source.encode())
    assert (result.text, result.content_type) == (source, "markdown")


def test_unseen_characters_go_and_words_stay() -> None:
    source = "a\u00adb\x07\x1b[1m" + "word " * 100 + "\u2028c\ufeff"
    assert extract("a.txt", source.encode()).text == "ab[1m" + "word " * 100 + "\nc"


@given(st.binary(max_size=300))
def test_any_bytes_give_clean_text_or_a_sentence(content: bytes) -> None:
    for name in ("a.txt", "a.md", "a.html", "a.docx"):
        text = text_or_refusal(name, content)
        assert all(character in "\n\t" or ord(character) >= 32 for character in text)
        text.encode()


def text_or_refusal(name: str, content: bytes) -> str:
    try:
        return extract(name, content).text
    except (UnsupportedFile, UnreadableFile, NoText) as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.exe", b"x", "Please upload a .pdf"),
        ("noending", b"x", "Please upload a .pdf"),
        ("a.doc", b"x", "save it as .docx"),
        ("a.txt", b"", "empty"),
        ("a.txt", b"x" * (10 * 1024 * 1024 + 1), "larger than 10 MB"),
        ("a.txt", files.picture(), "a picture"),
        ("a.md", b"\x00\x01\x02abc", "does not seem to hold text"),
        ("a.txt", b"\x81\x8d\x8f\x90 abc", "does not seem to hold text"),
        ("a.pdf", b"just words", "holds something else"),
        ("a.pdf", b"<html><body>x", "a web page"),
        ("a.html", files.long_pdf(1), "a PDF"),
        ("a.docx", files.long_pdf(1), "a PDF"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, "an old Office document"),
        ("a.docx", files.zipped({"xl/workbook.xml": b"<x/>"}), "an Excel workbook"),
        ("a.docx", files.zipped({"readme": b"x"}), "a ZIP archive"),
        ("a.pdf", files.word(), "a Word document"),
        ("a.docx", files.zipped({"word/other.xml": b"<x/>"}), "holds no Word document"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(name: str, content: bytes, says: str) -> None:
    with pytest.raises(UnsupportedFile, match=says) as caught:
        extract(name, content)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pdf", files.pdf([[("secret", *BODY)]], password="letmein"), "needs a password"),
        ("a.pdf", b"%PDF-1.7\n" + b"garbage " * 50, "damaged"),
        ("a.pdf", files.long_pdf(3)[:40], "damaged"),
        ("a.docx", files.word()[:2000], "ZIP archive|damaged"),
        ("a.docx", files.word_of("<w:p>"), "damaged"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0" + b"\x00" * 9 + "EncryptedPackage".encode("utf-16-le"),
            "needs a password",
        ),
        ("a.docx", files.word_bomb(70), "unpacks to far more"),
        ("a.docx", files.lying_word_bomb(100), "damaged"),
        ("a.docx", files.entity_bomb(), "damaged"),
        ("a.docx", files.external_entity("file:///etc/hostname"), "damaged"),
        ("a.docx", files.word_of("<w:tbl><w:tr><w:tc>" * 200), "damaged"),
        ("a.html", b"<div>" * 5000 + b"deep", "nested too deeply"),
        (
            "a.docx",
            files.word_of(f"<w:p><w:r><w:t>{'a' * (MAX_TEXT_CHARACTERS // 9)}</w:t></w:r></w:p>" * 10),
            "more than we can take in",
        ),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, content: bytes, says: str) -> None:
    with pytest.raises((UnreadableFile, UnsupportedFile), match=says) as caught:
        extract(name, content)
    assert str(caught.value).endswith(".")


def test_a_docx_with_another_compression_is_refused_before_it_is_inflated() -> None:
    content = files.zipped({"word/document.xml": b" " * 1_000_000}, zipfile.ZIP_LZMA)
    with pytest.raises(UnreadableFile, match="damaged"):
        extract("a.docx", content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", files.scanned_pdf()),
        ("a.docx", files.word_without_text()),
        ("a.html", b"<html><body><img src=x></body></html>"),
        ("a.html", b"<!-- only this -->"),
        ("a.txt", b" \n\t "),
    ],
)
def test_a_sound_file_without_words_is_told_apart(name: str, content: bytes) -> None:
    with pytest.raises(NoText):
        extract(name, content)
