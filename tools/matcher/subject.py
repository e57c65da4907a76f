"""Whether a post's text makes a person the subject of its picture, by a few words around the name.

A face says nothing of whose it is. `Proud of Ada Example` beside one face is most likely Ada Example; `fans of Ada
Example`, `without Ada Example` and `Ada Example vs Bo Sample` are about other people as well.
"""

import re
from typing import Literal

Role = Literal["subject", "aside", "absent"]
"""The person is what the text is about; is named beside somebody else; or is said to be missing."""

_ABSENT_BEFORE = frozenset({"without", "sans", "minus", "instead of", "no more", "not", "isn't", "no"})
_ABSENT_AFTER = re.compile(
    r"\W*(?:is|was|are|were|'s)?\s*(?:absent|missing|not (?:here|there|in (?:this|the) (?:picture|photo))|"
    r"isn't (?:here|there)|(?:could not|couldn't|did not|didn't) (?:come|make it))\b",
    re.IGNORECASE,
)
_ASIDE_BEFORE = frozenset(
    {
        *("fan of", "fans of", "fan", "fans", "supporter of", "supporters of", "friend of", "friends of"),
        *("vs", "vs.", "v", "v.", "versus", "against", "beats", "beat", "defeats", "like", "as", "by", "about"),
        *("impersonator", "lookalike", "tribute to", "statue of", "mural of", "painting of", "portrait of"),
        *("inspired by", "directed by", "tickets for", "waiting for", "queue for", "to", "for", "from", "via", "rt"),
    }
)
_ASIDE_AFTER = re.compile(
    r"(?:['’]s?\b|\W*(?:vs?\b|versus\b|fans?\b|supporters?\b|concert\b|tickets?\b|shirts?\b|jersey\b|album\b|song\b|"
    r"book\b|movie\b|film\b|statue\b|mural\b|tribute\b|impersonator\b|lookalike\b|look-alike\b|tour\b))",
    re.IGNORECASE,
)
_ARTICLES = frozenset({"the", "a", "an", "our", "my", "your", "their", "his", "her", "this", "that", "great"})


def role_of(name: str, text: str) -> Role:
    """The part of a name in its text. Among several places the subject wins, then the aside.

    Args:
        name: the mention as it stands in the text.
        text: the post's text.
    """
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, name.split())) + r"(?!\w)"
    found = {_role_at(text, match.start(), match.end()) for match in re.finditer(pattern, text, re.IGNORECASE)}
    return next((role for role in ("subject", "aside", "absent") if role in found), "subject")


def _role_at(text: str, start: int, end: int) -> Role:
    before = [word.strip(',;:!?"“”()@#').casefold() for word in text[max(0, start - 80) : start].split()]
    while before and before[-1] in _ARTICLES:
        before.pop()
    one, two = " ".join(before[-1:]), " ".join(before[-2:])
    after = text[end : end + 60]
    if one in _ABSENT_BEFORE or two in _ABSENT_BEFORE or _ABSENT_AFTER.match(after):
        return "absent"
    if one in _ASIDE_BEFORE or two in _ASIDE_BEFORE or _ASIDE_AFTER.match(after):
        return "aside"
    return "subject"
