"""Chunks and questions in great number, the same each time, without a download.

The words are those of the embedding model's vocabulary, which stand there roughly by frequency, drawn as
in real text: the word of rank n about 1/n as often as the first. Each document has a topic with words
of its own. The first `REAL` chunks and all questions have their real embeddings (of the beginning of
the text, which is enough to place them); every other vector is a mixture of two real ones of its topic,
with noise, of unit length.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from documents.embedders.in_process import InProcessEmbedder
from documents.tokenizer import load_tokenizer
from documents.vectors import Vector, Vectors

TOPICS = 250
TOPIC_WORDS = 60
FREQUENT = 300  # words that are no topic's own
OF_TOPIC = 0.4  # of the words of a chunk
CHUNK_WORDS = 70  # some 94 tokens
SENTENCE = 12  # words
EMBEDDED = 24  # words
REAL = 10_000
NOISE = 0.35  # its length, beside the mixture's of about 1
CHUNKS_PER_DOCUMENT = 20


@dataclass(frozen=True)
class Corpus:
    """Twenty chunks after each other make a document."""

    texts: list[str]
    vectors: Vectors
    questions: list[str]
    asked: Vectors
    """The questions' vectors."""


def corpus(chunks: int, questions: int, seed: int = 1) -> Corpus:
    source = np.random.default_rng(seed)
    words = _words()
    shares = 1 / np.arange(1, len(words) + 1)
    shares /= shares.sum()
    topics = np.stack(
        [source.choice(np.arange(FREQUENT, len(words)), TOPIC_WORDS, replace=False) for _ in range(TOPICS)]
    )
    # A question comes from a topic and asks with few words.
    topic_of = np.concatenate(
        [np.arange(chunks) // CHUNKS_PER_DOCUMENT % TOPICS, source.integers(TOPICS, size=questions)]
    )
    texts = []
    for number, topic in enumerate(topic_of):
        length = CHUNK_WORDS if number < chunks else int(source.integers(4, 10))
        drawn = source.choice(len(words), length, p=shares)
        own = topics[topic][(source.random(length) ** 2 * TOPIC_WORDS).astype(int)]
        drawn = np.where(source.random(length) < OF_TOPIC, own, drawn)
        texts.append(_sentences([words[word] for word in drawn]))
    real = min(REAL, chunks)
    embedder = InProcessEmbedder()
    beginnings = [" ".join(text.split()[:EMBEDDED]) for text in texts[:real]]
    embedded = asyncio.run(embedder.embed(beginnings + texts[chunks:]))
    vectors = np.concatenate(
        [embedded[:real], _mixed(embedded[:real], topic_of[:real], topic_of[real:chunks], source)]
    )
    return Corpus(texts[:chunks], vectors, texts[chunks:], embedded[real:])


def _words() -> list[str]:
    """The vocabulary's plain words, the most frequent first."""
    vocabulary = load_tokenizer().get_vocab()
    return [
        word
        for word in sorted(vocabulary, key=vocabulary.__getitem__)
        if word.isascii() and word.isalpha() and len(word) > 1
    ]


def _sentences(words: Sequence[str]) -> str:
    parts = (words[start : start + SENTENCE] for start in range(0, len(words), SENTENCE))
    return " ".join(" ".join(part).capitalize() + "." for part in parts)


def _mixed(
    real: Vectors, topics: NDArray[np.int64], wanted: NDArray[np.int64], source: np.random.Generator
) -> Vectors:
    """A vector for each wanted topic."""
    of_topic = [np.flatnonzero(topics == topic) for topic in range(TOPICS)]
    made = np.empty((len(wanted), real.shape[1]), np.float32)
    for number, topic in enumerate(wanted):
        first, second = source.choice(of_topic[topic], 2)
        share = source.uniform(0.2, 0.8)
        made[number] = share * real[first] + (1 - share) * real[second]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    made += source.normal(0, NOISE / np.sqrt(real.shape[1]), made.shape).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def nearest(vectors: Vectors, vector: Vector, count: int) -> NDArray[np.int64]:
    """The positions of the nearest vectors, best first: brute force."""
    cosines = vectors @ vector
    best = np.argpartition(-cosines, min(count, len(cosines) - 1))[:count]
    return best[np.argsort(-cosines[best])]
