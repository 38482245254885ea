"""How alike the words of a query and of a text are, be they the same words or not.

Each word piece of the query is compared with every one of the text, by the vectors with which the default
model begins to read, and counts as the nearest of them: late interaction (Khattab and Zaharia, ColBERT,
2020), but of vectors that are the same in every text, so that nothing has to be computed or kept of a text
beforehand. Rare pieces count more, as in BM25.
"""

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from documents.bm25 import rarity
from documents.tokenizer import WEIGHTS_FILE, load_tokenizer, model_directory

REMEMBERED = 32
"""Letters of a word whose pieces are kept: a text may have "words" as long as a chunk."""

_VECTORS = "embeddings.word_embeddings.weight"


def likeness(words: Sequence[str], texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How alike to the words each of the texts is, which come as their words, 0 to 1."""
    asked = _pieces_of(words)
    if not asked.size or not texts:
        return np.zeros(len(texts))
    ends = load_tokenizer().encode("").ids  # what a text begins and ends with: none is empty
    written = [np.append(_pieces_of(text), ends) for text in texts]
    starts = np.cumsum([0, *(pieces.size for pieces in written[:-1])])
    pieces, where = np.unique(np.concatenate(written), return_inverse=True)
    # Not with @: so small a product would wait for a thread on each core, however busy they are.
    alike = np.einsum("ad,pd->ap", _vectors(asked), _vectors(pieces))
    best = np.maximum.reduceat(alike[:, where], starts, axis=1)  # (asked pieces, texts)
    same = (asked[:, None] == pieces)[:, where]
    having = np.logical_or.reduceat(same, starts, axis=1).sum(axis=1)
    weights = rarity(having, len(texts))
    scores: NDArray[np.float64] = np.clip(weights @ best / weights.sum(), 0.0, 1.0)
    return scores


def _pieces_of(words: Sequence[str]) -> NDArray[np.int64]:
    """The word pieces of these words, each once."""
    return np.array(sorted({piece for word in set(words) for piece in _pieces(word)}), dtype=np.int64)


def _pieces(word: str) -> tuple[int, ...]:
    """Those of one word, without what the model does not know: that is like nothing else unknown."""
    return _remembered(word) if len(word) <= REMEMBERED else _cut(word)


def _cut(word: str) -> tuple[int, ...]:
    tokenizer = load_tokenizer()
    unknown = tokenizer.token_to_id("[UNK]")
    return tuple(piece for piece in tokenizer.encode(word, add_special_tokens=False).ids if piece != unknown)


_remembered = lru_cache(30_000)(_cut)  # words, 12 MB of usual ones


def _vectors(pieces: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of unit length, (pieces, 384)."""
    vectors: NDArray[np.float32] = _table()[pieces].astype(np.float32)
    return vectors


@cache
def _table() -> NDArray[np.float16]:
    """The vectors of all word pieces, 23 MB."""
    with safe_open(model_directory() / WEIGHTS_FILE, framework="numpy") as weights:
        table = weights.get_tensor(_VECTORS)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    small: NDArray[np.float16] = table.astype(np.float16)
    return small
