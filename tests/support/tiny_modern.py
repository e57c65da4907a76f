"""The modern profile with tiny random checkpoints, and a chat model of a few rules on loopback.

`python tests/support/tiny_modern.py` records `tests/graphs/cassettes/modern` anew: posts with a groundable name, a
reranked
one, an ungroundable one, and one without a picture. The server keeps to the answers that a request's schema allows, as
real ones do.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
CASSETTE = TESTS / "graphs" / "cassettes" / "modern"
sys.path[:0] = [str(TESTS)]

from namepin.agent.api import Namepin  # noqa: E402
from namepin.agent.config.settings import load_settings  # noqa: E402
from namepin.graphs.recording.recorder import Recorder  # noqa: E402
from namepin.tools.types import Post  # noqa: E402
from support import (  # noqa: E402
    scripted_chat,
    tiny_gem,
    tiny_grounders,
    tiny_sam2,
)
from support.tiny_riveg import EXPANSION, without_ports  # noqa: E402

ROLES = ("captioner", "knowledge", "reranker", "describer", "expansion", "entailment")
EXPLANATION = "The tweet is about a place or a person."
UNSEEN = "SpaceX"
"""A name that the server takes for not being in the picture."""


class Guided(scripted_chat.Server):
    """Answers with what the schema allows; without one by what is asked for."""

    def answer_to(self, body: dict[str, Any]) -> str:
        asked = json.dumps(body["messages"][-1])
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema:
            [(field, allowed)] = schema["properties"].items()
            unseen = "yes" in allowed["enum"] and UNSEEN in asked
            return json.dumps({field: "no" if unseen else _yes_or_last(allowed["enum"])})
        return json.dumps({"explanation": EXPLANATION}) if "explanation" in asked else EXPANSION


def _yes_or_last(allowed: list[str]) -> str:
    return "yes" if "yes" in allowed else allowed[-1]


def build(folder: Path, address: str) -> dict[str, Any]:
    """Write the checkpoints into the folder; the overrides of profile `modern` that name them, relative to it."""
    tiny_gem._tagger(folder)
    tiny_grounders.save_mmgdino(folder / "dino")
    tiny_sam2.tiny_net().save_pretrained(folder / "sam2")
    served = {"model": "tiny", "base_url": address, "cache": False}
    return {
        **{role: served for role in ROLES},
        "tagger": {"adapter": "tagger", "device": "cpu"},
        "grounder": {"weights": "dino", "device": "cpu", "short_side": 64, "long_side": 96, "threshold": 0.0},
        "segmenter": {"sam": {"weights": "sam2", "device": "cpu"}},
    }


def record(target: Path) -> None:
    """Build everything in a folder of its own, and record the posts, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name, scripted_chat.serve("", kind=Guided) as server:
        folder, before = Path(name), Path.cwd()
        os.chdir(folder)  # so that the cassette's profile names no folder of this machine
        try:
            pin = Namepin(load_settings("modern", overrides=build(folder, server.url), environment={}))
            shown = tiny_gem.pictures(folder)
            with Recorder(target, graph=pin.graph.name, profile=without_ports(pin.settings.dump())) as recorder:
                for post, text in tiny_gem.TEXTS.items():
                    image = str(shown[post]) if post in shown else None
                    found = list(pin.stream(Post(id=post, text=text, image=image), recorder=recorder))[-1]
                    print(tiny_gem._summary(found))
        finally:
            os.chdir(before)


if __name__ == "__main__":
    record(CASSETTE)
