"""The text of a post: cleaned (`clean_text`) and split into tokens (`tweet_tokens`).

The tokens follow the form of Twitter-GMNER, on which the taggers are trained: `@` and `#` stand apart from their word,
every punctuation mark stands alone (`don ' t`, `U . S .`, `1 . 8`, `. . .`, `snake _ case`), a hyphen stays inside its
word, and `&amp;` becomes `&amp ;`. Unlike in the releases, links, e-mail addresses and emoji sequences stay whole,
since no name begins inside them.
"""

import regex

from namepin.tools.errors import NamepinError

MAX_CHARACTERS = 200_000
"""Longer texts are refused; a post is a few hundred characters, and a long article some 50,000."""

# Scripts without spaces between words: one token per character (with its marks), so that a name can begin anywhere.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30FC\uFF70&&[\p{L}\p{N}]]"
_WORD = rf"[[\p{{L}}\p{{N}}]--{_UNSPACED}]"
# Invisible, but part of the word: soft hyphen, the two joiners (Persian, Indic scripts), word joiner.
_INSIDE = r"[\u00AD\u200C\u200D\u2060]"
_LABEL = r"[A-Za-z0-9-]{1,63}+"
# Endings that are also words (it, in, be, us, me, de) are left out: a missing blank after a full stop is commoner.
_DOMAIN = (
    rf"(?:{_LABEL}\.){{1,6}}"
    r"(?:com|COM|org|net|edu|gov|mil|info|tv|co|io|ai|fm|ly|gl|app|dev|uk|ca|au|jp)"
    r"(?![\w-]|\.\w)"
)
_URL_CHAR = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]"
_URL_LAST = r"[A-Za-z0-9\-_~/#@$&*+=%]"  # a link does not end with the sentence's punctuation
_PICTURE = r"\p{Extended_Pictographic}(?:\uFE0F|\p{Emoji_Modifier})*+"

# Each alternative scans what it consumes, or a bounded stretch ahead, so that the whole is linear in the text.
_TOKEN = regex.compile(
    rf"""
      https?://{_URL_CHAR}*{_URL_LAST}                       # a link
    | www\.{_URL_CHAR}*{_URL_LAST}
    | (?:htt?|https?(?::/{{0,2}})?+|h)…                      # a link that the release cut short
    | [A-Za-z0-9._%+-]{{1,64}}@{_DOMAIN}                     # an e-mail address
    | {_DOMAIN}(?:/{_URL_CHAR}*{_URL_LAST}|/)?               # a link without its scheme
    | &(?:amp|lt|gt|quot|apos|nbsp|\#[0-9]{{1,7}})(?=\ ?;)   # an HTML entity, up to its semicolon
    | [0-9#*]\uFE0F?+\u20E3                                  # a keycap
    | \p{{Regional_Indicator}}{{2}}                          # a flag
    | \U0001F3F4[\U000E0020-\U000E007E]++\U000E007F          # a flag of a region
    | {_PICTURE}(?:\u200D{_PICTURE})*+                       # an emoji, or several joined into one
    | (?<!\w)[:;=]['-]?[()DP](?!\w)                          # an emoticon
    | {_UNSPACED}\p{{M}}*+
    | {_WORD}(?:[{_WORD}\p{{M}}]|(?:{_INSIDE}++|-)(?={_WORD}))*+
    | [[\p{{Cf}}\p{{Cc}}\p{{Cs}}]--[\s\x1C-\x1F]]++          # a run of invisible characters
    | [^\s\x1C-\x1F]\p{{M}}*+                                # any other mark
    """,
    regex.VERBOSE | regex.V1,
)

# Control characters but tab and the line ends. The same length is kept: one character for one.
_CONTROL = regex.compile(r"[\p{Cc}--[\t\n\r]]", regex.V1)
_SURROGATE = regex.compile(r"\p{Cs}")
_VISIBLE = regex.compile(r"[^\s\p{C}\p{Z}]|\p{Co}|\p{Cn}", regex.V1)


def tweet_tokens(text: str) -> tuple[str, ...]:
    """The tokens of a raw post, in order.

    Every character but white space (as `str.isspace` has it) belongs to exactly one token, and a token holds no white
    space; so `namepin.tools.types.token_offsets` recovers the characters. Time is linear in the text.
    """
    return tuple(_TOKEN.findall(text))


def clean_text(text: str) -> str:
    """`text` with unusable characters replaced one for one, so that offsets stay valid.

    Control characters (also NUL) become a space; tab and line ends stay. Lone surrogates, which come from invalid UTF-8
    or a broken JSON escape, become U+FFFD. A caller can compare the result with `text` to warn the user.

    Raises:
        NamepinError: E101 when nothing visible is left, E102 beyond `MAX_CHARACTERS`.
    """
    if len(text) > MAX_CHARACTERS:
        raise NamepinError(
            "E102",
            f"the text has {len(text):,} characters, more than {MAX_CHARACTERS:,}",
            where="text",
            mend="split it into several posts",
        )
    cleaned: str = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _CONTROL.sub(" ", text))
    if not _VISIBLE.search(cleaned):
        raise NamepinError("E101", "the text is empty", where="text", mend="give a post with at least one word")
    return cleaned
