"""A pin whose decisions about `TEXT` are close."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from namepin.agent.api import Namepin
from namepin.agent.checkpointer import open_saver
from namepin.agent.config.settings import Settings
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import ReviewPolicy
from support.scripted_tools import RegionMatcher, ScriptedTagger, make_tools

TEXT = "Anna met Bob in Oslo"
"""Anna is sure, Bob is hard, Oslo lies in the gate's margin band; all match with 0.6."""


def make_pin(margin: float = 0.1, **tools: Any) -> Namepin:
    settings = Settings(profile="test", review=ReviewPolicy(match_margin=margin))
    return Namepin(settings, LiveCalls(make_tools(**({"matcher": RegionMatcher()} | tools))))


def answer_and_end(picture: Path, folder: Path, answers: dict[str, str] | None) -> None:
    """Begin the review or go on with it, print what it came to, and end as a crash does; for a process of its own."""
    tagger = ScriptedTagger()
    pin = make_pin(tagger=tagger)
    review = pin.review({"id": "p", "text": TEXT}, picture, open_saver=partial(open_saver, folder))
    if answers:
        review.answer(answers)
    found = review.extraction
    labels = [entity.fine_label for entity in found.entities] if found else None
    print(json.dumps([[question.key for question in review.questions], labels, len(tagger.seen)]), flush=True)
    os._exit(9)
