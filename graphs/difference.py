"""The first place where a replayed post parts from its recording, in words."""

import json
from itertools import zip_longest
from typing import Any

from graphs.cassette import PostRecord
from graphs.state import Json

ABSENT = "nothing"


def first_difference(recorded: PostRecord, replayed: PostRecord) -> str | None:
    """Compare step by step (who ran, then the state after it), then the results byte for byte.

    A replay that broke off, and so has no result, is compared as far as it came.

    Returns:
        The step, the field, and both values; None where there is no difference.
    """
    for number, (old, new) in enumerate(zip_longest(recorded.steps, replayed.steps)):
        if new is None and replayed.result is None:
            return None
        old_ran, new_ran = (", ".join(step.ran) if step else "the end" for step in (old, new))
        if old is None or new is None or old.ran != new.ran:
            return f"step {number}: the recording has {old_ran or 'the start'}, the replay {new_ran or 'the start'}"
        if old.digest != new.digest:
            where = f"step {number} ({old_ran or 'the start'})"
            return (
                f"{where}, state field {_first_field(old.changed, new.changed) or _unequal(old.changed, new.changed)}"
            )
    if recorded.result is None or replayed.result is None:
        return None
    old_text, new_text = recorded.result.to_json(), replayed.result.to_json()
    if old_text == new_text:
        return None
    return f"the result, field {_first_field(json.loads(old_text), json.loads(new_text)) or 'order'}"


def _unequal(old: Json, new: Json) -> str:
    """Digests that differ over equal changes: a field went back to what it was, in one of the two."""
    return ", ".join(sorted(old.keys() ^ new.keys())) or "order"


def _first_field(old: Any, new: Any, path: str = "") -> str | None:
    """`findings[0].label: recorded "athlete", replayed "actor"`, for the first of the fields that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            if found := _first_field(old.get(key, ABSENT), new.get(key, ABSENT), inner):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list):
        for i, (left, right) in enumerate(zip_longest(old, new, fillvalue=ABSENT)):
            if found := _first_field(left, right, f"{path}[{i}]"):
                return found
        return None
    return None if old == new else f"{path}: recorded {shortened(old)}, replayed {shortened(new)}"


def shortened(value: Any, limit: int = 160) -> str:
    """A value as JSON, cut in the middle where it is long."""
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
