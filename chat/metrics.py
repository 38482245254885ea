"""What is counted of the chat model's work. Tokens and seconds grow while an answer is made, also of one
that breaks off: the one divided by the other is its speed."""

from time import monotonic

from prometheus_client import Counter

from chat.engines.base import ContextOverflow, EngineError, EngineTimeout, Usage
from leases.metrics import ENGINE_ERRORS

GENERATED_TOKENS = Counter(
    "leasehold_generated_tokens", "Tokens that the chat model wrote, counted as they come.", ["service"]
)
PROMPT_TOKENS = Counter(
    "leasehold_prompt_tokens", "Tokens that the chat model read, of answers that were finished.", ["service"]
)
GENERATION_SECONDS = Counter(
    "leasehold_generation_seconds", "Seconds in which the chat model read and wrote.", ["service"]
)


class Meter:
    """Counts one answer."""

    def __init__(self, service: str) -> None:
        self._tokens = GENERATED_TOKENS.labels(service)
        self._prompt = PROMPT_TOKENS.labels(service)
        self._seconds = GENERATION_SECONDS.labels(service)
        self._pieces = 0
        self._counted_at = monotonic()

    def piece(self) -> None:
        """One piece of the answer came: one token, as far as anybody knows yet."""
        self._pieces += 1
        self._tokens.inc()
        self.time()

    def usage(self, usage: Usage) -> None:
        """What it really was: pieces may have been longer than a token, and prompts are counted last."""
        self._tokens.inc(max(usage.output_tokens - self._pieces, 0))
        self._prompt.inc(max(usage.input_tokens, 0))

    def time(self) -> None:
        """Count the time since the last call."""
        now = monotonic()
        self._seconds.inc(now - self._counted_at)
        self._counted_at = now


def count_error(service: str, error: EngineError) -> None:
    kind = "error"
    if isinstance(error, EngineTimeout):
        kind = "timeout"
    elif isinstance(error, ContextOverflow):
        kind = "too_long"
    ENGINE_ERRORS.labels(service, kind).inc()
