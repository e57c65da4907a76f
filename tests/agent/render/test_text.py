"""The table, and text made safe to show."""

import io

import pytest

from namepin.agent.render.table import print_table
from namepin.agent.render.view import (
    COLOURS,
    PostView,
    error_sentences,
    ink_on,
    kind,
    notice_sentence,
    presence,
    printable,
    score,
    short,
    shown_score,
    split_code,
    typing,
)
from namepin.tools.errors import NamepinError
from namepin.tools.types import Notice
from support.agent_samples import TEXT, entity, full, post_view


def table(item: PostView, first: bool = True) -> str:
    out = io.StringIO()
    print_table(item.extraction, out, first)
    return out.getvalue()


def test_table_shows_labels_scores_and_evidence_in_80_columns() -> None:
    text = table(full())
    assert all(len(line) <= 80 for line in text.splitlines())
    words = " ".join(text.split())
    for part in ("degraded", "Ada Example", "athlete", "0.80", "yes 0.90", "10,20,120,230", "ambiguous", "no 0.10"):
        assert part in words
    assert "larger of" in words, "the matcher's evidence"
    assert "! W103 knowledge: the server is down" in words
    assert "\x1b" not in text, "no colour codes in a pipe"


def test_table_with_long_names_wraps_without_loss() -> None:
    name = "Supercalifragilisticexpialidocious" * 3
    text = table(post_view(name, entity(name, name)))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "".join(text.split()).count("Supercali") >= 6, "in the text, and in full in the table"


def test_table_of_posts_without_picture_or_names_renders() -> None:
    assert "in the picture?" not in table(post_view(TEXT, entity(TEXT, "Ada Example"), size=None))
    assert "no names found" in table(post_view(TEXT))
    assert table(post_view(TEXT), first=False).startswith("\n")


def test_table_with_escape_sequences_prints_none() -> None:
    text = "\x1b[31mred\x1b]0;title\x07 \u202egnp.exe \x9b5m"
    out = table(post_view(text))
    assert not set("\x1b\x07\u202e\x9b") & set(out)
    assert "\u241b[31mred" in out


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a\tb\nc", "a b c"),
        ("\0", "\u2400"),
        ("\x7f", "\u2421"),
        ("\ud800", "\ufffd"),
        ("\u202e", "\ufffd"),
        ("é🚀", "é🚀"),
    ],
)
def test_printable_replaces_control_characters_and_keeps_length(text: str, safe: str) -> None:
    assert printable(text) == safe
    assert len(safe) == len(text)


def test_short_truncates_beyond_limit_with_ellipsis() -> None:
    assert short("abcdef", 6) == "abcdef"
    assert short("abcdefg", 6) == "abcde…"


def test_ink_on_every_colour_has_aa_contrast() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for colour in COLOURS:
        bright, dark = sorted((luminance(colour), luminance(ink_on(colour))), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"WCAG AA contrast on {colour}"


def test_score_and_presence_without_evidence_are_unknown() -> None:
    assert score(entity(TEXT, "Ada Example")) == 0.8
    assert score(entity(TEXT, "Ada Example", scores={})) is None
    asked = [entity(TEXT, "Ada Example", groundable=state, provenance=("tagger",)) for state in (True, False, None)]
    assert [presence(one) for one in asked] == ["yes", "no", "?"]


def test_name_that_no_tool_could_have_seen_is_shown_as_cannot_tell() -> None:
    shuttle = entity(TEXT, "Grand Place", label="LOC", fine_label="park", groundable=None, evidence="not recognised")
    assert presence(shuttle) == "cannot tell"
    assert presence(shuttle.model_copy(update={"provenance": ("tagger",)})) == "?", "no matcher looked"
    text = table(post_view(TEXT, shuttle))
    assert "cannot tell" in text and "not recognised" in text and " no " not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_uncertain_type_is_shown_as_its_coarse_type_and_unsure() -> None:
    scores = {"musician": 0.26, "actor": 0.2, "athlete": 0.5, "company": 0.04}
    unsure = entity(TEXT, "Ada Example", fine_label="musician", scores=scores, type_uncertain=True)
    assert typing(unsure) == "PER, unsure" and kind(unsure) == "PER" and kind(unsure, sure=True) == "musician"
    assert shown_score(unsure) == pytest.approx(0.96), "the probability of what is shown: of all people together"
    assert score(unsure) == 0.26, "rows and filters keep the fine type's"
    text = table(post_view(TEXT, unsure))
    assert "PER unsure" in " ".join(text.split()) and "0.96" in text and "musician" not in text
    assert (
        typing(entity(TEXT, "Ada Example")) == "PER, athlete" and typing(entity(TEXT, "Bo", fine_label=None)) == "PER"
    )


def test_error_sentences_end_in_the_code() -> None:
    error = NamepinError("E330", "'Ada' has no box", where="chat", mend="give a box")
    assert error_sentences(error) == "'Ada' has no box. Give a box. (E330)"
    assert split_code(error_sentences(error)) == ("'Ada' has no box. Give a box.", "(E330)")
    assert error_sentences(ValueError("the server is busy")) == "The server is busy."


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("the server is down", "The server is down. (W101, knowledge)"),
        (
            "E124: the picture is damaged; save it again",
            "The picture is damaged; save it again. (W101, E124, knowledge)",
        ),
        ("went on without it: E120: not found.", "Went on without it: not found. (W101, E120, knowledge)"),
    ],
)
def test_notice_sentence_ends_in_all_codes(message: str, sentence: str) -> None:
    assert notice_sentence(Notice(code="W101", tool="knowledge", message=message)) == sentence


@pytest.mark.parametrize("message", ["Ada (the first)", "Ada", "", "a (E12) b", "See E330"])
def test_split_code_of_message_without_code_changes_nothing(message: str) -> None:
    assert split_code(message) == (message, "")


def test_split_code_moves_leading_code_to_the_end() -> None:
    assert split_code("E310: no such model; name one") == ("No such model; name one.", "(E310)")
