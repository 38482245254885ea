"""The document routes, with the real embedder and real files."""

import time
from io import BytesIO
from typing import Any

import docx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from documents.models import Chunk, Document
from leases import mutex
from leases.models import Hold, Service
from tests.documents import files

pytestmark = pytest.mark.usefixtures("leases")

VECTORS = "vector-convert"

LEAVE = """# Staff handbook

## Leave

Every employee of Brightwater Mills has 31 days of paid holiday in a year.
Unused days lapse at the end of March.

## Bicycles

The company pays for the repair of bicycles that are used for the way to work, up to 120 euros a year.
"""


LEAVE_SENTENCE = "Every employee of Brightwater Mills has 31 days of paid holiday in a year."
LEAVE_PDF = files.pdf(
    [
        [
            ("Staff handbook", 20, 20),
            *[("This page says at length what the handbook is about.", 11, 14)] * 40,
        ],
        [("Leave", 16, 20), (LEAVE_SENTENCE, 11, 30), ("Unused days lapse at the end of March.", 11, 14)],
    ]
)


def leave_docx() -> bytes:
    buffer = BytesIO()
    document = docx.Document()
    document.add_heading("Leave", 1)
    document.add_paragraph(LEAVE_SENTENCE)
    document.save(buffer)
    return buffer.getvalue()


def upload(client: APIClient, content: str = LEAVE, title: str = "Handbook", **more: Any) -> str:
    body = {"title": title, "content": content, "contentType": "markdown"} | more
    response = client.post("/api/RAG/upload", body, format="json")
    assert response.status_code == 201, response.content
    document_id: str = response.json()["documentId"]
    return document_id


def convert(client: APIClient, document_id: str) -> Any:
    return client.post(
        "/api/vector-convert-llm/process-document", {"document_id": document_id}, format="json"
    )


def upload_file(client: APIClient, name: str, content: bytes, **more: Any) -> Any:
    return client.post(
        "/api/RAG/upload", {"file": SimpleUploadedFile(name, content), **more}, format="multipart"
    )


