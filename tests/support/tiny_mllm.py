"""The mllm profile with a scripted chat model and a tiny SAM 2.

`python tests/support/tiny_mllm.py` records `tests/graphs/cassettes/mllm` anew: a name with a box, one without, a post
without a picture, a repaired answer, a partly unusable answer, and a refusal.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
CASSETTE = TESTS / "graphs" / "cassettes" / "mllm"
sys.path[:0] = [str(TESTS)]

from namepin.agent.api import Namepin  # noqa: E402
from namepin.agent.config.settings import load_settings  # noqa: E402
from namepin.graphs.recording.recorder import Recorder  # noqa: E402
from namepin.tools.extractor.prompt import REPAIR  # noqa: E402
from namepin.tools.types import Post  # noqa: E402
from support import scripted_chat, tiny_gem, tiny_sam2  # noqa: E402
from support.tiny_riveg import without_ports  # noqa: E402

TEXTS = {**tiny_gem.TEXTS, "quiet": "good morning everyone", "refused": "Meet Ada Example at noon"}


def items(*rows: tuple[str, str, list[float] | None]) -> str:
    """An answer in the form that the schema asks for."""
    return json.dumps({"entities": [{"text": text, "type": kind, "box": box} for text, kind, box in rows]})


ANSWERS = {
    "Collins": items(
        ("Eileen Collins", "PER", [100, 50, 700, 900]), ("columbia", "OTHER", None), ("NASA", "ORG", None)
    ),
    "Falcon": "I think of [1]: a rocket.",  # repaired at the second question
    "Conservatory": "```json\n" + items(("Garfield Park Conservatory", "LOC", [0, 0, 1000, 1000])) + "\n```",
    "Warriors": '[{"text": "Golden State Warriors", "type": "ORG", "box": [900, 10, 1900, 700]}, '
    '{"text": "NBA", "type": "league", "box": null}, {"text": "LeBron James", "type": "PER", "box": [5, 5, 5, 5]}, '
    '{"text": "Cleveland Cav", "type": "ORG", "box": [1500, 0, 1600, 9]}, {"text": "cham',
    "Potter": items(("Harry Potter", "PER", None), ("AwkwardGoogle", "OTHER", None)),
    "morning": items(),
    "Ada": "I'm sorry, but I can't identify people in pictures.",
}
REPAIRED = items(("SpaceX", "ORG", None), ("Falcon", "OTHER", [200, 0, 500, 800]), ("Cape Canaveral", "LOC", None))


class Answering(scripted_chat.Server):
    """Answers by the post in the question; a repaired question about the rocket gets a list."""

    def answer_to(self, body: dict[str, Any]) -> str:
        asked = json.dumps(body["messages"])
        if REPAIR in body["messages"][-1]["content"] and "Falcon" in asked:
            return REPAIRED
        return next(answer for word, answer in ANSWERS.items() if word in asked)


def build(folder: Path, address: str) -> dict[str, Any]:
    """Write the checkpoint into the folder; the overrides of profile `mllm` that name it, relative to it."""
    tiny_sam2.tiny_net().save_pretrained(folder / "sam2")
    return {
        "extractor": {"model": "tiny", "base_url": address, "frame": "thousand", "cache": False},
        "segmenter": {"sam": {"weights": "sam2", "device": "cpu"}},
    }


def record(target: Path) -> None:
    """Build everything in a folder of its own, and record the posts, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name, scripted_chat.serve("", kind=Answering) as server:
        folder, before = Path(name), Path.cwd()
        os.chdir(folder)  # so that the cassette's profile names no folder of this machine
        try:
            pin = Namepin(load_settings("mllm", overrides=build(folder, server.url), environment={}))
            shown = tiny_gem.pictures(folder)
            with Recorder(target, graph=pin.graph.name, profile=without_ports(pin.settings.dump())) as recorder:
                for post, text in TEXTS.items():
                    image = str(shown[post]) if post in shown else None
                    found = list(pin.stream(Post(id=post, text=text, image=image), recorder=recorder))[-1]
                    print(tiny_gem._summary(found), [notice.code for notice in found.warnings])
        finally:
            os.chdir(before)


if __name__ == "__main__":
    record(CASSETTE)
