"""Chunks embedded per second: the built-in model beside sentence-transformers on PyTorch, on the same text.

`python -m benchmarks.embedding` in the root of the project, where sentence-transformers is installed too.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rounds import MIN_ROUNDS, machine
from documents.embedders.in_process import InProcessEmbedder
from documents.tokenizer import load_tokenizer, model_directory

MISSING = (
    "sentence-transformers is not installed here, and there is nothing to compare with. Please run "
    "`pip install torch sentence-transformers` in an environment made for this, which also has the project's "
    "requirements, and start the benchmark from there."
)
OURS = "built-in"
PEER_BATCH_SIZES = (1, 8, 16, 32)

SUBJECTS = [
    "the operator",
    "a tenant",
    "the caretaker",
    "our accountant",
    "the night shift",
    "a visitor",
    "the council",
    "every editor",
]
VERBS = [
    "reads",
    "signs",
    "returns",
    "forgets",
    "repairs",
    "describes",
    "measures",
    "compares",
    "postpones",
    "archives",
    "translates",
    "checks",
]
OBJECTS = [
    "the contract",
    "a broken boiler",
    "two invoices",
    "the minutes of the meeting",
    "an old photograph",
    "the inventory",
    "a letter from the bank",
    "the safety instructions",
    "the timetable",
    "a list of suppliers",
]
CIRCUMSTANCES = [
    "before noon",
    "in the second week of March",
    "although nobody asked",
    "with great care",
    "because the deadline is near",
    "at 14:30",
    "in Building 7",
    "as agreed last year",
    "without further delay",
    "when the phone rings",
]

Embed = Callable[[list[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Comparison:
    """`rates` has each contender's chunks per second, a number a round."""

    text: str
    tokens: float
    rates: dict[str, list[float]]
    cosine: float

    @property
    def best_peer(self) -> str:
        peers = [name for name in self.rates if name != OURS]
        return max(peers, key=lambda name: statistics.median(self.rates[name]))

    @property
    def ratios(self) -> list[float]:
        """Ours to the best peer's, round by round."""
        return [ours / peer for ours, peer in zip(self.rates[OURS], self.rates[self.best_peer], strict=True)]

    @property
    def undisturbed(self) -> float:
        """The same ratio between the best rounds of all, which other work on the machine disturbed least."""
        return max(self.rates[OURS]) / max(max(rates) for name, rates in self.rates.items() if name != OURS)


def sentence(source: random.Random) -> str:
    words = (source.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, CIRCUMSTANCES))
    return " ".join(words).capitalize() + "."


def chunk(source: random.Random, tokens: int) -> str:
    """English-like text of exactly so many tokens, [CLS] and [SEP] among them."""
    text = " ".join(sentence(source) for _ in range(tokens // 6 + 1))
    end: int = load_tokenizer().encode(text, add_special_tokens=False).offsets[tokens - 3][1]
    return text[:end]


def peers() -> dict[str, Embed]:
    try:
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        sys.exit(MISSING)
    model = SentenceTransformer(str(model_directory()), device="cpu")

    def embed(batch_size: int) -> Embed:
        return lambda texts: np.asarray(
            model.encode(texts, batch_size=batch_size, show_progress_bar=False), np.float32
        )

    return {f"sentence-transformers, batch {size}": embed(size) for size in PEER_BATCH_SIZES}


def compare(text: str, chunks: list[str], contenders: dict[str, Embed], rounds: int) -> Comparison:
    vectors = {name: embed(chunks) for name, embed in contenders.items()}  # also warms up
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)
        random.Random(number).shuffle(order)
        for name in order:
            start = time.perf_counter()
            contenders[name](chunks)
            rates[name].append(len(chunks) / (time.perf_counter() - start))
    cosine = min(
        float((vectors[OURS] * other).sum(axis=1).min()) for name, other in vectors.items() if name != OURS
    )
    tokens = statistics.mean(len(encoding.ids) for encoding in load_tokenizer().encode_batch(chunks))
    return Comparison(text, tokens, rates, cosine)


def show(comparison: Comparison) -> None:
    ratios = comparison.ratios
    print(f"\n{comparison.text}: {comparison.tokens:.0f} tokens on average")
    print(
        f"  {statistics.median(ratios):.2f} times the best of sentence-transformers "
        f"(rounds {min(ratios):.2f} to {max(ratios):.2f}; best rounds {comparison.undisturbed:.2f}; "
        f"least cosine {comparison.cosine:.6f})"
    )
    print(f"  {'chunks per second':36}{'median':>8}{'min':>8}{'max':>8}")
    for name, rates in comparison.rates.items():
        print(f"  {name:36}{statistics.median(rates):8.1f}{min(rates):8.1f}{max(rates):8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chunks", type=int, default=48, help="how many of each kind of text (48)")
    parser.add_argument("--rounds", type=int, default=7, help=f"at least {MIN_ROUNDS} (7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    options = parser.parse_args()
    if options.rounds < MIN_ROUNDS:
        parser.error(f"fewer than {MIN_ROUNDS} rounds say little")

    embedder = InProcessEmbedder()
    contenders: dict[str, Embed] = {OURS: lambda texts: asyncio.run(embedder.embed(texts)), **peers()}
    source = random.Random(1)
    texts = {
        "full chunks": [chunk(source, 256) for _ in range(options.chunks)],
        "mixed chunks": [chunk(source, source.randint(40, 256)) for _ in range(options.chunks)],
        "headings and queries": [chunk(source, source.randint(6, 24)) for _ in range(options.chunks)],
    }
    facts = machine("onnxruntime", "torch", "sentence-transformers")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    comparisons = []
    for text, chunks in texts.items():
        comparisons.append(compare(text, chunks, contenders, options.rounds))
        show(comparisons[-1])
    if options.json:
        figures = {"machine": facts, "comparisons": [asdict(comparison) for comparison in comparisons]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