class TestUpload:
    def test_pasted_text_is_listed_with_its_fields(self, api: APIClient) -> None:
        before = int(time.time() * 1000) - 1000
        document_id = upload(api, tags=["hr", "rules"], summary="What staff may do")
        listed = api.get("/api/RAG/documents").json()
        assert listed["success"] is True
        assert (listed["total"], listed["nextCursor"]) == (1, None)
        (document,) = listed["documents"]
        uploaded_at = document.pop("uploadedAt")
        assert before < uploaded_at < before + 60_000
        assert document == {
            "_id": document_id,
            "title": "Handbook",
            "contentType": "markdown",
            "fileSize": len(LEAVE.encode()),
            "wordCount": len(LEAVE.split()),
            "hasEmbedding": False,
            "embeddingModel": None,
            "summary": "What staff may do",
            "tags": ["hr", "rules"],
        }
        assert api.get("/api/RAG/upload").json()["total"] == 1

    def test_a_real_pdf_and_docx_keep_their_pages_and_headings(self, api: APIClient) -> None:
        for name, content in (("report.pdf", LEAVE_PDF), ("report.docx", leave_docx())):
            response = upload_file(api, name, content)
            assert response.status_code == 201, response.content
            document = Document.objects.get(pk=response.json()["documentId"])
            assert document.title == "report"
            assert document.content_type == "markdown"
            assert "\n# " in f"\n{document.text}"
            assert document.chunks.filter(heading="Leave").exists()
            if name == "report.pdf":
                assert document.chunks.get(text__contains="31 days").page == 2

    def test_titles_from_hostile_file_names_are_plain_text(self, api: APIClient) -> None:
        response = upload_file(api, "../../etc/<script>alert(1)</script>\u202e.txt", b"harmless words")
        assert response.status_code == 201
        title = Document.objects.get().title
        assert "/" not in title
        assert title.isprintable()

    @pytest.mark.parametrize(
        ("body", "status", "sentence"),
        [
            ({"content": "x"}, 400, "Title is required"),
            ({"title": "x"}, 400, "Content is required"),
            ({"title": "x", "content": "  \n "}, 400, "Content is required"),
            ({"title": "x", "content": None}, 400, "Content is required"),
            ({"title": "x", "content": "nul \x00 byte"}, 400, "Null characters are not allowed."),
            (
                {"title": "x", "content": "y", "contentType": "pdf"},
                400,
                "The content type must be markdown or text.",
            ),
            ({"title": "x" * 201, "content": "y"}, 400, "Please choose a title of at most 200 characters."),
            (
                {"title": "x", "content": "y", "tags": "z"},
                400,
                "Tags must be a list of short texts, at most 20.",
            ),
            ({"title": "x", "content": "y" * (1024 * 1024 + 1)}, 413, "The text is longer than 1 MB."),
            (["not", "an", "object"], 400, "Please send one JSON object"),
        ],
    )
    def test_bad_input_gets_a_sentence_and_stores_nothing(
        self, api: APIClient, body: Any, status: int, sentence: str
    ) -> None:
        response = api.post("/api/RAG/upload", body, format="json")
        assert response.status_code == status
        assert response.json()["success"] is False
        assert response.json()["error"].startswith(sentence)
        assert not Document.objects.exists()
        assert not api.cookies, "a refused stranger needs no session"

    @pytest.mark.parametrize(
        "raw", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"title": NaN}', b'{"title": "\\ud800", "content": "x"}']
    )
    def test_bodies_that_are_no_json_are_refused_in_words(self, api: APIClient, raw: Any) -> None:
        response = api.generic("POST", "/api/RAG/upload", raw, content_type="application/json")
        assert response.status_code == 400
        assert response.json()["error"].endswith(".")

    @pytest.mark.parametrize(
        ("name", "content", "status"),
        [
            ("notes.exe", b"MZ", 400),
            ("empty.txt", b"", 400),
            ("picture.txt", b"\x89PNG\r\n\x1a\n" + bytes(100), 400),
            ("broken.pdf", b"%PDF-1.7 and then nothing", 422),
            ("locked.pdf", files.pdf([[("secret", 11, 20)]], password="letmein"), 422),
            ("bomb.docx", files.word_bomb(200), 422),
            ("large.txt", b"word " * (2 * 1024 * 1024 + 1), 413),
        ],
    )
    def test_bad_files_get_a_sentence_and_store_nothing(
        self, api: APIClient, name: str, content: bytes, status: int
    ) -> None:
        response = upload_file(api, name, content)
        assert response.status_code == status, response.content
        assert response.json()["error"].endswith(".")
        assert not Document.objects.exists()
        assert not api.cookies, "a refused stranger needs no session"

    def test_a_scan_is_kept_and_its_conversion_says_why_not(self, api: APIClient) -> None:
        response = upload_file(api, "scan.pdf", files.scanned_pdf())
        assert response.status_code == 201
        assert "OCR" in response.json()["message"]
        refused = convert(api, response.json()["documentId"])
        assert refused.status_code == 422
        assert "OCR" in refused.json()["error"]
        assert not Hold.objects.exists()


