"""Described regions: true and false descriptions of the things in a picture, without its post.

Every thing, with or without a name, is described by its looks or its kind. Each description comes with a false one: a
thing of another kind or, half of the time for looks, a thing of the same kind in another colour.
"""

import random
from dataclasses import replace
from typing import Any

from namepin.finetune.sandbox.kinds import COLOURS, KINDS, Thing
from namepin.finetune.sandbox.posts import SandboxPost
from namepin.tools.types import Mask

LEVELS = ("looks", "kind", "type")
"""Kinds of descriptions: with colours; without colours; only the annotator's word."""


def describe_picture(post: SandboxPost, seed: int) -> dict[str, Any]:
    """A line of `regions/SPLIT.jsonl`, drawn from (seed, post) alone."""
    rng = random.Random(f"{seed}/described/{post.id}")
    there = {description_of(one.thing, level) for one in post.drawn for level in LEVELS}
    rows: dict[str, dict[str, Any]] = {}
    for one in post.drawn:
        for level in ("looks", rng.choice(LEVELS[1:])):
            right, wrong = description_of(one.thing, level), description_of(_other(one.thing, level, rng), level)
            rows[right] = _right(post, right, level)
            if wrong not in there:
                rows[wrong] = {"text": wrong, "boxes": []}
    return {"id": post.id, "regions": list(rows.values())}


def description_of(thing: Thing, level: str) -> str:
    """A description."""
    if level == "type":
        return thing.kind.fine.replace("_", " ")
    return thing.description if level == "looks" else thing.short


def _right(post: SandboxPost, text: str, level: str) -> dict[str, Any]:
    matching = [one for one in post.drawn if description_of(one.thing, level) == text]
    masks = [Mask.from_array(one.region).model_dump() for one in matching]
    return {"text": text, "boxes": [one.box for one in matching], "masks": masks}


def _other(thing: Thing, level: str, rng: random.Random) -> Thing:
    if level == "looks" and rng.random() < 0.5:
        return replace(thing, colour=rng.choice(list(COLOURS)))
    kind = rng.choice(KINDS)
    return replace(thing, kind=kind, hair=(thing.hair or "black") if kind.is_person else None)
