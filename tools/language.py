"""Whether a text is probably not English, by its script and its commonest words.

The taggers that ship, and the lexicon, know English posts. Elsewhere they find little, and nothing in the result would
say why. The rules are plain so that they stay right: letters of other scripts, or function words of other languages,
or many small words of which none is an English function word. Names, handles, hashtags and links do not count.
"""

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ENGLISH, PARTICLES = "English", "particles"
_SKIPPED = re.compile(r"https?://\S+|www\.\S+|[@#]\s?\w+|\b\w+://\S+|&\w+;")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

_OTHER_SCRIPT = 0.35
"""Share of letters outside the Latin script from which a text is not English."""

_MANY = 9
"""Number of words, without names, of which at least one is an English function word, in English."""

_READ = 4000
"""Number of characters that are read; a language shows in fewer."""


@cache
def _lists() -> Mapping[str, frozenset[str]]:
    """The lists of `tools/data/function_words.toml`."""
    file = Path(__file__).parent / "data" / "function_words.toml"
    return {name: frozenset(words.split()) for name, words in tomllib.loads(file.read_text("utf-8")).items()}


@cache
def _telling() -> Mapping[str, frozenset[str]]:
    """Each other language's words that are not English."""
    names = _lists().keys() - {ENGLISH, PARTICLES}
    return {name: _lists()[name] - _lists()[ENGLISH] for name in sorted(names)}


@cache
def _telling_of_any() -> frozenset[str]:
    return frozenset().union(*_telling().values())


def not_english(text: str) -> str | None:
    """Why a text is probably not English, such as `Japanese writing` or `words of Spanish`; None where it may be."""
    plain = _SKIPPED.sub(" ", text[:_READ])
    if not plain.isascii():
        letters = [character for character in plain if character.isalpha()]
        scripts = Counter(_script(character) for character in letters)
        others = sum(count for script, count in scripts.items() if script != "Latin")
        if others >= 2 and others >= _OTHER_SCRIPT * len(letters):
            scripts.pop("Latin", None)
            return f"{_writing(scripts)} writing"
    words = list(_counted([word.replace("’", "'") for word in _WORD.findall(plain)]))
    told = [word for word in words if word in _telling_of_any()]
    if len(told) >= 2:
        counts = {language: sum(word in telling for word in told) for language, telling in _telling().items()}
        language = max(counts, key=lambda name: counts[name])
        # Words of both languages, as "in" of Dutch, speak for neither.
        own = _lists()[ENGLISH] - _lists()[language]
        english = sum(word in own for word in words)
        if counts[language] >= 2 and counts[language] > 1.5 * english:
            return f"words of {language}"
    if len(words) >= _MANY and not any(word in _lists()[ENGLISH] for word in words):
        return "no English function word"
    return None


def _counted(words: Sequence[str]) -> Iterator[str]:
    """The words that are not names, in lower case: small ones, and the first; without `van` of Ludwig van Beethoven."""
    for i, word in enumerate(words):
        inside = 0 < i < len(words) - 1 and words[i - 1][0].isupper() and words[i + 1][0].isupper()
        if i == 0 or (word[0].islower() and not (inside and word in _lists()[PARTICLES])):
            yield word.lower()


def _script(character: str) -> str:
    """The script of a letter, by the first word of its Unicode name."""
    name = unicodedata.name(character, "").split(" ")[0]
    return "Latin" if name in ("LATIN", "FULLWIDTH", "FEMININE", "MASCULINE", "MODIFIER") else name.title()


def _writing(scripts: Counter[str]) -> str:
    """The commonest script by the name that a reader knows."""
    if scripts["Hiragana"] or scripts["Katakana"] or scripts["Katakana-Hiragana"]:
        return "Japanese"
    name = scripts.most_common(1)[0][0]
    return {"Cjk": "Chinese", "Hangul": "Korean"}.get(name, name)
