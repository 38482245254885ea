"""Passages: a chunk and what stands beside it, whole, bounded and none of it twice."""

from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from documents.models import Chunk, Document
from documents.neighbours import PASSAGE_CHARACTERS, REACH, Passage, passages
from documents.statements import Place

pytestmark = pytest.mark.usefixtures("leases")
QUARTER = PASSAGE_CHARACTERS // 4 - 1  # with what joins it to the next


def chunks(*lengths: int) -> list[tuple[int, Place]]:
    """The chunks of a new document; the text of the first is all a, of the second all b."""
    document = Document.objects.create(
        owner="ann", title="t", content_type="text", text="", file_size=1, word_count=1
    )
    made = [
        Chunk.objects.create(
            document=document, index=number, text=chr(97 + number) * length, start=0, end=length
        )
        for number, length in enumerate(lengths)
    ]
    return [(chunk.pk, Place(document.pk, chunk.index)) for chunk in made]


def letters(passage: Passage) -> str:
    """Which chunks it has, a letter each, after a look that it has them whole."""
    parts = passage.text.split("\n")
    assert [part[0] for part in parts] == [chr(97 + place.number) for place in passage.places]
    return "".join(part[0] for part in parts)


def test_neighbours_on_both_sides_as_far_as_they_fit() -> None:
    made = chunks(*[QUARTER] * 9)
    (passage,) = passages([made[4]], 1).values()
    assert letters(passage) == "defg"
    assert len(passage.text) <= PASSAGE_CHARACTERS


def test_at_the_ends_of_a_document_there_are_those_of_the_other_side() -> None:
    made = chunks(*[QUARTER] * 9)
    assert [letters(passage) for passage in passages([made[0], made[8]], 9).values()] == ["abcd", "fghi"]


def test_no_neighbour_is_skipped_for_one_that_is_shorter() -> None:
    made = chunks(10, PASSAGE_CHARACTERS, 10, 10, PASSAGE_CHARACTERS)
    assert letters(passages([made[2]], 1)[made[2][0]]) == "cd"


def test_a_long_chunk_stands_alone_and_whole() -> None:
    made = chunks(10, PASSAGE_CHARACTERS * 2, 10)
    (passage,) = passages([made[1]], 1).values()
    assert (letters(passage), len(passage.text)) == ("b", PASSAGE_CHARACTERS * 2)


def test_tiny_chunks_are_joined_within_reach() -> None:
    made = chunks(*[5] * 20)
    assert len(passages([made[10]], 1)[made[10][0]].places) == 2 * REACH + 1


def test_nothing_is_in_two_passages_and_the_better_one_has_it() -> None:
    made = chunks(*[QUARTER] * 9)
    found = passages([made[4], made[5], made[7]], 9)
    assert [letters(passage) for passage in found.values()] == ["defg", "hi"]
    assert list(found) == [made[4][0], made[7][0]]


def test_documents_are_never_joined() -> None:
    first, second = chunks(10, 10), chunks(10)
    found = passages([second[0], first[1]], 9)
    assert [letters(passage) for passage in found.values()] == ["a", "ab"]


def test_one_query_for_a_page_of_results_and_as_many_as_were_asked_for() -> None:
    apart = [chunks(10)[0] for _ in range(12)]
    others = [
        Chunk(document_id=place.document, index=n, text="", start=0, end=0)
        for _, place in apart
        for n in range(100, 200)
    ]
    Chunk.objects.bulk_create(others)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        assert list(passages(apart, 10)) == [pk for pk, _ in apart[:10]]
    assert len(queries) == 1
    if connection.vendor == "sqlite":  # which would go through all chunks of everybody for a join
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
            plan = [detail for *_, detail in cursor.fetchall()]
        assert plan
        assert not [step for step in plan if step.startswith("SCAN") and "json_each" not in step], plan


def test_who_comes_far_down_the_ranking_fills_what_neighbours_leave_free() -> None:
    made = chunks(*[1] * 40)
    other = chunks(10)
    found = passages([*made, other[0]], 6)
    assert sum(len(passage.places) for passage in found.values()) == 41
    assert list(found)[-1] == other[0][0]


def test_a_chunk_that_is_gone_meanwhile_is_left_out() -> None:
    assert passages([(0, Place(uuid4(), 0))], 5) == {}
