"""Words that are alike without being the same, and what they change in a search."""

import numpy as np
import pytest
from numpy.typing import NDArray

from documents.bm25 import words_in
from documents.likeness import REMEMBERED, _remembered
from documents.likeness import likeness as likeness_of_words


def likeness(words: list[str], texts: list[str]) -> NDArray[np.float64]:
    return likeness_of_words(words, [words_in(text) for text in texts])


def test_an_alike_word_counts_more_than_another() -> None:
    texts = ["The physician is in on Mondays.", "The tractor is in on Mondays."]
    physician, tractor = likeness(["doctor"], texts)
    assert physician > tractor + 0.1


def test_the_same_word_counts_most_and_the_whole_is_at_most_one() -> None:
    same, alike = likeness(["doctor"], ["Ask the doctor.", "Ask the physician."])
    assert same == pytest.approx(1, abs=0.001)
    assert same > alike


def test_rare_words_count_more_than_those_of_every_text() -> None:
    texts = ["the house", "the boat", "the revenue", "the garden"]
    assert likeness(["the", "revenue"], texts).argmax() == 2
    assert likeness(["the", "revenue"], texts)[0] < 0.6


def test_it_depends_on_the_words_of_a_text_and_not_on_their_number() -> None:
    once, often = likeness(["boat"], ["The boat sails.", "The boat sails. " * 40])
    assert once == pytest.approx(often)


@pytest.mark.parametrize("word", ["龘", "አማርኛ", "z" * 120])
def test_what_the_model_does_not_know_is_like_nothing(word: str) -> None:
    assert likeness([word], ["Party 🙂 at noon", "Plain words only", "y" * 130]).tolist() == [0, 0, 0]


def test_a_text_is_as_alike_to_a_word_whatever_stands_beside_it() -> None:
    texts = ["A boat.", "", "🙂", "The owl in the barn sleeps until the evening.", "x" * 500]
    scores = likeness(["ship"], texts)
    for text, score in zip(texts, scores, strict=True):
        assert likeness(["ship"], [text]) == pytest.approx([score])
    assert scores.argmax() == 0


@pytest.mark.parametrize("words", [[], [""], ["ship"], ["日本"], ["zq" * 200]])
def test_whatever_is_asked_there_is_a_score_for_each_text(words: list[str]) -> None:
    assert likeness(words, []).tolist() == []
    scores = likeness(words, ["A boat.", "An owl."])
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_words_as_long_as_texts_count_and_are_not_remembered() -> None:
    lengthy = "会" * (REMEMBERED + 1)
    likeness(["会", "boat"], ["会"])
    before = _remembered.cache_info()
    assert likeness(["会"], [lengthy, "boat"])[0] == pytest.approx(1, abs=0.001)
    after = _remembered.cache_info()
    assert (after.misses, after.currsize) == (before.misses, before.currsize)
