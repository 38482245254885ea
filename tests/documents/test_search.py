"""Both halves of the search, their fusion, and what must never be compared."""

import numpy as np
import pytest
from django.db.models import QuerySet

from documents.bm25 import bm25, words_in
from documents.conversion import store
from documents.embedders import get_embedder
from documents.matching import matching
from documents.models import Chunk, Document
from documents.search import (
    LOOKED_AT_AGAIN,
    PROPOSED,
    QUERY_WORDS,
    Hit,
    _fuse,
    find,
    found,
    fused,
    near,
    proposed,
    rank,
    words_of,
)
from documents.vectors import Vector
from tests.database import query

TEXTS = [
    "The cat sat on the mat.",
    "Dogs chase cats across the yard.",
    "Quarterly revenue grew by nine percent.",
]
SPOKEN = [words_in(text) for text in TEXTS]


def axis(n: int, size: int = 3) -> Vector:
    vector: Vector = np.eye(size, dtype=np.float32)[n]
    return vector


def search(
    documents: QuerySet[Document], query: str, vector: Vector | None = None, limit: int = 10
) -> list[Hit]:
    """The hits of `find` where the query has this embedding, or none."""
    words = words_of(query)
    cosines = {} if vector is None else near(documents, vector, get_embedder().model)
    return found(words, proposed(matching(documents, words, PROPOSED)), cosines, limit)


def document(
    texts: list[str], vectors: list[Vector] | None, model: str | None = None, owner: str = "ann"
) -> Document:
    made = store(
        Document(owner=owner, title="t", content_type="text", text=" ", file_size=1, word_count=1, pages=[])
    )
    for index, text in enumerate(texts):
        vector = None if vectors is None else vectors[index]
        Chunk.objects.create(document=made, index=index, text=text, start=0, end=len(text), vector=vector)
    if vectors is not None:
        made.embedding_model = get_embedder().model if model is None else model
        made.embedding_dimensions = len(vectors[0])
        made.save()
    return made


class TestKeywords:
    def test_rare_words_count_more_than_common_ones(self) -> None:
        scores = bm25(["the", "revenue"], SPOKEN)
        assert scores.argmax() == 2

    def test_words_are_compared_by_their_stems(self) -> None:
        assert bm25(["chasing"], SPOKEN).argmax() == 1

    def test_scores_are_a_share_of_what_is_possible(self) -> None:
        scores = bm25(["cat"], [["cat"] * 50, ["cat"], ["dog"]])
        assert 0 < scores[1] < scores[0] < 1
        assert scores[2] == 0

    def test_without_words_or_texts_nothing_matches(self) -> None:
        assert bm25([], SPOKEN).tolist() == [0, 0, 0]
        assert bm25(["cat"], []).tolist() == []

    def test_each_word_is_looked_for_once_and_no_more_than_so_many(self) -> None:
        assert words_of("The cat saw the other Cat") == ["the", "cat", "saw", "other"]
        many = [f"w{number}" for number in range(QUERY_WORDS + 10)]
        assert words_of(" ".join(["w0", *many])) == many[:QUERY_WORDS]


