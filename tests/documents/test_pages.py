"""The pages of the documents as a browser without scripts sees them."""

import re
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from documents import reading
from documents.models import Chunk, Document
from documents.reading import Passage, Text, excerpt
from leases import mutex
from leases.models import Service
from leases.owners import SESSION_KEY
from tests.documents import files

pytestmark = pytest.mark.usefixtures("leases")

LIST = "/documents/"
VECTORS = "vector-convert"
LEAVE = """# Staff handbook

## Leave

Every employee of Brightwater Mills has 31 days of paid holiday in a year.

## Bicycles

The company pays for the repair of bicycles that are used for the way to work.
"""
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


@pytest.fixture
def stranger() -> Client:
    return Client()


def send(client: Client, action: str, **fields: Any) -> str:
    """What the page says after a form was sent."""
    response = client.post(LIST, {"action": action, **fields})
    assert response.status_code == 302
    return text_of(client.get(response["Location"]).content)


def paste(client: Client, title: str = "Handbook", content: str = LEAVE, kind: str = "markdown") -> Document:
    send(client, "paste", title=title, content=content, contentType=kind)
    return Document.objects.get(title=title)


def text_of(html: bytes) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html.decode())).split())


def address(document: Document) -> str:
    return f"{LIST}{document.pk}/"


