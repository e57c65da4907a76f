"""The answer of an extractor: a JSON list of `{"text", "type", "box"}`. Its parser, and its writer for training.

An answer is untrusted. It may be prose, thoughts, cut off, very long, or of another form. The parser reads what has the
right form, counts everything else, and invents nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.geometry import Rectangle
from namepin.tools.labels import ALIASES, COARSE4, COARSE8_TO_4, FINE_TO_COARSE4
from namepin.tools.llm.answers import json_values, repaired_list

Scheme = Literal["gmner4", "fmnerg8", "fmnerg51"]
"""The types that an extractor answers with, by their name in `namepin.tools.labels.SCHEMES`."""

ENTITIES, REASONING = "entities", "reasoning"
"""The keys of an answer in the form of an object: the list, and the thoughts before it."""

LONGEST = 60_000
"""Largest number of characters of an answer that are read."""

_ABSENT = frozenset({"", "null", "none", "nil", "n/a"})
_OTHER_WORDS: Mapping[str, str] = {
    "people": "PER",
    "organisation": "ORG",
    "gpe": "LOC",
    "misc": "OTHER",
    "miscellaneous": "OTHER",
}


@dataclass(frozen=True)
class AnswerItem:
    """One name of an answer.

    Attributes:
        text: the name as the model wrote it.
        label: one of the 4 types.
        fine: one of the 51 types, or None.
        box: the model's own value, unchecked; None where the model says that the name is not in the picture.
        row: its number in the answer's list, items of another form included.
    """

    text: str
    label: str
    fine: str | None
    box: Any = None
    row: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Answer:
    """A parsed answer.

    Attributes:
        items: its names, in its order.
        foreign: number of items of a type outside every scheme.
        malformed: number of items of another form.
        more: number of items beyond the bound.
        cut: whether the answer ends before its list does.
        reasoning: the thoughts in it, where it is an object with both.
    """

    items: tuple[AnswerItem, ...] = ()
    foreign: int = 0
    malformed: int = 0
    more: int = 0
    cut: bool = False
    reasoning: str | None = None

    @property
    def rows(self) -> int:
        """Number of items of any form."""
        return len(self.items) + self.foreign + self.malformed + self.more


@dataclass(frozen=True)
class GoldMention:
    """One mention of a training post: its text, its type in the scheme of the answer, and its largest box or None."""

    text: str
    type: str
    box: Rectangle | None = None


def write_answer(mentions: Iterable[GoldMention], frame: BoxFrame | None, reasoning: str | None = None) -> str:
    """The answer that a model should give, on one line. `read_answer` reads it back.

    Args:
        mentions: in text order.
        frame: how the model counts in this picture; None without a picture, and then every box is null.
        reasoning: thoughts before the list; the answer is then an object with both.
    """
    rows = [
        {
            "text": mention.text,
            "type": mention.type,
            "box": None if frame is None or mention.box is None else frame.from_pixels(mention.box),
        }
        for mention in mentions
    ]
    return json.dumps(rows if reasoning is None else {REASONING: reasoning, ENTITIES: rows}, ensure_ascii=False)


def answer_schema(types: Sequence[str], *, wrapped: bool) -> dict[str, Any]:
    """The JSON schema of an answer.

    Args:
        types: the allowed types.
        wrapped: whether the list is in an object under `entities`, as OpenAI's `response_format` demands.
    """
    box = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
    item = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "type": {"type": "string", "enum": list(types)},
            "box": {"anyOf": [box, {"type": "null"}]},
        },
        "required": ["text", "type", "box"],
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": item}
    if not wrapped:
        return rows
    return {"type": "object", "properties": {ENTITIES: rows}, "required": [ENTITIES], "additionalProperties": False}


def read_answer(text: str, scheme: Scheme, most: int = 100) -> Answer | None:
    """The names in an answer; None where there is no list.

    The list may stand in a code fence, among words, or in an object under `entities`. The last list with items counts:
    earlier ones are drafts. Text before `</think>` is not part of the answer. Broken JSON is repaired. An answer that
    was cut off keeps its complete items.

    Args:
        text: the reply.
        scheme: the types that were asked for.
        most: largest number of items.
    """
    found = _rows(text.rpartition("</think>")[2].partition("<think>")[0][:LONGEST])
    if found is None:
        return None
    rows, cut, reasoning = found
    items = [_item(row, scheme, number) for number, row in enumerate(rows[:most])]
    sound = tuple(item for item in items if isinstance(item, AnswerItem))
    return Answer(
        items=sound,
        foreign=items.count("foreign"),
        malformed=items.count("malformed"),
        more=len(rows) - len(items),
        cut=cut,
        reasoning=reasoning,
    )


def _rows(text: str) -> tuple[list[Any], bool, str | None] | None:
    """The unchecked items of an answer, whether it was cut off, and its thoughts; None without a list."""
    values = list(json_values(text, 500))
    lists = [(rows, value) for value in values if (rows := _listed(value)) is not None]
    if lists:
        rows, value = next((one for one in reversed(lists) if one[0]), lists[-1])
        thoughts = value.get(REASONING) if isinstance(value, dict) else None
        return rows, False, thoughts if isinstance(thoughts, str) else None
    loose = [value for value in values if isinstance(value, dict) and "text" in value]
    repaired = _listed(repaired_list(text))
    cut = text.count("[") > text.count("]")
    if repaired and len(repaired) >= len(loose):
        return repaired, cut, None
    return (loose, cut, None) if loose else None


def _listed(value: Any) -> list[Any] | None:
    """The list of items in a JSON value; None for any other list."""
    if isinstance(value, dict):
        value = value.get(ENTITIES)
    if not isinstance(value, list):
        return None
    return value if not value or any(isinstance(row, dict) and "text" in row for row in value) else None


def _item(row: Any, scheme: Scheme, number: int) -> AnswerItem | Literal["foreign", "malformed"]:
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not isinstance(row.get("type"), str):
        return "malformed"
    typed = read_type(row["type"], scheme)
    if typed is None:
        return "foreign"
    box = row.get("box")
    absent = box is None or box is False or box == [] or (isinstance(box, str) and box.strip().casefold() in _ABSENT)
    return AnswerItem(row["text"], *typed, None if absent else box, number)


def read_type(name: str, scheme: Scheme) -> tuple[str, str | None] | None:
    """A type as (4-type label, fine label or None), in any spelling of case, blanks and hyphens.

    A type of another scheme counts as far as it fits: a fine type is its parent where 4 or 8 types were asked for, and
    a coarse one leaves the fine type open.

    Returns:
        None for a type of no scheme.
    """
    key = "_".join(name.replace("-", " ").replace("_", " ").casefold().split())
    fine = ALIASES.get(key, key)
    if fine in FINE_TO_COARSE4:
        return FINE_TO_COARSE4[fine], fine if scheme == "fmnerg51" else None
    if key.upper() in COARSE4:
        return key.upper(), None
    coarse = COARSE8_TO_4.get(key) or _OTHER_WORDS.get(key)
    return (coarse, None) if coarse else None