class TestFusion:
    def test_it_orders_as_the_weighted_sum_of_standardised_scores_does(self) -> None:
        random = np.random.default_rng(7)
        for _ in range(50):
            cosines, keywords = random.uniform(0, 1, 20), random.uniform(0, 0.6, 20)
            expected = 0.55 * cosines / cosines.std() + 0.45 * keywords / keywords.std()
            scores = _fuse(cosines, keywords)
            assert scores.argsort().tolist() == expected.argsort().tolist()
            assert ((scores >= 0) & (scores <= 1)).all()

    def test_without_vectors_the_keywords_decide(self) -> None:
        keywords = np.array([0.1, 0.4, 0.0])
        assert _fuse(np.full(3, np.nan), keywords).tolist() == keywords.tolist()

    def test_what_is_not_among_the_nearest_counts_as_the_last_of_them(self) -> None:
        scores = _fuse(np.array([0.9, 0.6, 0.3, np.nan]), np.array([0.1, 0.2, 0.1, 0.1]))
        assert scores[3] == scores[2] == scores.min()

    @pytest.mark.parametrize("keyword", [0.0, 0.1, 1.0])
    def test_scores_that_are_all_the_same_decide_nothing(self, keyword: float) -> None:
        """Though the deviation of three tenths is not quite zero to a computer."""
        cosines = np.array([0.2, 0.5, 0.8])
        scores = _fuse(cosines, np.full(3, keyword))
        assert scores.argsort().tolist() == [0, 1, 2]
        assert scores[2] - scores[0] > 0.3

    def test_what_is_the_opposite_in_meaning_is_no_less_than_nothing(self) -> None:
        scores = _fuse(np.array([1.0 + 1e-6, 0.5, -0.5]), np.zeros(3))
        assert scores.tolist() == [1.0, 0.5, 0.0]

    def test_one_lone_chunk_has_a_score(self) -> None:
        assert 0 < _fuse(np.array([0.5]), np.array([0.2]))[0] < 1


