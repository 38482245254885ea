"""How alike the words of a query and of a text are, be they the same words or not.

Each word piece of the query is compared with every one of the text, by the vectors with which the default
model begins to read, and counts as the nearest of them: late interaction (Khattab and Zaharia, ColBERT,
2020), but of vectors that are the same in every text, so that nothing has to be computed or kept of a text
beforehand. Rare pieces count more, as in BM25.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from documents.bm25 import rarity
from documents.tokenizer import WEIGHTS_FILE, load_tokenizer, model_directory

_VECTORS = "embeddings.word_embeddings.weight"


def likeness(words: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """How alike to the words each of the texts is, 0 to 1."""
    tokenizer = load_tokenizer()
    asked = np.unique(tokenizer.encode(" ".join(words), add_special_tokens=False).ids)
    asked = asked[
        asked != tokenizer.token_to_id("[UNK]")
    ]  # whatever it is, it is not what is unknown elsewhere
    if not asked.size or not texts:
        return np.zeros(len(texts))
    encoded = tokenizer.encode_batch_fast(list(texts))  # each with [CLS]: none is empty
    written = [np.unique(text.ids) for text in encoded]
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