class TestForms:
    def test_files_are_uploaded_each_with_its_own_sentence(self, client: Client) -> None:
        sent = [
            SimpleUploadedFile("rules.pdf", files.long_pdf(2)),
            SimpleUploadedFile("photo.png", files.picture()),
            SimpleUploadedFile("scan.pdf", files.scanned_pdf()),
        ]
        page = send(client, "upload", file=sent)
        assert "“rules” is uploaded. Convert it to find it by meaning." in page
        assert "photo.png: Please upload a .pdf, .docx" in page
        assert "“scan”: The file is stored, but no text can be read from it." in page
        assert set(Document.objects.values_list("title", flat=True)) == {"rules", "scan"}
        assert set(Document.objects.values_list("owner", flat=True)) == {client.session[SESSION_KEY]}

    @pytest.mark.parametrize(
        ("action", "fields", "sentence"),
        [
            ("upload", {}, "Please choose a file to upload."),
            ("upload", {"file": SimpleUploadedFile("a.txt", b"")}, "The file is empty."),
            (
                "upload",
                {"file": SimpleUploadedFile("a.txt", b"x" * 10_485_761)},
                "The file is larger than 10 MB.",
            ),
            ("paste", {"title": "", "content": "x"}, "Title is required"),
            ("paste", {"title": "x", "content": " "}, "Content is required"),
            ("paste", {"title": "x", "content": "y" * 1_048_577}, "The text is longer than 1 MB."),
        ],
    )
    def test_what_cannot_be_taken_gets_a_sentence_and_no_session(
        self, client: Client, action: str, fields: dict[str, Any], sentence: str
    ) -> None:
        for file in fields.values():
            if isinstance(file, SimpleUploadedFile):
                file.seek(0)
        assert sentence in send(client, action, **fields)
        assert not Document.objects.exists()
        assert SESSION_KEY not in client.session

    def test_convert_and_convert_again(self, client: Client) -> None:
        document = paste(client)
        assert "Not converted" in text_of(client.get(LIST).content)
        assert "“Handbook” is converted" in send(client, "convert", document=document.pk)
        assert Chunk.objects.filter(document=document, vector__isnull=False).exists()
        assert "Ready" in text_of(client.get(LIST).content)
        response = client.post(address(document), {"action": "convert"}, follow=True)
        assert response.redirect_chain == [(address(document), 302)]
        assert "“Handbook” had its vectors already." in text_of(response.content)

    def test_a_refused_conversion_says_why(self, client: Client) -> None:
        document = paste(client)
        sentence = "Conversions rest on Sundays. Please come back on Monday."
        Service.objects.filter(pk=VECTORS).update(enabled=False, disabled_message=sentence)
        assert sentence in send(client, "convert", document=document.pk)
        response = client.post(address(document), {"action": "convert"}, follow=True)
        assert sentence in text_of(response.content)

    def test_a_busy_conversion_says_so(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("documents.pages.WAIT_SECONDS", 0.2)
        document = paste(client)
        grant = mutex.acquire(VECTORS, "somebody")
        assert "was still busy after 0.2 seconds of waiting" in send(client, "convert", document=document.pk)
        mutex.release(grant)
        assert "is converted" in send(client, "convert", document=document.pk)

    def test_a_document_without_text_cannot_be_converted(self, client: Client) -> None:
        send(client, "upload", file=SimpleUploadedFile("scan.pdf", files.scanned_pdf()))
        document = Document.objects.get()
        assert "No text can be read from this document" in send(client, "convert", document=document.pk)
        page = client.get(address(document)).content.decode()
        assert 'value="convert" hidden' in page
        assert "text recognition (OCR)" in page

    def test_delete_from_the_list_and_from_the_page(self, client: Client) -> None:
        for remove_from in (LIST, None):
            document = paste(client)
            response = client.post(
                remove_from or address(document), {"action": "delete", "document": document.pk}, follow=True
            )
            assert response.redirect_chain == [(LIST, 302)]
            assert "“Handbook” is deleted." in text_of(response.content)
            assert not Document.objects.exists()

    @pytest.mark.parametrize("action", ["", "explode"])
    def test_a_form_without_a_known_purpose_is_refused(self, client: Client, action: str) -> None:
        assert client.post(LIST, {"action": action}).status_code == 400

    def test_forms_of_other_sites_are_refused(self) -> None:
        client = Client(enforce_csrf_checks=True)
        assert client.post(LIST, {"action": "paste", "title": "x", "content": "y"}).status_code == 403
        assert not Document.objects.exists()


class TestOwnership:
    def test_others_neither_see_nor_touch_it(self, client: Client, stranger: Client) -> None:
        document = paste(client)
        paste(stranger, title="Mine")
        assert "Handbook" not in text_of(stranger.get(LIST).content)
        assert "Handbook" not in text_of(stranger.get(f"{LIST}?q=holiday").content)
        for action in ("convert", "delete"):
            assert stranger.post(address(document), {"action": action}).status_code == 404
            assert stranger.post(LIST, {"action": action, "document": document.pk}).status_code == 404
        document.refresh_from_db()
        assert document.embedding_model == ""

    def test_what_is_not_there_is_a_friendly_page(self, client: Client, stranger: Client) -> None:
        document = paste(client)
        addresses = (address(document), f"{LIST}6b0a1e91-e3e0-48c3-bc25-4260ae6e6611/", "/nothing-here/")
        for path in addresses:
            response = stranger.get(path)
            assert response.status_code == 404
            assert "There is nothing here" in text_of(response.content)
            assert "Your documents" in text_of(response.content)
        assert stranger.post(LIST, {"action": "delete", "document": "no uuid"}).status_code == 404


class TestList:
    def test_newest_first_with_what_is_known(self, client: Client) -> None:
        paste(client, title="Old")
        paste(client, title="New", content="one two three", kind="text")
        page = text_of(client.get(LIST).content)
        assert page.index("New") < page.index("Old")
        assert "Plain text · 13\xa0bytes · 3 words".replace("\xa0", " ") in page

    def test_search_by_title(self, client: Client) -> None:
        for title in ("Rent 2024", "Rent 2025", "Tea"):
            paste(client, title=title)
        page = text_of(client.get(f"{LIST}?search=rent").content)
        assert "(2)" in page
        assert "Tea" not in page
        assert "None of your documents has this in its title." in text_of(
            client.get(f"{LIST}?search=coffee").content
        )

    def test_show_more_reaches_every_document_once(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("documents.pages.LISTED", 2)
        for number in range(5):
            paste(client, title=f"Rent {number}")
        paste(client, title="Tea")
        seen: list[str] = []
        path: str | None = f"{LIST}?search=rent"
        while path:
            html = client.get(path).content.decode()
            seen += re.findall(r'data-show="title"[^>]*>([^<]+)<', html)
            more = re.search(r'id="more" href="([^"]+)"', html)
            path = LIST + unescape(more[1]) if more else None
        assert seen == [f"Rent {number}" for number in (4, 3, 2, 1, 0)]

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ("cursor=nonsense", "That cursor is not one of ours."),
            ("search=a%00b", "Null characters are not allowed."),
            (f"search={'x' * 201}", "Please search for at most 200 characters."),
            (f"q={'x' * 2001}", "Please search for at most 2000 characters."),
        ],
    )
    def test_a_strange_address_leads_back_with_a_sentence(
        self, client: Client, query: str, sentence: str
    ) -> None:
        response = client.get(f"{LIST}?{query}", follow=True)
        assert response.status_code == 200
        assert sentence in text_of(response.content)

    def test_hostile_titles_are_only_text(self, client: Client) -> None:
        document = paste(client, title=HOSTILE, content=f"# {HOSTILE}\n\n{HOSTILE} holiday")
        hostile_file = SimpleUploadedFile("<svg onload=alert(3)>.txt", b"<script>alert(4)</script> holiday")
        send(client, "upload", file=hostile_file)
        paths = (LIST, f"{LIST}?q=holiday {HOSTILE}", f"{LIST}?search={HOSTILE}", address(document))
        for path in paths:
            html = client.get(path).content.decode()
            assert not re.search(r"<(img|svg onload|script>)", html), path
            assert "alert(" in html