class TestConversion:
    def test_a_document_is_converted_once(self, api: APIClient) -> None:
        document_id = upload(api)
        response = convert(api, document_id)
        assert response.status_code == 200, response.content
        body = response.json()
        chunks = Chunk.objects.filter(document_id=document_id).count()
        assert chunks > 0
        assert {key: body[key] for key in ("success", "document_id", "chunks_saved", "total_chunks")} == {
            "success": True,
            "document_id": document_id,
            "chunks_saved": chunks,
            "total_chunks": chunks,
        }
        assert (body["embedding_dimension"], body["content_length"]) == (384, len(LEAVE))
        assert isinstance(body["processing_time_ms"], int)
        assert isinstance(body["embedding_method"], str)
        assert body["unchanged"] is False
        assert Hold.objects.get(service=VECTORS).outcome == "released"
        again = convert(api, document_id).json()
        assert (again["unchanged"], again["chunks_saved"]) == (True, chunks)
        assert Hold.objects.count() == 1
        assert api.get("/api/RAG/documents").json()["documents"][0]["hasEmbedding"] is True

    def test_the_other_route_does_the_same_work(self, api: APIClient) -> None:
        document_id = upload(api)
        body = api.post("/api/RAG/embeddings", {"documentId": document_id}, format="json").json()
        assert (body["document_id"], body["success"]) == (document_id, True)

    def test_a_text_file_of_nearly_ten_megabytes_is_taken(self, api: APIClient) -> None:
        response = upload_file(api, "large.txt", b"All sorts of words. " * (10 * 1024 * 1024 // 20))
        assert response.status_code == 201, response.content

    @pytest.mark.parametrize("path", ["/api/vector-convert-llm/process-document", "/api/RAG/embeddings"])
    @pytest.mark.parametrize(
        "body", [{}, {"document_id": "", "documentId": ""}, {"document_id": None, "documentId": None}]
    )
    def test_an_id_is_required(self, api: APIClient, path: str, body: Any) -> None:
        response = api.post(path, body, format="json")
        assert (response.status_code, response.json()) == (
            400,
            {"success": False, "error": "Document ID is required"},
        )

    def test_a_busy_service_is_a_503_that_says_so(self, api: APIClient) -> None:
        document_id = upload(api)
        grant = mutex.acquire(VECTORS, "somebody")
        response = convert(api, document_id)
        assert response.status_code == 503
        body = response.json()
        assert body["error"] == (
            "Someone else is using the document conversion service right now. "
            "Please try again in a minute or two."
        )
        assert (body["success"], body["serviceUnavailable"]) == (False, True)
        assert (body["reason"], body["service"], body["queueLength"]) == ("busy", VECTORS, 0)
        assert response["Retry-After"] == str(body["retryAfter"])
        mutex.release(grant)
        assert convert(api, document_id).status_code == 200

    def test_a_callers_own_second_request_is_told_so(self, api: APIClient) -> None:
        document_id = upload(api)
        mutex.acquire(VECTORS, Document.objects.get().owner)
        response = convert(api, document_id)
        assert response.status_code == 503
        assert response.json()["error"].startswith("You are already using the document conversion service")

    def test_a_disabled_service_says_so(self, api: APIClient) -> None:
        document_id = upload(api)
        Service.objects.filter(pk=VECTORS).update(enabled=False)
        response = convert(api, document_id)
        assert (response.status_code, response.json()["reason"]) == (503, "disabled")


class TestSearch:
    QUESTION = "How much vacation do workers get?"

    def test_a_pdf_and_a_docx_are_found_by_meaning(self, api: APIClient) -> None:
        for name, content in (("leave.pdf", LEAVE_PDF), ("leave.docx", leave_docx())):
            document_id = upload_file(api, name, content).json()["documentId"]
            upload(api, "# Cooking\n\nSimmer the lentils for twenty minutes.", title="Lentils")
            assert convert(api, document_id).status_code == 200
            body = api.post("/api/RAG/search", {"query": "time off work", "limit": 3}, format="json").json()
            best = body["results"][0]
            assert (best["_id"], body["searchType"]) == (document_id, "hybrid")
            assert "31 days" in best["snippet"]
            api.delete(f"/api/RAG/documents/{document_id}")

    def test_get_and_post_answer_the_same(self, api: APIClient) -> None:
        convert(api, upload(api))
        got = api.get("/api/RAG/search", {"q": self.QUESTION, "limit": "2"}).json()
        posted = api.post("/api/RAG/search", {"query": self.QUESTION, "limit": 2}, format="json").json()
        assert got == posted
        assert got["success"] is True
        for hit in got["results"]:
            assert {"_id", "_score", "title", "snippet", "chunkIndex", "contentType"} <= hit.keys()
            assert 0 < hit["_score"] <= 1
        scores = [hit["_score"] for hit in got["results"]]
        assert scores == sorted(scores, reverse=True)

    def test_without_vectors_it_falls_back_to_keywords_and_says_so(self, api: APIClient) -> None:
        upload(api)
        body = api.get("/api/RAG/search", {"q": "repairing bicycle"}).json()
        assert (body["searchType"], body["unconvertedDocuments"]) == ("keyword", 1)
        assert "bicycles" in body["results"][0]["snippet"]

    def test_an_accent_is_the_same_however_it_is_written(self, api: APIClient) -> None:
        composed, apart = "Angélique", "Ange\u0301lique"
        pasted = upload(api, f"{apart} keeps the key of the cellar.", title=f"{apart} 1", tags=[apart])
        file = upload_file(api, f"{apart} 2.txt", f"{apart} waters the plants.".encode()).json()["documentId"]
        for document in Document.objects.all():
            assert document.text.startswith(composed)
            assert document.title.startswith(composed)
        for words in (composed, apart):
            found = api.get("/api/RAG/search", {"q": words}).json()["results"]
            assert {hit["_id"] for hit in found} == {pasted, file}
            assert api.get("/api/RAG/documents", {"search": words}).json()["total"] == 2
            page = api.get("/documents/", {"q": words}).content.decode()
            assert f"<mark>{composed}</mark>" in page

    def test_a_title_that_grows_when_composed_is_measured_then(self, api: APIClient) -> None:
        """There are a few characters that NFC writes as two."""
        body = {"title": "\u0958" * 150, "content": "Words.", "contentType": "text"}
        assert api.post("/api/RAG/upload", body, format="json").status_code == 400
        assert upload_file(api, "\u0958" * 150 + ".txt", b"Words.").status_code == 201

    def test_only_the_chosen_documents_are_searched(self, api: APIClient) -> None:
        chosen, _ = upload(api, title="one"), upload(api, title="two")
        body = api.post(
            "/api/RAG/search", {"query": "holiday", "documentIds": [chosen]}, format="json"
        ).json()
        assert {hit["_id"] for hit in body["results"]} == {chosen}

    @pytest.mark.parametrize("query", ["", "   ", None, ["list"], "x" * 2001])
    def test_bad_queries_get_a_sentence(self, api: APIClient, query: Any) -> None:
        response = api.post("/api/RAG/search", {"query": query}, format="json")
        assert response.status_code == 400
        assert response.json()["success"] is False

    @pytest.mark.parametrize(
        "query", ['"', "* OR NEAR(", "' OR 1=1 --", "💥", "a" * 2000, "NOT", "-", ":x", "\\"]
    )
    def test_queries_that_look_like_syntax_are_only_words(self, api: APIClient, query: str) -> None:
        convert(api, upload(api))
        assert api.get("/api/RAG/search", {"q": query}).status_code == 200


class TestDocuments:
    def test_one_document_has_its_content_and_its_chunks(self, api: APIClient) -> None:
        document_id = upload(api)
        body = api.get(f"/api/RAG/documents/{document_id}").json()
        assert (body["success"], body["_id"], body["content"]) == (True, document_id, LEAVE)
        convert(api, document_id)
        chunks = api.get(f"/api/RAG/documents/{document_id}/embedding").json()["chunks"]
        assert [chunk["chunkIndex"] for chunk in chunks] == list(range(len(chunks)))
        for chunk in chunks:
            assert chunk["chunkText"] == LEAVE[chunk["start"] : chunk["end"]]
            assert (chunk["embeddingModel"], chunk["embeddingDimensions"]) == ("all-MiniLM-L6-v2-f32", 384)

    def test_chunks_come_in_pages(self, api: APIClient) -> None:
        document_id = upload(
            api, "\n\n".join(f"# Part {n}\n\n" + f"words of part {n} " * 150 for n in range(5))
        )
        path = f"/api/RAG/documents/{document_id}/embedding"
        seen: list[int] = []
        cursor: Any = "0"
        while cursor is not None:
            body = api.get(path, {"limit": 2, "cursor": cursor}).json()
            seen += [chunk["chunkIndex"] for chunk in body["chunks"]]
            cursor = body["nextCursor"]
        assert seen == list(range(body["total"]))
        assert len(seen) > 4

    def test_a_deleted_document_is_gone_with_its_chunks(self, api: APIClient) -> None:
        document_id = upload(api)
        assert api.delete(f"/api/RAG/documents/{document_id}").json()["success"] is True
        assert not Chunk.objects.exists()
        assert api.get(f"/api/RAG/documents/{document_id}").status_code == 404
        assert api.get("/api/RAG/search", {"q": "holiday"}).json()["results"] == []

    def test_the_list_is_newest_first_in_pages_and_can_be_searched(self, api: APIClient) -> None:
        ids = [upload(api, title=f"Title {n}", tags=[f"café{n}"]) for n in range(5)]
        seen: list[str] = []
        cursor: Any = ""
        while cursor is not None:
            body = api.get("/api/RAG/documents", {"limit": 2, "cursor": cursor}).json()
            assert body["total"] == 5
            seen += [document["_id"] for document in body["documents"]]
            cursor = body["nextCursor"]
        assert seen == ids[::-1]
        found = api.get("/api/RAG/documents", {"search": "TITLE 3"}).json()
        assert [document["_id"] for document in found["documents"]] == [ids[3]]
        found = api.get("/api/RAG/documents", {"search": "café4"}).json()
        assert [document["_id"] for document in found["documents"]] == [ids[4]]

    @pytest.mark.parametrize(
        "params", [{"limit": "x"}, {"limit": 0}, {"limit": 10**9}, {"cursor": "nonsense"}, {"cursor": "é"}]
    )
    def test_a_bad_page_is_refused_in_words(self, api: APIClient, params: dict[str, Any]) -> None:
        response = api.get("/api/RAG/documents", params)
        assert response.status_code == 400
        assert response.json()["error"].endswith(".")

    def test_stats_count_the_callers_own(self, api: APIClient, other: APIClient) -> None:
        convert(api, upload(api))
        upload(api, "plain words", title="two")
        upload(other)
        stats = api.get("/api/RAG/stats").json()
        assert (stats["success"], stats["totalDocuments"], stats["convertedDocuments"]) == (True, 2, 1)
        assert stats["totalSize"] == len(LEAVE.encode()) + len("plain words")
        assert 0 < stats["totalEmbeddings"] < stats["totalChunks"]

    @pytest.mark.parametrize("path", ["/api/RAG/documents/", "/api/RAG/upload/", "/api/RAG/stats/"])
    def test_a_trailing_slash_is_accepted(self, api: APIClient, path: str) -> None:
        assert api.get(path).status_code == 200


class TestWhoseIsWhat:
    @pytest.mark.parametrize("who", ["stranger", "browser"])
    def test_nobody_else_reads_searches_converts_or_deletes(
        self, api: APIClient, other: APIClient, who: str
    ) -> None:
        document_id = upload(api)
        convert(api, document_id)
        if who == "browser":
            upload(other, "something of their own")
        assert other.get("/api/RAG/documents").json()["total"] == (1 if who == "browser" else 0)
        assert other.get(f"/api/RAG/documents/{document_id}").status_code == 404
        assert other.get(f"/api/RAG/documents/{document_id}/embedding").status_code == 404
        assert other.delete(f"/api/RAG/documents/{document_id}").status_code == 404
        assert convert(other, document_id).status_code == 404
        chosen = {"query": "holiday", "documentIds": [document_id]}
        assert other.post("/api/RAG/search", chosen, format="json").status_code == 404
        assert all(
            hit["_id"] != document_id
            for hit in other.get("/api/RAG/search", {"q": "holiday"}).json()["results"]
        )
        assert Document.objects.filter(pk=document_id).exists()

    @pytest.mark.parametrize(
        "document_id", ["1", "not-an-id", "00000000-0000-0000-0000-000000000000", "%00", "é"]
    )
    def test_an_unknown_id_is_a_404_in_words(self, api: APIClient, document_id: str) -> None:
        upload(api)
        for response in (api.get(f"/api/RAG/documents/{document_id}"), convert(api, document_id)):
            assert response.status_code in (400, 404)
            assert response.json()["success"] is False
