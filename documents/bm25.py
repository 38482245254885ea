"""How well texts match words by having them, in whatever form: BM25."""

import re
from collections.abc import Sequence
from threading import local

import numpy as np
import Stemmer
from numpy.typing import NDArray

K1, B = 1.5, 0.75  # the usual constants

_WORD = re.compile(r"\w+")
_threads = local()


def words_in(text: str) -> list[str]:
    """The words of the text, in small letters."""
    words: list[str] = _WORD.findall(text.lower())
    return words


def rarity(having: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """What words weigh that so many of the `total` texts have: the rarer, the more."""
    weights: NDArray[np.float64] = np.log1p((total - having + 0.5) / (having + 0.5))
    return weights


def bm25(words: Sequence[str], texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How well each text, which comes as its words, matches the words, 0 to 1: BM25 over these texts, as
    a share of the most that the words could score (Robertson and Zaragoza, The Probabilistic Relevance
    Framework, 2009)."""
    if not words or not texts:
        return np.zeros(len(texts))
    counts = _counts(words, texts)
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    having = (counts > 0).sum(axis=0)
    idf = rarity(having, len(texts))
    damping = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
    scores: NDArray[np.float64] = (idf * counts * (K1 + 1) / (counts + damping[:, None])).sum(axis=1)
    shares: NDArray[np.float64] = scores / (idf.sum() * (K1 + 1))
    return shares


def _counts(words: Sequence[str], texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How often each text (a row) has the stem of each word (a column)."""
    columns = {stem: column for column, stem in enumerate(dict.fromkeys(_stems(words)))}
    initials = {stem[:1] for stem in columns}  # a stem begins as its word does
    vocabulary = [word for word in set().union(*texts) if word[:1] in initials]
    stems = zip(vocabulary, _stems(vocabulary), strict=True)
    asked = {word: columns[stem] for word, stem in stems if stem in columns}
    counts = np.zeros((len(texts), len(columns)))
    for row, text in enumerate(texts):
        for word in text:
            if word in asked:
                counts[row, asked[word]] += 1
    return counts


def _stems(words: Sequence[str]) -> list[str]:
    if not hasattr(_threads, "stemmer"):
        # Not safe to share between threads. Its cache is no faster, and takes 5 ms whenever it is full.
        _threads.stemmer = Stemmer.Stemmer("english", 0)
    stems: list[str] = _threads.stemmer.stemWords(words)
    return stems
