"""The tweet tokenizer and the cleaning of a post's text."""

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.tools.errors import NamepinError
from namepin.tools.text import MAX_CHARACTERS, clean_text, tweet_tokens
from namepin.tools.types import token_offsets
from support.waiting import growth

CASES = {
    "RT @user: Look!": "RT|@|user|:|Look|!",
    "#Tag#Other @a_b": "#|Tag|#|Other|@|a|_|b",
    "Donald Trump's don't O’Neal": "Donald|Trump|'|s|don|'|t|O|’|Neal",
    "U.S. vs. St.Louis...": "U|.|S|.|vs|.|St|.|Louis|.|.|.",
    "$1.8M 50,000 10:07 2-1 90s": "$|1|.|8M|50|,|000|10|:|07|2-1|90s",
    "Lahore-Islamabad -- re-sign -no": "Lahore-Islamabad|-|-|re-sign|-|no",
    "x &amp; y &gt;&gt; S&P": "x|&amp|;|y|&gt|;|&gt|;|S|&|P",
    "see https://t.co/aB1?x=y#z, (http://a.b/c).": "see|https://t.co/aB1?x=y#z|,|(|http://a.b/c|)|.",
    "www.bbc.co.uk/news. YouTube.com it.in the http…": "www.bbc.co.uk/news|.|YouTube.com|it|.|in|the|http…",
    "mail a.b+c@mail.example.org!": "mail|a.b+c@mail.example.org|!",
    "so :) sad:( :-D": "so|:)|sad|:|(|:-D",
    "no😂😂way": "no|😂|😂|way",
    "👨\u200d👩\u200d👧\u200d👦👍🏽❤️": "👨\u200d👩\u200d👧\u200d👦|👍🏽|❤️",
    "🇺🇸🇬🇧🇺": "🇺🇸|🇬🇧|🇺",
    "1️⃣#️⃣ 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f": (
        "1️⃣|#️⃣|🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    ),
    "東京タワーとABC 화양연화": "東|京|タ|ワ|ー|と|ABC|화양연화",
    "กรุงเทพ": "ก|รุ|ง|เ|ท|พ",
    "قال دونالد ترامب، می\u200cخواهم": "قال|دونالد|ترامب|،|می\u200cخواهم",
    "न्यूयॉर्क cafe\u0301": "न्यूयॉर्क|cafe\u0301",
    "Dav\u200bid \u200fx\u200f\u202c co\u00adop": "Dav|\u200b|id|\u200f|x|\u200f\u202c|co\u00adop",
    "a\x00b\x1cc\x85d\u2028e": "a|\x00|b|c|d|e",
}


@pytest.mark.parametrize("text", CASES, ids=ascii)
def test_tweet_tokens_of_text_equal_expected_tokens(text: str) -> None:
    assert "|".join(tweet_tokens(text)) == CASES[text]


# Text that looks like posts, so that the rules meet each other, mixed with arbitrary text.
PIECES = st.sampled_from(
    [
        "@",
        "#",
        "user",
        "'",
        "s",
        " ",
        ".",
        ",",
        ":",
        ")",
        "-",
        "_",
        "…",
        "http",
        "http://",
        "https://t.co/x",
        "www.",
        "&amp",
        ";",
    ]
    + [
        "com",
        "a",
        "1",
        "*",
        "\ufe0f",
        "\u20e3",
        "\u200d",
        "👩",
        "🏽",
        "🇺",
        "🏴",
        "\U000e0067",
        "\U000e007f",
        "東",
        "ー",
        "น",
        "า",
    ]
    + ["\u0301", "\u00ad", "\u200b", "\x00", "\x1c", "\n", "ا", "ß", "\ud800"]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60))


@given(TEXTS)
def test_tweet_tokens_cover_text_in_order(text: str) -> None:
    tokens = tweet_tokens(text)
    covered = set()
    for start, end in token_offsets(text, tokens):
        assert start < end and covered.isdisjoint(range(start, end))
        covered.update(range(start, end))
    assert covered == {i for i, character in enumerate(text) if not character.isspace()}
    assert not any(character.isspace() for token in tokens for character in token)


@given(TEXTS)
def test_tweet_tokens_of_tokenised_text_are_unchanged(text: str) -> None:
    tokens = tweet_tokens(text)
    assert tweet_tokens(" ".join(tokens)) == tokens


def test_tweet_tokens_split_at_every_unicode_space() -> None:
    spaces = [chr(i) for i in range(sys.maxunicode + 1) if chr(i).isspace()]
    assert len(spaces) > 20
    assert tweet_tokens("".join(f"a{space}" for space in spaces)) == ("a",) * len(spaces)


@pytest.mark.parametrize(
    "unit",
    ["a.", "a", ".", "-", "a-", "a@", "http://.", "http://", "www.", "h", "&#1234567", "a1._%+-", "a\u00ad", "\u00ad"]
    + [
        "👨\u200d",
        "🇺",
        "1️⃣",
        "a\u0301",
        "\u0301",
        "東",
        "a.b.c.d.e.f.com@",
        ("a" * 64 + "."),
        ":",
        "🏴\U000e0067",
        " ",
        "😂",
    ],
    ids=ascii,
)
def test_tweet_tokens_take_linear_time(unit: str) -> None:
    """Each unit, repeated, sends some alternative far ahead."""
    text = (unit * 50_000)[:50_000]
    assert growth(lambda size: tweet_tokens(text[:size]), 3125, 50_000) < 64, "16 if linear, 256 if quadratic"


