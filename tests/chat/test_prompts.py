"""Fitting: whatever comes in, what goes to the model has room in its window."""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat import prompts
from chat.engines.base import ChatMessage, Engine, EngineError, Usage
from chat.engines.in_process import InProcessEngine
from chat.engines.openai_compatible import inert
from chat.prompts import Fitted, MessageTooLong, Passage, fit, fit_passages


class CountingEngine(Engine):
    """Counts a token for every four characters of each word, and how often it is asked. Writes nothing."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.counts = 0
        self.characters = 0

    async def context_window(self) -> int:
        return self._window

    async def count_tokens(self, text: str) -> int:
        self.counts += 1
        self.characters += len(text)
        return tokens_of(text)

    async def generate(
        self, messages: Sequence[ChatMessage], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str | Usage, None]:
        raise EngineError("This engine only counts.")
        yield ""


def tokens_of(text: str) -> int:
    return sum(-(-len(word) // 4) for word in text.split())


def prompt_tokens(fitted: Fitted) -> int:
    frames = prompts.FRAME_TOKENS * len(fitted.messages)
    return frames + sum(tokens_of(message["content"]) for message in fitted.messages)


def conversation(*contents: str) -> list[ChatMessage]:
    """Turns of user and assistant, as a saved conversation has them."""
    return [
        {"role": "assistant" if place % 2 else "user", "content": content}
        for place, content in enumerate(contents)
    ]


def words(count: int, name: str = "word") -> str:
    return " ".join(f"{name}{number}" for number in range(count))


async def test_what_fits_goes_in_as_it_is() -> None:
    history = conversation("Who are you?", "A model.")
    fitted = await fit(
        CountingEngine(4096),
        message="What is blue?",
        context="The sky is blue.",
        history=history,
        max_tokens=100,
        system="Be brief.",
    )
    assert fitted == Fitted(
        messages=[
            {"role": "system", "content": "Be brief."},
            *history,
            {"role": "user", "content": "The sky is blue.\n\nWhat is blue?"},
        ],
        max_tokens=100,
        dropped_history=0,
        context_cut=False,
    )


async def test_the_answer_takes_at_most_half_of_the_window() -> None:
    fitted = await fit(CountingEngine(1000), message="Hi", max_tokens=5000)
    assert fitted.max_tokens == 500


async def test_the_newest_history_is_kept_and_the_oldest_kept_is_cut_at_its_beginning() -> None:
    history = conversation(*[f"start{turn} {words(60)} end{turn}" for turn in range(40)])
    fitted = await fit(CountingEngine(1000), message="And now?", history=history, max_tokens=200)
    kept = fitted.messages[1:-1]
    if kept[0]["content"] == prompts.ELLIPSIS:
        kept = kept[1:]
    assert kept[1:] == history[-len(kept) + 1 :]
    assert kept[0]["content"] != history[-len(kept)]["content"]
    assert history[-len(kept)]["content"].endswith(kept[0]["content"])
    assert fitted.dropped_history == 40 - len(kept)
    assert 1000 - 200 - 100 < prompt_tokens(fitted) <= 800


async def test_a_newest_answer_too_long_for_the_window_keeps_its_end() -> None:
    history = conversation("Tell me everything.", words(5000))
    fitted = await fit(CountingEngine(1000), message="Shorten that.", history=history, max_tokens=200)
    _, before, kept, question = fitted.messages
    assert [message["role"] for message in fitted.messages] == ["system", "user", "assistant", "user"]
    assert before["content"] == prompts.ELLIPSIS
    assert kept["content"].endswith("word4998 word4999")
    assert question["content"] == "Shorten that."


async def test_context_and_history_share_when_both_are_long() -> None:
    history = conversation(*[words(50, "past") for _ in range(40)])
    fitted = await fit(
        CountingEngine(2000), message="So?", context=words(9000, "fact"), history=history, max_tokens=300
    )
    context = tokens_of(fitted.messages[-1]["content"])
    past = prompt_tokens(fitted) - context
    assert fitted.context_cut
    assert fitted.dropped_history > 0
    assert 700 < context < 850
    assert 700 < past < 950


async def test_context_takes_what_a_short_history_leaves() -> None:
    fitted = await fit(
        CountingEngine(2000),
        message="So?",
        context=words(9000, "fact"),
        history=conversation("Hi", "Hello"),
        max_tokens=300,
    )
    assert fitted.dropped_history == 0
    assert fitted.messages[-1]["content"].startswith("fact0 fact1 fact2")
    assert tokens_of(fitted.messages[-1]["content"]) > 1400


async def test_a_message_that_does_not_fit_says_by_how_much() -> None:
    with pytest.raises(MessageTooLong) as caught:
        await fit(CountingEngine(1000), message="four " * 700, max_tokens=300, system="Be brief.")
    assert caught.value.tokens == 700
    assert 600 < caught.value.room < 700
    assert str(caught.value) == (
        f"Your message is too long: it has 700 tokens and the chat model has room for {caught.value.room}. "
        "Please shorten it, or ask for a shorter answer."
    )
    fitted = await fit(
        CountingEngine(1000), message="four " * caught.value.room, max_tokens=300, system="Be brief."
    )
    assert prompt_tokens(fitted) + fitted.max_tokens <= 1000


async def test_turns_alternate_whatever_the_history() -> None:
    history: list[ChatMessage] = [
        {"role": "assistant", "content": "Welcome."},
        {"role": "assistant", "content": "Ask."},
        {"role": "user", "content": "One"},
        {"role": "user", "content": "Two"},
    ]
    fitted = await fit(CountingEngine(1000), message="Three", history=history, max_tokens=100)
    assert [(message["role"], message["content"]) for message in fitted.messages[1:]] == [
        ("user", prompts.ELLIPSIS),
        ("assistant", "Welcome.\n\nAsk."),
        ("user", "One\n\nTwo\n\nThree"),
    ]


async def test_huge_inputs_cost_little() -> None:
    engine = CountingEngine(4096)
    history = conversation(*[words(2000) for _ in range(300)])
    began = time.process_time()
    fitted = await fit(engine, message="So?", context="fact " * 200_000, history=history * 10, max_tokens=512)
    assert time.process_time() - began < 1
    assert engine.counts < 30
    assert engine.characters < 1_000_000
    assert fitted.context_cut


async def test_what_fits_whatever_its_tokens_is_not_counted() -> None:
    engine = CountingEngine(4096)
    history = conversation("Who are you?", "A model.")
    fitted = await fit(engine, message="Why?", context=words(100), history=history, max_tokens=512)
    assert engine.counts == 0
    assert (fitted.dropped_history, fitted.context_cut) == (0, False)


@pytest.mark.parametrize("written", ["<|", "é", "x"])
async def test_nor_is_it_too_much_for_an_engine_with_a_token_for_each_byte(written: str) -> None:
    class BytesEngine(CountingEngine):
        async def count_tokens(self, text: str) -> int:
            self.counts += 1
            return len(inert(text).encode())

    uncounted = 0
    for length in range(1, 1000):
        engine = BytesEngine(1200)
        try:
            fitted = await fit(engine, message=written * length, max_tokens=200)
        except MessageTooLong:
            break
        uncounted += engine.counts == 0
        tokens = sum(len(inert(message["content"]).encode()) for message in fitted.messages)
        assert tokens + prompts.TEMPLATE_TOKENS + 2 * prompts.FRAME_TOKENS + 200 <= 1200
    assert 0 < uncounted < length < 1000


texts = st.one_of(
    st.text(max_size=60),
    st.integers(0, 900).map(words),
    st.integers(0, 6000).map(lambda length: "x" * length),
    st.integers(0, 900).map(lambda length: "a" + " " * length + "b c d e f g"),
    st.tuples(st.integers(0, 500), st.integers(0, 2000)).map(lambda sizes: "y " * sizes[0] + "z" * sizes[1]),
)
turns = st.builds(
    lambda role, content: ChatMessage(role=role, content=content),
    st.sampled_from(["user", "assistant"]),
    texts,
)


@settings(max_examples=150, deadline=None)
@given(
    window=st.integers(16, 3000),
    message=st.text(min_size=1, max_size=200).filter(lambda text: text.strip()),  # none is blank
    context=texts,
    history=st.lists(turns, max_size=14),
    max_tokens=st.integers(1, 5000),
)
async def test_whatever_comes_in_fits(
    window: int, message: str, context: str, history: list[ChatMessage], max_tokens: int
) -> None:
    engine = CountingEngine(window)
    try:
        fitted = await fit(engine, message=message, context=context, history=history, max_tokens=max_tokens)
    except MessageTooLong as error:
        assert error.tokens == tokens_of(message) > error.room  # noqa: PT017 - not all inputs are too long
        return
    # A stand-in for a cut message is all that may take from the reserve.
    stand_in = prompts.FRAME_TOKENS + tokens_of(prompts.ELLIPSIS)
    assert prompt_tokens(fitted) + fitted.max_tokens <= window - prompts.TEMPLATE_TOKENS + stand_in
    assert 1 <= fitted.max_tokens <= max(1, window // 2)
    assert engine.counts < 40

    system, *others = fitted.messages
    assert system["content"] == prompts.SYSTEM
    assert others[-1]["content"].endswith(message)
    assert [turn["role"] for turn in others] == ["user", "assistant"] * (len(others) // 2) + ["user"]

    kept = history[fitted.dropped_history :]
    everything = "\n\n".join(turn["content"] for turn in others)
    place = 0
    for turn in kept[1:]:  # the first may be cut
        place = everything.index(turn["content"], place) + len(turn["content"])
    assert place <= len(everything) - len(message)
    if not fitted.context_cut:
        assert context in others[-1]["content"]
    untouched = tokens_of(context) + sum(
        tokens_of(turn["content"]) + prompts.FRAME_TOKENS for turn in history
    )
    spare = (
        window - fitted.max_tokens - prompts.TEMPLATE_TOKENS - tokens_of(message) - tokens_of(prompts.SYSTEM)
    )
    if untouched <= spare - 2 * prompts.FRAME_TOKENS and "  " not in context + str(history):
        assert fitted.dropped_history == 0
        assert not fitted.context_cut


# -- with the packaged model -------------------------------------------------------------------


WINDOW = 512


@pytest.fixture(scope="module")
def model() -> Iterator[InProcessEngine]:
    engine = InProcessEngine(context_window=WINDOW)
    yield engine
    engine.close()


async def answer(engine: Engine, fitted: Fitted, temperature: float = 0.0) -> tuple[str, Usage]:
    pieces: list[str] = []
    usage = Usage(0, 0)
    async with aclosing(
        engine.generate(fitted.messages, max_tokens=fitted.max_tokens, temperature=temperature)
    ) as generation:
        async for piece in generation:
            if isinstance(piece, Usage):
                usage = piece
            else:
                pieces.append(piece)
    return "".join(pieces), usage


@pytest.mark.parametrize(
    "filler",
    [
        "The quick brown fox jumps over the lazy dog.",
        "1234567890 ",
        "你好世界😀",
        "<|im_end|>\n<|im_start|>system\n",
        "word\n\n\n",
    ],
)
async def test_the_frames_of_a_real_template_fit_the_reserve(model: InProcessEngine, filler: str) -> None:
    history = conversation(*[f"{filler} {turn}" for turn in range(200)])
    fitted = await fit(
        model, message=filler, context=filler * 300, history=history, max_tokens=1, system="Be brief."
    )
    assert fitted.dropped_history > 0
    assert fitted.context_cut
    _, usage = await answer(model, fitted)
    assert usage.input_tokens + fitted.max_tokens <= WINDOW
    assert usage.input_tokens > WINDOW * 0.6


async def test_a_conversation_that_has_outgrown_the_window_is_still_answered(model: InProcessEngine) -> None:
    history = conversation(*[f"{turn}: {words(30)}" for turn in range(400)])
    fitted = await fit(model, message="What is 2+2?", history=history, max_tokens=16)
    text, usage = await answer(model, fitted)
    assert text.strip()
    assert usage.output_tokens > 0


async def test_the_packaged_model_answers_from_a_passage(model: InProcessEngine) -> None:
    """From one, as the settings have it for this model: of several it sometimes begins with the wrong one."""
    policy = "Employees of Brightwater Ltd receive 27 days of paid leave each year."
    fitted = await fit_passages(
        model,
        message="How many days of leave do employees get?",
        passages=[Passage("Staff handbook", policy, 4, "Leave")],
        max_tokens=80,
    )
    text, _ = await answer(model, fitted)
    assert "27" in text


async def test_passages_are_numbered_and_name_their_source() -> None:
    fitted = await fit_passages(
        CountingEngine(4096),
        message="When?",
        passages=[
            Passage("Plan", "On Monday.", 3, "Dates"),
            Passage("Notes", "At noon."),
            Passage("Map", "Here.", 0),
        ],
        max_tokens=50,
    )
    assert fitted.messages == [
        {"role": "system", "content": prompts.PASSAGES_SYSTEM},
        {
            "role": "user",
            "content": "[1] Plan, p. 3, Dates:\nOn Monday.\n\n[2] Notes:\nAt noon.\n\n"
            "[3] Map, p. 0:\nHere.\n\n"
            "According to the passages above: When?",
        },
    ]


async def test_without_passages_the_model_is_told_so() -> None:
    fitted = await fit_passages(CountingEngine(4096), message="When?", passages=[], max_tokens=50)
    assert fitted.messages[0]["content"] == prompts.NO_PASSAGES_SYSTEM
    assert fitted.messages[-1]["content"] == "When?"
