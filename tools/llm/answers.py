"""JSON objects in what models say: strictly where that is possible, repaired where nothing is invented by it."""

import json
import re
from collections.abc import Iterator
from typing import Any

_TRIES = 10
"""Braces of an answer at which an object may begin."""
_MAX_REPAIR = 20_000
"""Characters; a longer answer is not repaired."""


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects that an answer holds, in thoughts, fences or prose, the outer ones first; line ends may be bare."""
    decoder = json.JSONDecoder(strict=False)
    for brace in list(re.finditer(r"\{", text))[:_TRIES]:
        try:
            found = decoder.raw_decode(text, brace.start())[0]
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def repaired_object(text: str) -> dict[str, Any] | None:
    """The object between the first and the last brace where only its spelling is wrong; None where more is.

    Single quotes, trailing commas, comments and names without quotes are spelling. Each name and text of the object
    must stand in the answer as it is, so nothing is made up.
    """
    start, end = text.find("{"), text.rfind("}")
    if not 0 <= start < end or end - start > _MAX_REPAIR:
        return None
    try:
        from json_repair import repair_json
    except ModuleNotFoundError:
        return None
    try:
        found = repair_json(text[start : end + 1], return_objects=True)
    except (ValueError, RecursionError):
        return None
    plain = " ".join(text.replace("\\\\", "").split())
    said = all(" ".join(value.replace("\\\\", "").split()) in plain for value in _strings(found))
    return found if isinstance(found, dict) and found and said else None


def last_object(thoughts: str) -> str:
    """The object that thoughts end in, as text; empty where they end otherwise. Earlier ones are drafts."""
    text = thoughts.rpartition("</think>")[2].strip().removesuffix("```").rstrip()
    for brace in re.finditer(r"\{", text[-_MAX_REPAIR:]):
        tail = text[-_MAX_REPAIR:][brace.start() :]
        try:
            found, length = json.JSONDecoder(strict=False).raw_decode(tail)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and length == len(tail):
            return tail
    return ""


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
