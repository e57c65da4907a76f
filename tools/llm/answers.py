"""JSON in answers of models: parsed strictly if possible, else repaired without inventing content."""

import json
import re
from collections.abc import Iterator
from typing import Any

_TRIES = 10
"""Largest number of braces that are tried as the beginning of an object."""
_MAX_REPAIR = 20_000
"""Largest number of characters of an answer that is repaired."""


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects in an answer (in thoughts, fences or prose), outer ones first. Strings may hold bare line ends."""
    decoder = json.JSONDecoder(strict=False)
    for brace in list(re.finditer(r"\{", text))[:_TRIES]:
        try:
            found = decoder.raw_decode(text, brace.start())[0]
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def repaired_object(text: str) -> dict[str, Any] | None:
    """The object between the first and the last brace, if only its syntax is wrong; else None.

    Single quotes, trailing commas, comments and names without quotes are repaired. Each name and text of the result
    must occur in the answer, so nothing is invented.
    """
    found = _repaired(text, text.find("{"), text.rfind("}"))
    return found if isinstance(found, dict) and found else None


def repaired_list(text: str) -> list[Any] | None:
    """The list between the first `[{` and the last `}`, repaired as in `repaired_object`; else None.

    Whatever follows the last closed object is not part of the list, so an answer that was cut off loses its last item.
    """
    opened = re.search(r"\[\s*\{", text)
    found = _repaired(text, opened.start(), text.rfind("}"), close="]") if opened else None
    return found if isinstance(found, list) and found else None


def _repaired(text: str, start: int, end: int, close: str = "") -> Any:
    """The repaired JSON in `text[start : end + 1]`, followed by `close`; None where a string of it is invented."""
    if not 0 <= start < end or end - start > _MAX_REPAIR:
        return None
    try:
        from json_repair import repair_json
    except ModuleNotFoundError:
        return None
    try:
        found = repair_json(text[start : end + 1] + close, return_objects=True)
    except (ValueError, RecursionError):
        return None
    plain = " ".join(text.replace("\\\\", "").split())
    only_from_answer = all(" ".join(value.replace("\\\\", "").split()) in plain for value in _strings(found))
    return found if only_from_answer else None


def json_values(text: str, most: int = 100) -> Iterator[Any]:
    """The outermost JSON lists and objects in a text, at most `most` tries. NaN and Infinity are read as numbers."""
    decoder = json.JSONDecoder(strict=False)
    at = 0
    for _ in range(most):
        start = re.compile(r"[\[{]").search(text, at)
        if start is None:
            return
        try:
            value, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
            continue
        yield value


def last_object(thoughts: str) -> str:
    """The object at the end of a model's thoughts, as text; empty without one. Earlier objects are drafts."""
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
