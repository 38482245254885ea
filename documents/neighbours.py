"""A found chunk with its neighbours: what is small enough to be found by its meaning is too small to be read.

Small chunks are found more often, and longer passages hold more answers: with both, the golden set of
`benchmarks/` has 94 of 100 answers among the first five where chunks as long as the passages had 89.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from documents.statements import Place, around

PASSAGE_CHARACTERS = 1_200
"""About as many as four chunks have; a single chunk may have more."""
REACH = 4
"""Neighbours looked at on either side."""
_AT_ONCE = 30  # chunks at most whose neighbours are read


@dataclass(frozen=True)
class Passage:
    """Chunks of one document that follow each other."""

    places: list[Place]
    text: str


def passages(ranked: Sequence[tuple[int, Place]], count: int) -> dict[int, Passage]:
    """Chunk id -> the passage around it, for the first `count` passages.

    `ranked` has the chunks' ids and places, best first. A chunk that an earlier passage has is in no other.
    """
    taken: set[Place] = set()
    found: dict[int, Passage] = {}
    at_once = min(count + count // 2 + 1, _AT_ONCE)
    for first in range(0, len(ranked), at_once):
        some = ranked[first : first + at_once]
        texts = around([pk for pk, _ in some], REACH)
        for pk, place in some:
            if place in texts and place not in taken:
                places = _around(place, texts, taken)
                taken.update(places)
                found[pk] = Passage(places, "\n".join(texts[each] for each in places))
                if len(found) == count:
                    return found
    return found


def _around(place: Place, texts: Mapping[Place, str], taken: Set[Place]) -> list[Place]:
    """The place and its neighbours that fit and are free: one after it, one before it, and so on."""
    first = last = place.number
    room = PASSAGE_CHARACTERS - len(texts[place])
    sides = [1, -1]
    while sides:
        side = sides.pop(0)
        neighbour = Place(place.document, last + 1 if side > 0 else first - 1)
        if neighbour in texts and neighbour not in taken and len(texts[neighbour]) < room:
            room -= len(texts[neighbour]) + 1
            first, last = min(first, neighbour.number), max(last, neighbour.number)
            sides.append(side)
    return [Place(place.document, number) for number in range(first, last + 1)]
