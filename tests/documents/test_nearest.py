"""The vector half at size: through the index, nearly exact, and never beyond the searched documents."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from documents.models import Chunk, Document
from documents.nearest import nearest
from documents.vectors import Vectors

postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no index of vectors")
pytestmark = pytest.mark.usefixtures("leases")

SIZE = 3_000


def unit_vectors(count: int, dimensions: int = 384, noise: float = 0.7, seed: int = 1) -> Vectors:
    """In clusters, as texts are; the more noise, the harder for an index."""
    source = np.random.default_rng(seed)
    centres = source.normal(size=(40, dimensions))
    vectors = centres[source.integers(40, size=count)] + source.normal(0, noise, size=(count, dimensions))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def saved(vectors: Vectors, owner: str = "ann") -> list[int]:
    """The ids of the chunks that have these vectors, of one document."""
    document = Document.objects.create(
        owner=owner, title="t", content_type="text", text="", file_size=1, word_count=1, embedding_model="m"
    )
    rows = Chunk.objects.bulk_create(
        [Chunk(document=document, index=n, text="", start=0, end=0, vector=v) for n, v in enumerate(vectors)],
        batch_size=500,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return [row.pk for row in rows]


def best(ids: list[int], vectors: Vectors, vector: Vectors, count: int) -> set[int]:
    return {ids[n] for n in np.argsort(-(vectors @ vector))[:count]}


def indexed(sql: str) -> bool:
    """Whether the database answers this by the index of vectors."""
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + sql)
        return any("chunk_nearest" in line for (line,) in cursor.fetchall())


@pytest.mark.parametrize("count", [1, 10, 100, 1_000])
def test_a_small_set_is_answered_exactly(count: int) -> None:
    vectors, asked = unit_vectors(300), unit_vectors(5, seed=2)
    ids = saved(vectors)
    for vector in asked:
        found = nearest(Document.objects.all(), vector, count)
        assert set(found) == best(ids, vectors, vector, count)
        cosines = dict(zip(ids, (vectors @ vector).tolist(), strict=True))
        assert found == pytest.approx({pk: cosines[pk] for pk in found}, abs=1e-5)


def test_a_set_larger_than_one_reading_is_answered_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("documents.nearest._READ_AT_ONCE", 7)
    vectors, vector = unit_vectors(100), unit_vectors(1, seed=2)[0]
    ids = saved(vectors)
    assert set(nearest(Document.objects.all(), vector, 10)) == best(ids, vectors, vector, 10)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks of these tests are so many that the index is asked."""
    monkeypatch.setattr("documents.nearest.COMPARED", 50)
    monkeypatch.setattr("documents.nearest.COMPARED_OF_ALL", 0)


@postgresql
@pytest.mark.usefixtures("many")
def test_many_are_found_through_the_index_and_nearly_exactly() -> None:
    vectors, asked = unit_vectors(SIZE, noise=5), unit_vectors(20, noise=5, seed=2)
    ids = saved(vectors)
    recalled = []
    for vector in asked:
        with CaptureQueriesContext(connection) as queries:
            found = nearest(Document.objects.filter(owner="ann"), vector, 100)
        recalled.append(len(best(ids, vectors, vector, 100) & set(found)) / 100)
    assert np.mean(recalled) >= 0.98
    assert indexed(next(query["sql"] for query in queries if "<=>" in query["sql"]))


@postgresql
def test_few_are_compared_one_by_one() -> None:
    vector = unit_vectors(1)[0]
    saved(unit_vectors(SIZE))
    with CaptureQueriesContext(connection) as queries:
        nearest(Document.objects.all(), vector, 100)
    assert not indexed(next(query["sql"] for query in queries if "<=>" in query["sql"]))


@postgresql
@pytest.mark.parametrize(("mine", "through_the_index"), [(900, False), (1_300, True)])
def test_the_smaller_a_part_of_a_large_table_the_rather_its_chunks_are_compared(
    mine: int, through_the_index: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3,000 chunks, up to 20 times the square root: 1,095."""
    monkeypatch.setattr("documents.nearest.COMPARED", 50)
    vectors = unit_vectors(SIZE)
    saved(vectors[mine:], owner="bob")
    saved(vectors[:mine])
    with CaptureQueriesContext(connection) as queries:
        nearest(Document.objects.filter(owner="ann"), vectors[0], 100)
    asked = [query["sql"] for query in queries if "<=>" in query["sql"]]
    assert indexed(asked[0]) is through_the_index


@postgresql
def test_a_part_is_counted_and_compared_without_looking_at_the_others_chunks() -> None:
    vectors = unit_vectors(SIZE)
    saved(vectors[100:], owner="bob")
    for n in range(0, 100, 5):
        saved(vectors[n : n + 5])
    with CaptureQueriesContext(connection) as queries:
        nearest(Document.objects.filter(owner="ann"), vectors[0], 100)
    asked = [query["sql"] for query in queries if "documents_chunk" in query["sql"]]
    assert len(asked) == 2
    for sql in asked:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql)
            assert seen(cursor.fetchone()[0][0]["Plan"]) == 100


def seen(plan: dict[str, Any]) -> float:
    """How many chunks the database looks at."""
    below = sum(map(seen, plan.get("Plans", [])))
    if plan.get("Relation Name") != "documents_chunk":
        return below
    each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return below + float(each * plan["Actual Loops"])


@pytest.mark.usefixtures("many")
def test_a_small_part_of_many_is_found_whole() -> None:
    """The index gives up when too few of the nearest belong to the searched documents."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # until the connection closes with the test
            cursor.execute("SET hnsw.max_scan_tuples = 500")
    vectors = unit_vectors(SIZE + 100)
    saved(vectors[:SIZE], owner="bob")
    mine = saved(vectors[SIZE:])
    found = nearest(Document.objects.filter(owner="ann"), vectors[0], 200)
    assert set(found) == set(mine)


@pytest.mark.usefixtures("many")
def test_vectors_without_an_index_are_found_exactly_however_many() -> None:
    vectors, vector = unit_vectors(500, dimensions=8), unit_vectors(1, dimensions=8, seed=2)[0]
    saved(unit_vectors(50), owner="bob")
    ids = saved(vectors)
    found = nearest(Document.objects.filter(owner="ann"), vector, 10)
    assert set(found) == best(ids, vectors, vector, 10)


@postgresql
def test_the_index_can_be_taken_back_and_made_again() -> None:
    whole, half = (
        import_module(f"documents.migrations.{name}")
        for name in ("0003_vector_index", "0004_half_vector_index")
    )

    def state() -> tuple[bool, bool, list[str] | None]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT to_regclass('chunk_nearest') IS NOT NULL, "
                "to_regclass('chunk_nearest_half') IS NOT NULL, reloptions FROM pg_class "
                "WHERE oid = 'documents_chunk'::regclass"
            )
            found: tuple[bool, bool, list[str] | None] = cursor.fetchone()
        return found

    narrow = ["toast_tuple_target=128"]
    assert state() == (False, True, narrow)
    with connection.schema_editor(atomic=False) as editor:
        half.drop(apps, editor)
        assert state() == (True, False, narrow)
        whole.drop(apps, editor)
        assert state() == (False, False, None)
        whole.create(apps, editor)
        half.create(apps, editor)
    assert state() == (False, True, narrow)