class TestSearch:
    def test_the_words_are_marked_and_lead_to_the_passage(self, client: Client) -> None:
        document = paste(client)
        send(client, "convert", document=document.pk)
        html = client.get(f"{LIST}?q=paid holidays").content.decode()
        assert "<mark>paid</mark> <mark>holiday</mark>" in html
        assert f'href="{address(document)}?chunk=0#chunk-0"' in html
        assert "not converted" not in html

    def test_what_is_not_converted_is_said(self, client: Client) -> None:
        paste(client)
        page = text_of(client.get(f"{LIST}?q=holiday").content)
        assert "1 of your documents is not converted yet" in page

    def test_what_can_never_be_converted_is_not_counted(self, client: Client) -> None:
        send(client, "upload", file=SimpleUploadedFile("scan.pdf", files.scanned_pdf()))
        assert "not converted" not in text_of(client.get(f"{LIST}?q=holiday").content)

    def test_weak_matches_are_hidden(self, client: Client) -> None:
        paste(client, title="Fitting", content="The zebra eats grass. " * 3, kind="text")
        filler = "Nothing of the kind is said in this one. " * 20
        paste(client, title="Weak", content=f"{filler} A zebra. {filler}", kind="text")
        page = text_of(client.get(f"{LIST}?q=zebra eats grass").content)
        assert "Fitting" in page
        assert "Weak" not in page

    def test_nothing_found_and_a_stranger(self, client: Client, stranger: Client) -> None:
        paste(client)
        assert "Nothing was found for “xylophone”" in text_of(client.get(f"{LIST}?q=xylophone").content)
        assert "Nothing was found" in text_of(stranger.get(f"{LIST}?q=holiday").content)
        assert SESSION_KEY not in stranger.session

    def test_an_excerpt_is_the_neighbourhood_of_the_first_word(self) -> None:
        text = f"# Title\n\n{'before ' * 100}the Mills' holidays {'after ' * 100}"
        pieces = excerpt(text, "holiday in the mill")
        assert [piece.text for piece in pieces if piece.marked] == ["the", "Mills", "holidays"]
        whole = "".join(piece.text for piece in pieces)
        assert whole.startswith("… before ")
        assert whole.endswith("after …")
        assert len(whole) < reading.EXCERPT + 10
        assert "".join(piece.text for piece in excerpt(text, "?!")).startswith("Title before")