@pytest.mark.usefixtures("leases")
class TestSearch:
    def test_meaning_and_keywords_both_propose(self) -> None:
        document(TEXTS, [axis(0), axis(1), axis(2)])
        documents = Document.objects.all()
        cosines = near(documents, axis(2), get_embedder().model)
        ranked = rank(["mat"], proposed(matching(documents, ["mat"], PROPOSED)), cosines)
        assert {one.chunk.number for one in ranked[:2]} == {0, 2}

    def test_a_code_finds_the_one_chunk_that_has_it_however_far_it_is_in_meaning(self) -> None:
        source = np.random.default_rng(3)
        vectors = source.normal(size=(PROPOSED + 10, 3)).astype(np.float32) * 0.1 + axis(0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        # Each fills a passage of its own.
        for number, vector in enumerate(vectors):
            document([f"Paragraph {number} of something. " + "word " * 300], [vector])
        code = document(["After the fifth it shows UNBAL. " + "word " * 300], [-axis(0)])
        assert search(Document.objects.all(), "UNBAL", axis(0))[0].chunk.document == code.pk

    def test_of_two_that_are_equal_else_the_one_with_alike_words_is_first(self) -> None:
        for text in ("The tractor comes on Mondays.", "The physician comes on Mondays."):
            document([text], [axis(0)])
        hits = search(Document.objects.all(), "Which day does the doctor come?", axis(0))
        assert [hit.passage.split()[1] for hit in hits] == ["physician", "tractor"]
        assert hits[0].score > hits[1].score

    def test_among_many_that_have_the_words_alike_ones_decide(self) -> None:
        for text in (*["The tractor comes on Mondays."] * 6, "The physician comes on Mondays."):
            document([text], None)
        hits = search(Document.objects.all(), "On which monday does the doctor come?")
        assert hits[0].passage == "The physician comes on Mondays."

    def test_a_word_that_all_have_leaves_their_order_as_it_was(self) -> None:
        for number in range(10):
            document(["A boat. " + "It sails far away from here. " * number], None)
        hits = search(Document.objects.all(), "boat")
        assert [len(hit.passage) for hit in hits] == sorted(len(hit.passage) for hit in hits)
        assert hits[-1].score < 0.8 * hits[0].score

    def test_only_the_best_are_looked_at_again_and_the_others_stay_behind_them(self) -> None:
        count = LOOKED_AT_AGAIN + 6
        for number in range(count):
            text = "The physician comes on Mondays." if number > LOOKED_AT_AGAIN else "The tractor is red."
            vector = axis(0) + axis(1) * number / count
            document([text], [vector / np.linalg.norm(vector)])
        words = words_of("When does the doctor come?")
        cosines = near(Document.objects.all(), axis(0), get_embedder().model)
        before, after = fused(words, [], cosines), rank(words, [], cosines)
        behind = [one.chunk for one in before[LOOKED_AT_AGAIN:]]
        assert [one.chunk for one in after[LOOKED_AT_AGAIN:]] == behind
        assert after[0].chunk != before[0].chunk
        scores = [one.score for one in after]
        assert scores == sorted(scores, reverse=True)
        assert 0 < scores[-1] < scores[0] <= 1

    def test_equals_are_always_in_the_same_order(self) -> None:
        documents = [document(["Green tea.", "Green tea."], None) for _ in range(4)]
        hits = search(Document.objects.all(), "tea", limit=20)
        places = [(hit.chunk.document, hit.chunk.number) for hit in hits]
        assert {document for document, _ in places} == {made.pk for made in documents}
        assert places == sorted(places)

    def test_what_nothing_speaks_for_is_no_hit(self) -> None:
        document(["Green tea."], [axis(0)])
        document(["Black coffee."], [axis(1)])
        (hit,) = search(Document.objects.all(), "tea", axis(0))
        assert hit.chunk.text == "Green tea."

    def test_words_of_the_title_and_of_the_heading_count(self) -> None:
        for title, heading in (("t", ""), ("Bylaws", ""), ("t", "Bylaws")):
            made = document(["Dogs are on a lead."], None)
            Document.objects.filter(pk=made.pk).update(title=title)
            Chunk.objects.filter(document=made).update(heading=heading)
        hits = search(Document.objects.all(), "bylaws dogs")
        assert [(hit.chunk.title, hit.chunk.heading) for hit in hits[2:]] == [("t", "")]

    def test_a_hit_has_its_neighbours_and_they_are_no_hits_of_their_own(self) -> None:
        document(TEXTS, [axis(0), axis(1), axis(2)])
        (hit,) = search(Document.objects.all(), "cat", axis(0))
        assert (hit.chunk.number, hit.passage, hit.snippet) == (0, "\n".join(TEXTS), TEXTS[0])

    def test_vectors_of_another_model_are_never_compared(self) -> None:
        document(TEXTS, [axis(0), axis(1), axis(2)], model="other")
        assert search(Document.objects.all(), "nothing matches", axis(2)) == []
        assert near(Document.objects.all(), axis(2), "other") != {}

    def test_vectors_of_another_length_are_never_compared(self) -> None:
        document(TEXTS, [axis(n, 4) for n in range(3)])
        assert near(Document.objects.all(), axis(2), get_embedder().model) == {}

    def test_a_mixture_finds_both_kinds(self) -> None:
        converted = document(TEXTS, [axis(0), axis(1), axis(2)])
        plain = document(["Cats purr when they are content."], None)
        hits = search(Document.objects.all(), "purr", axis(0))
        assert {hit.chunk.document for hit in hits} == {converted.pk, plain.pk}

    @pytest.mark.parametrize(("model", "told"), [(None, (True, 1)), ("other", (False, 2))])
    async def test_it_is_told_how_many_documents_only_their_words_could_find(
        self, model: str | None, told: tuple[bool, int]
    ) -> None:
        await query(document, TEXTS, [axis(n, 384) for n in range(3)], model)
        await query(document, TEXTS, None)
        await query(document, TEXTS, None, owner="bob")
        result = await find("ann", "purr", document_ids=None, limit=3)
        assert (result.by_meaning, result.unconverted) == told

    def test_the_set_of_documents_is_the_limit_of_what_is_found(self) -> None:
        mine = document(TEXTS, [axis(0), axis(1), axis(2)])
        document(TEXTS, [axis(0), axis(1), axis(2)], owner="bob")
        hits = search(Document.objects.for_owner("ann"), "cat", axis(0))
        assert {hit.chunk.document for hit in hits} == {mine.pk}
        assert search(Document.objects.for_owner(None), "cat", axis(0)) == []

    def test_changed_and_deleted_chunks_are_found_by_their_present_words(self) -> None:
        made = document(TEXTS, None)
        Chunk.objects.filter(document=made, index=0).update(text="An owl in the barn.")
        Chunk.objects.filter(document=made, index=1).delete()
        assert search(Document.objects.all(), "owl")
        assert not search(Document.objects.all(), "mat dogs")
