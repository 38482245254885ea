"""The keyword half at size: the right chunks, for a bounded price."""

import re

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from documents.matching import matching
from documents.models import Chunk, Document

pytestmark = pytest.mark.usefixtures("leases")


def saved(texts: list[str], owner: str = "ann") -> list[int]:
    document = Document.objects.create(
        owner=owner, title="t", content_type="text", text="", file_size=1, word_count=1
    )
    rows = Chunk.objects.bulk_create(
        [Chunk(document=document, index=n, text=text, start=0, end=0) for n, text in enumerate(texts)]
    )
    return [row.pk for row in rows]


def test_a_rare_word_counts_more_than_a_frequent_one() -> None:
    ids = saved([*["the boiler hums"] * 60, "an owl by the barn", *["the boiler hums"] * 60])
    assert matching(Document.objects.all(), ["boiler", "owl"], 10)[0] == ids[60]


def test_all_words_together_count_more_than_each_alone() -> None:
    ids = saved([*["boiler and valve"] * 3, *["a boiler"] * 40, *["a valve"] * 40])
    assert set(matching(Document.objects.all(), ["boiler", "valve"], 3)) == set(ids[:3])


def test_words_too_frequent_to_look_at_each_chunk_are_found_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("documents.matching.PER_WORD", 10)
    ids = saved([*["a boiler"] * 40, *["a valve"] * 40, "a boiler with its valve"])
    assert matching(Document.objects.all(), ["boiler", "valve"], 10)[0] == ids[-1]


def test_only_the_searched_documents_are_looked_at() -> None:
    saved(["an owl"] * 30, owner="bob")
    mine = saved(["an owl", "a barn"])
    assert matching(Document.objects.filter(owner="ann"), ["owl"], 10) == mine[:1]


@pytest.mark.parametrize(
    "words", [["the", "and"], ["_"], ["'"], ["foo_bar"], ["\U0001d54f"], ["not"], ["or"]]
)
def test_odd_words_match_nothing_and_break_nothing(words: list[str]) -> None:
    saved(["Plain text of no importance."])
    assert matching(Document.objects.all(), words, 10) == []


@pytest.mark.parametrize("size", [50, 2_000])
def test_the_index_of_words_leads_to_the_chunks(size: int) -> None:
    """Not the other way round, which looks the words up once for every chunk or reads every text."""
    saved([f"number {n}" for n in range(size)], owner="bob")
    saved(["number 7"])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        with CaptureQueriesContext(connection) as queries:
            matching(Document.objects.filter(owner="ann"), ["number", "7"], 10)
        assert "chunk_words" in plan([query["sql"] for query in queries])


def plan(queries: list[str]) -> str:
    """How the database answers the last of these queries, after the settings before it."""
    settings = [sql for sql in queries if sql.startswith("SET LOCAL")]
    asked = next(sql for sql in queries if "documents_chunk" in sql)
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with transaction.atomic(), connection.cursor() as cursor:
        for sql in settings:
            cursor.execute(sql)
        cursor.execute(explain + asked)
        steps = [str(row[-1]) for row in cursor.fetchall()]
    if connection.vendor == "sqlite":  # its name for the index, and no "=": a look-up by the chunk's id
        return "chunk_words" if re.match(r"SCAN words VIRTUAL TABLE INDEX [^=]*$", steps[0]) else steps[0]
    return "\n".join(steps)