def test_clean_text_keeps_length_and_offsets() -> None:
    assert clean_text("a\x00b\x07\tc\r\nd\x9f") == "a b \tc\r\nd "
    assert clean_text("x\ud800y\udcff") == "x\ufffdy\ufffd"
    assert clean_text("می\u200cخواهم 😂") == "می\u200cخواهم 😂"
    assert len(clean_text("ab" * (MAX_CHARACTERS // 2))) == MAX_CHARACTERS


@given(TEXTS)
def test_clean_text_of_any_text_is_valid_and_as_long(text: str) -> None:
    try:
        cleaned = clean_text(text)
    except NamepinError as error:
        assert error.code == "E101"
        assert all(unicodedata.category(c)[0] in "CZ" or c.isspace() for c in text.replace("\ufffd", ""))
        return
    assert len(cleaned) == len(text) and cleaned.strip() and clean_text(cleaned) == cleaned
    cleaned.encode()
    assert all(a == b or b in " \ufffd" for a, b in zip(text, cleaned, strict=True))


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x00", "\u200b\u200f", "\u2028"], ids=ascii)
def test_clean_text_without_visible_character_raises_e101(text: str) -> None:
    with pytest.raises(NamepinError, match="E101"):
        clean_text(text)


@pytest.mark.parametrize("text", ["😂", "؟", "\ufffd", "…"])
def test_clean_text_of_one_visible_character_returns_it(text: str) -> None:
    assert clean_text(text) == text


def test_clean_text_beyond_limit_raises_e102() -> None:
    with pytest.raises(NamepinError, match="E102: the text has 200,001 characters, more than 200,000"):
        clean_text("a" * (MAX_CHARACTERS + 1))


def gmner_posts(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Tokens and BIO tags of each post of a CoNLL file."""
    for block in path.read_text(encoding="utf-8").split("IMGID:")[1:]:
        rows = [line.split("\t") for line in block.split("\n")[1:] if line.strip()]
        yield [row[0] for row in rows], [row[1] for row in rows]


def as_written(tokens: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """The post as its author typed it, as far as the tokens tell, and each token's characters in it."""
    text, offsets = "", []
    glue, quoted, in_handle = True, False, False
    for i, token in enumerate(tokens):
        before, after = tokens[i - 1] if i else "", tokens[i + 1] if i + 1 < len(tokens) else ""
        number = before[-1:].isdigit() and after[:1].isdigit()
        contraction = bool(token in "'’" and before.isalpha() and re.fullmatch("s|t|m|d|re|ve|ll", after))
        initials = token == "." and re.fullmatch("[A-Z]", before) and re.fullmatch("[A-Z]", after)
        closes_quote = token == '"' and quoted
        to_last = (
            closes_quote
            or contraction
            or (in_handle and token == "_")
            or (token == ";" and before.startswith("&"))
            or (token in "/-" and number)
            or (token in ".,!?:;)]}…%" and len(token) == 1)
            or before.startswith(("http://", "https://", "//t"))
            or (token.startswith("//") and before == ":")
        )
        if not (to_last or glue):
            text += " "
        offsets.append((len(text), len(text) + len(token)))
        text += token
        glue = (
            token in ("@", "#", "$", "£", "€", "(", "[", "{")
            or contraction
            or (in_handle and token == "_" and bool(re.match(r"\w", after)))
            or (token in ".,:/-" and number)
            or bool(initials)
            or (token == '"' and not quoted)
            or (token == "." and before == "//t")
        )
        in_handle = token in "@#" or (in_handle and (token == "_" or before in ("@", "#", "_")))
        quoted ^= token == '"'
    return text, offsets


def agreement(path: Path) -> tuple[float, float, float]:
    """Shares: linkless posts cut to the same tokens, all posts so cut, mentions whose edges are token edges."""
    posts = same = linkless = same_linkless = mentions = kept = 0
    for tokens, tags in gmner_posts(path):
        text, offsets = as_written(tokens)
        found = tweet_tokens(text)
        equal, linked = list(found) == tokens, "//" in text
        posts, same = posts + 1, same + equal
        linkless, same_linkless = linkless + (not linked), same_linkless + (equal and not linked)
        places = token_offsets(text, found)
        starts, ends = {start for start, _ in places}, {end for _, end in places}
        for first in (i for i, tag in enumerate(tags) if tag.startswith("B-")):
            last = first
            while last + 1 < len(tags) and tags[last + 1].startswith("I-"):
                last += 1
            mentions += 1
            kept += offsets[first][0] in starts and offsets[last][1] in ends
    return same_linkless / linkless, same / posts, kept / mentions


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "dev"])
def test_tweet_tokens_of_gmner_posts_agree_with_release(data_root: Path, split: str) -> None:
    linkless, every, edges = agreement(data_root / "gmner" / "txt" / f"{split}.txt")
    print(f"{split}: same tokens {linkless:.4f} of the posts without a link, {every:.4f} of all; edges {edges:.4f}")
    assert linkless > 0.9 and edges > 0.99
