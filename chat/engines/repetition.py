"""Whether an answer has begun to say the same over and over, as small models do."""

TIMES = 3
LEAST = 120
"""Characters that all the repetitions have together."""
LONGEST = 500
"""Characters of one repetition."""
PROBE = 16


def repeats(text: str) -> bool:
    """Whether the end of `text` is one piece TIMES over. Looks at TIMES * LONGEST characters only."""
    text = text[-TIMES * LONGEST :]
    if len(text) < LEAST:
        return False
    probe = text[-PROBE:]
    found = text.rfind(probe, 0, -1)
    while found >= 0 and (length := len(text) - PROBE - found) * TIMES <= len(text):
        if length * TIMES >= LEAST and text.endswith(text[-length:] * TIMES):
            return True
        found = text.rfind(probe, 0, found + PROBE - 1)
    return False