class TestViewer:
    def test_all_that_is_known_is_there(self, client: Client) -> None:
        send(client, "upload", file=SimpleUploadedFile("rules.pdf", files.long_pdf(2)))
        document = Document.objects.get()
        send(client, "convert", document=document.pk)
        html = client.get(address(document)).content
        page = text_of(html)
        for known in ("rules", "Markdown", "Pages2", "all-MiniLM-L6-v2", "Page 2", "Ready"):
            assert known in page, known
        assert f'href="/?document={document.pk}"'.encode() in html
        for chunk in document.chunks.all():
            assert f'id="chunk-{chunk.index}"'.encode() in html
            assert f'href="#chunk-{chunk.index}"'.encode() in html
            assert f"{chunk.end - chunk.start} characters" in page

    def test_the_text_is_there_once_and_whole(self, client: Client) -> None:
        document = paste(client, content=LEAVE * 20)
        html = client.get(address(document)).content.decode()
        shown = re.search(r'<div class="text"[^>]*>(.*?)</div>', html, re.DOTALL)
        assert shown
        assert unescape(re.sub(r"<[^>]*>", "", shown[1])) == document.text
        assert '<span class="head" role="heading" aria-level="4">## Leave</span>' in shown[1]

    def test_a_long_text_is_shown_by_parts(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("documents.reading.PART", 3_000)
        document = paste(client, content=LEAVE * 60)
        chunks = list(document.chunks.order_by("index"))
        first = client.get(address(document)).content.decode()
        count = re.search(r"part 1 of (\d+)", first)
        assert count
        assert int(count[1]) > 2
        pages = [
            client.get(f"{address(document)}?part={number}").content.decode()
            for number in range(1, int(count[1]) + 1)
        ]
        found = [re.findall(r'id="chunk-(\d+)"', page) for page in pages]
        assert [int(index) for part in found for index in part] == [chunk.index for chunk in chunks]
        last = client.get(f"{address(document)}?chunk={chunks[-1].index}").content.decode()
        assert f'id="chunk-{chunks[-1].index}"' in last
        assert "Next part" not in last
        for strange in ("0", "999", "x", "-1", "1" * 5000):
            assert client.get(f"{address(document)}?part={strange}").status_code == 200
            assert client.get(f"{address(document)}?chunk={strange}").status_code == 200

    def test_passages_that_overlap_print_nothing_twice(self) -> None:
        passages = [Passage(0, 0, 6, None, ""), Passage(1, 4, 10, None, "")]
        part = Text("abcdefghijkl", passages, [0, 2], headings=False).part(1)
        assert [(segment.start, segment.end, segment.chunk) for segment in part.segments] == [
            (0, 4, 0),
            (4, 6, 1),
            (6, 10, None),
            (10, 12, None),
        ]
        assert [(run.text, run.page) for run in part.segments[0].runs] == [("ab", 1), ("cd", 2)]

    def test_what_stands_in_code_is_no_heading(self) -> None:
        text = "# One\n```\n# no\n```\n###### Six\n"
        part = Text(text, [], [], headings=True).part(1)
        runs = [(run.text, run.level) for segment in part.segments for run in segment.runs]
        assert [run for run in runs if run[1]] == [("# One", 3), ("###### Six", 6)]
        assert "".join(text for text, _ in runs) == text

    def test_a_text_of_ten_megabytes_is_shown_in_time(self, client: Client) -> None:
        send(client, "paste", title="x", content="y", contentType="text")
        document = Document.objects.get()
        Document.objects.filter(pk=document.pk).update(text="word " * 2_000_000, word_count=2_000_000)
        Chunk.objects.all().delete()
        chunks = [
            Chunk(document=document, index=n, text="", start=1000 * n, end=1000 * n + 999)
            for n in range(10_000)
        ]
        Chunk.objects.bulk_create(chunks, batch_size=1_000)
        html = client.get(f"{address(document)}?chunk=5000").content
        assert b'id="chunk-5000"' in html
        assert b"part 26 of 50" in html
        assert len(html) < 500_000
