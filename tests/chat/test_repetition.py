import random
import string

import pytest

from chat.engines.repetition import LEAST, LONGEST, TIMES, repeats

SENTENCE = "No customer data was lost. "
PARAGRAPH = "".join(random.Random(1).choices(string.ascii_lowercase + "    ", k=LONGEST))


@pytest.mark.parametrize("before", ["", "The report tells of it:", "It was said before:" * 2])
@pytest.mark.parametrize("again", [SENTENCE, "na ", "\n| 1 | 2 |", PARAGRAPH])
def test_the_same_over_and_over_is_seen_at_its_third_time(before: str, again: str) -> None:
    """Or later, if that is too short to be sure."""
    enough = TIMES * -(-LEAST // (TIMES * len(again))) * len(again)
    text = before + again * (2 * LEAST)
    assert all(repeats(text[: len(before) + length]) for length in range(enough, enough + 2 * len(again)))
    assert not any(repeats(text[: len(before) + length]) for length in range(enough))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No. No. No.",
        SENTENCE * 2,
        SENTENCE * 20 + "But some was.",
        "".join(f"{number}. The bees of hive {number} are well.\n" for number in range(100)),
        ", ".join(str(number) for number in range(1000)),
        PARAGRAPH * 2,
        f"{PARAGRAPH}!" * TIMES,
        "-" * (LEAST - 1),
    ],
)
def test_what_is_said_twice_or_goes_on_is_not(text: str) -> None:
    assert not repeats(text)
