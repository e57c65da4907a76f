"""A person decides on RiVEG's graph, too: where the entailment is close."""

from functools import partial
from pathlib import Path

from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.checkpointer import open_saver
from namepin.agent.config.settings import Settings
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import GatePolicy, MatchPolicy, ReviewPolicy
from namepin.graphs.review_nodes import close_calls
from support.riveg_tools import riveg_tools

POST = {"id": "p", "text": "Anna met Bob and Sam"}


def test_riveg_review_asks_close_entailments_and_applies_answers(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 48), "teal")
    pin = Namepin(Settings(profile="test", graph="riveg", match=MatchPolicy(threshold=0.72)), LiveCalls(riveg_tools()))
    plain = pin.extract(POST, picture)
    assert close_calls(plain.entities, ReviewPolicy(), GatePolicy(), 0.72) == 2

    review = pin.review(POST, picture, open_saver=partial(open_saver, tmp_path))
    asked = [(q.key, q.choices, q.value, q.threshold) for q in review.questions]
    assert asked == [("place:0", ("yes", "no"), 0.75, 0.72), ("place:1", ("yes", "no"), 0.75, 0.72)]
    review.answer({"place:0": "yes", "place:1": "no"})
    assert review.extraction is not None
    anna, bob, sam = review.extraction.entities
    assert anna.box and anna.mask and "review" in anna.provenance
    assert bob.groundable is False and "review" in bob.provenance
    assert sam.groundable is False and "review" not in sam.provenance
    assert close_calls(review.extraction.entities, ReviewPolicy(), GatePolicy(), 0.72) == 0
