"""Spans of time, as the admin shows them."""

from datetime import timedelta

NOTHING = "-"


def span(seconds: float | timedelta | None) -> str:
    """A length of time for people: "0.4 s", "12 s", "3 min 5 s", "2 h 7 min"; a dash for none."""
    if seconds is None:
        return NOTHING
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    value = max(value, 0.0)
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
