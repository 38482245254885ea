"""Text -> chunks: nothing lost, nothing twice, never above the limit, cut at the joints, in linear time."""

import time
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents.chunking import MAX_CHARACTERS, MAX_TOKENS, chunk
from documents.tokenizer import load_tokenizer

PARAGRAPH = "The tenant shall pay the rent on the first day of each month. If it is late, a fee is due. "


def check(text: str, content_type: str = "markdown", pages: list[int] | None = None) -> None:
    pages = pages or []
    chunks = chunk(text, content_type, pages)
    assert [one.index for one in chunks] == list(range(len(chunks)))
    position = 0
    for one in chunks:
        assert one.text == text[one.start : one.end]
        assert one.text == one.text.strip() != ""
        assert text[position : one.start].strip() == ""
        assert one.start >= position
        assert len(one.text) <= MAX_CHARACTERS
        assert one.page == (bisect_right(pages, one.start) if pages else None)
        position = one.end
    assert text[position:].strip() == ""
    encodings = load_tokenizer().encode_batch([one.text for one in chunks])
    assert max((len(encoding.ids) for encoding in encodings), default=0) <= MAX_TOKENS


fragments = st.sampled_from(
    [
        "\n",
        "\n\n",
        " ",
        "\t",
        "# Head",
        "\n## Sub\n",
        "```",
        "---",
        "word",
        "word " * 60,
        PARAGRAPH * 3,
        "漢字" * 90,
        "한글" * 90,
        "😀" * 120,
        "👩\u200d👧" * 80,
        "é" * 200,
        "x" * 99,
        "x" * 101,
        "y" * 9000,
        "a1/B+" * 300,
        "[" * 300,
        "> ",
        "- item\n",
        "|a|b|\n",
        "\x00",
        "\x1c",
        "\u2028",
        "�",
        "[SEP]",
        "[MASK] " * 90,
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(fragments, st.text(max_size=40)), max_size=30),
    st.sampled_from(["markdown", "text"]),
    st.data(),
)
def test_nothing_is_lost_and_no_limit_broken(
    parts: list[str], content_type: str, data: st.DataObject
) -> None:
    text = "".join(parts).replace("\ud800", "\ufffd")
    breaks = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    check(text, content_type, [0, *sorted(breaks)] if data.draw(st.booleans()) else [])


def test_empty_and_blank_texts_have_no_chunks() -> None:
    assert chunk("", "text", []) == []
    assert chunk(" \n\t\n", "markdown", [0, 2]) == []


def test_a_short_text_is_one_chunk() -> None:
    (only,) = chunk("  One sentence.\n", "text", [])
    assert (only.text, only.start, only.end, only.page, only.heading) == ("One sentence.", 2, 15, None, "")


def test_headings_stay_with_their_text_and_name_the_chunk() -> None:
    text = "".join(
        f"{'#' * (1 + number % 3)} Part *{number}* ##\n\n{PARAGRAPH * (4 + number)}\n\n"
        for number in range(12)
    )
    chunks = chunk(text, "markdown", [])
    for number in range(12):
        (at,) = (one for one in chunks if f"Part *{number}*" in one.text)
        assert at.text.startswith("#")
        assert "The tenant" in at.text
        assert at.heading == f"Part {number}"
    assert all("Part" not in one.text for one in chunks if not one.text.startswith("#"))
    assert {one.heading for one in chunks} == {f"Part {number}" for number in range(12)}


def test_short_sections_are_joined() -> None:
    text = "".join(f"# Rule {number}\nKeep it clean.\n" for number in range(100))
    chunks = chunk(text, "markdown", [])
    assert all(one.text.startswith("# Rule") for one in chunks)
    assert min(one.text.count("# Rule") for one in chunks) >= 4


def test_underlined_headings_count_and_code_and_front_matter_do_not() -> None:
    text = f"---\ntitle: x\n---\nIntro\n=====\n{PARAGRAPH * 6}\n\n```\n# comment\n```\n\n{PARAGRAPH * 6}"
    assert {one.heading for one in chunk(text, "markdown", [])} <= {"", "Intro"}
    assert chunk(text, "markdown", [])[-1].heading == "Intro"


def test_plain_text_has_no_headings() -> None:
    assert {one.heading for one in chunk(f"# 1 of 5\n{PARAGRAPH * 20}", "text", [])} == {""}


def test_cuts_at_paragraphs_then_sentences_then_words() -> None:
    paragraphs = [PARAGRAPH.strip()] * 3
    text = "\n\n".join(" ".join(paragraphs) + f" Number {number}." for number in range(9))
    assert all(
        one.text.startswith("The tenant") and one.text.endswith(".") for one in chunk(text, "text", [])
    )
    assert all(one.text.endswith(".") for one in chunk(PARAGRAPH * 100, "text", []))
    assert all(one.text.split()[0] == "word" for one in chunk("word " * 3000, "text", []))


def test_chunks_know_their_page() -> None:
    text = PARAGRAPH * 60
    pages = [0, 1000, 1000, 4000]
    for one in chunk(text, "markdown", pages):
        assert one.page == bisect_right(pages, one.start)
    assert {one.page for one in chunk(text, "markdown", pages)} == {1, 3, 4}


def test_a_long_heading_is_shortened() -> None:
    assert len(chunk(f"# {'long ' * 100}\n\ntext", "markdown", [])[0].heading) <= 200


ROWS = {
    "prose": f"# Head\n\n{PARAGRAPH * 5}\n\n",
    "one word": "x",
    "newlines": "\n",
    "hashes": "#",
    "small sections": "# a\nx\n",
    "backticks": "`",
    "brackets": "[",
    "stars": "*",
    "quotes": "> ",
    "lists": "- ",
    "fences": "```\n",
    "underlines": "a\n===\n",
    "emoji": "😀",
    "chinese": "漢字",
    "korean": "한",
    "short words of two kinds": "_a",
    "blank lines": "\n \n",
    "closing quotes": '."',
    "accents": "e\u0301",
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_time_grows_with_length_alone(row: str) -> None:
    small, large = (row * (length // len(row)) for length in (20_000, 160_000))
    seconds = min(_seconds(small) for _ in range(2)), _seconds(large)
    assert seconds[1] < 8 * 4 * seconds[0] + 0.2  # quadratic growth would be 64-fold
    check(large)


def _seconds(text: str) -> float:
    began = time.perf_counter()
    chunk(text, "markdown", [])
    return time.perf_counter() - began
