"""Describes the first difference between a replayed post and its recording."""

import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from namepin.graphs.recording.cassette import PostRecord
from namepin.graphs.state import Json

ABSENT = "nothing"
SPELLING = "spelling only (the order of keys, or 1 for 1.0)"


def first_difference(recorded: PostRecord, replayed: PostRecord) -> str | None:
    """Compare step by step (the nodes that ran, then the state after them), then the results byte for byte.

    A replay that stopped without a result is compared up to its last step.

    Returns:
        The step, the field, and both values as text; None without a difference.
    """
    for number, (old, new) in enumerate(zip_longest(recorded.steps, replayed.steps)):
        if new is None and replayed.result is None:
            return None
        old_ran, new_ran = (", ".join(step.ran) if step else "the end" for step in (old, new))
        if old is None or new is None or old.ran != new.ran:
            return f"step {number}: the recording has {old_ran or 'the start'}, the replay {new_ran or 'the start'}"
        if old.digest != new.digest or old.changed != new.changed:
            field = next(differences(old.changed, new.changed), SPELLING)
            return f"step {number} ({old_ran or 'the start'}), state field {field}"
    if recorded.result is None or replayed.result is None:
        return None
    old_text, new_text = recorded.result.to_json(), replayed.result.to_json()
    if old_text == new_text:
        return None
    return f"the result, field {next(differences(json.loads(old_text), json.loads(new_text)), SPELLING)}"


def unexpected_call(recorded: PostRecord, replayed: PostRecord, tool: str, request: Json) -> str:
    """Describe where a replay stopped because of a call that was not recorded, and how the call differs."""
    number = len(replayed.steps)
    ran = ", ".join(recorded.steps[number].ran) if number < len(recorded.steps) else "the end"
    likest = min(
        (list(differences(call.request, request)) for call in recorded.calls.values() if call.tool == tool),
        key=len,
        default=["the recording has no call to it"],
    )
    new = likest[0] if likest else "the same as a call to another tool, or to a tool that the recording lacks"
    return f"step {number}: the recording has {ran}, the replay makes a new call to the {tool}, {new}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """`findings[0].label: recorded "athlete", replayed "actor"` for each field that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list):
        for i, (left, right) in enumerate(zip_longest(old, new, fillvalue=ABSENT)):
            yield from differences(left, right, f"{path}[{i}]")
    elif old != new:
        yield f"{path}: recorded {shorten(old)}, replayed {shorten(new)}"


def shorten(value: Any, limit: int = 160) -> str:
    """A value as JSON; a long one is cut in the middle."""
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
