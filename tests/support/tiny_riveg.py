"""The RiVEG profile with tiny random checkpoints, and language models that answer from a script on loopback.

`python tests/support/tiny_riveg.py` records `tests/graphs/cassettes/riveg` anew: posts with a groundable name, an
ungroundable
one, none at all, and without a picture. Texts, seed and threshold are chosen so that they do.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
CASSETTE = TESTS / "graphs" / "cassettes" / "riveg"
sys.path[:0] = [str(TESTS)]

from namepin.agent.api import Namepin  # noqa: E402
from namepin.agent.config.settings import load_settings  # noqa: E402
from namepin.graphs.recording.recorder import Recorder  # noqa: E402
from namepin.tools.types import Post  # noqa: E402
from support import (  # noqa: E402
    scripted_chat,
    tiny_gem,
    tiny_ofa,
    tiny_rerankers,
    tiny_sam,
)

SEED, THRESHOLD = 8, 0.7
TEXTS = {**tiny_gem.TEXTS, "quiet": ","}
SAMPLES = [
    {"id": "s1", "text": "Marlo Quint wins", "annotation": "Named entities:1. Marlo Quint (person)Reasoning:A player."},
    {"id": "s2", "text": "Velden at dawn", "caption": "a bridge", "annotation": "Named entities:1. Velden (town)"},
    {"id": "s3", "text": "Paper Lanterns tonight", "annotation": "Named entities:1. Paper Lanterns (film)"},
]
ANNOTATION = "Named entities: 1. NASA (organization) Reasoning: The sentence mentions a space agency."
EXPANSION = "A person or thing in the picture"
ANYWHERE = "http://127.0.0.1:8000/v1"
"""What the cassette's profile says of the servers; a replay asks none."""


def build(folder: Path, knowledge: str, other: str) -> dict[str, Any]:
    """Write the checkpoints into the folder; the overrides of profile `riveg` that name them, relative to it."""
    tiny_gem._tagger(folder)
    tiny_rerankers.save_blip2(folder / "blip2")
    tiny_ofa.save_folder(tiny_ofa.tiny_net(SEED), folder / "ofa")
    tiny_sam.save_folder(tiny_sam.tiny_net(), folder / "sam")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SAMPLES), "utf-8")
    ofa = {"weights": "ofa", "device": "cpu"}
    return {
        "captioner": {"weights": "blip2", "max_tokens": 6, "device": "cpu", "dtype": "float32"},
        "examples": {"samples": ["samples.jsonl"], "n": 2, "store": "store"},
        "knowledge": {"model": "tiny", "base_url": knowledge, "cache": False},
        "tagger": {"adapter": "tagger", "device": "cpu"},
        "describer": {"model": "tiny", "base_url": other, "cache": False},
        "expansion": {"model": "tiny", "base_url": other, "cache": False},
        "entailment": {"ofa": ofa, "image_size": tiny_ofa.IMAGE_SIZE},
        "grounder": {"ofa": ofa, "image_size": tiny_ofa.IMAGE_SIZE},
        "segmenter": {"sam": {"weights": "sam", "device": "cpu"}},
        "match": {"threshold": THRESHOLD},
    }


def record(target: Path) -> None:
    """Build everything in a folder of its own, and record the posts, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory() as name,
        scripted_chat.serve(ANNOTATION) as knowledge,
        scripted_chat.serve(EXPANSION) as other,
    ):
        folder, before = Path(name), Path.cwd()
        os.chdir(folder)  # so that the cassette's profile names no folder of this machine
        try:
            pin = Namepin(load_settings("riveg", overrides=build(folder, knowledge.url, other.url), environment={}))
            shown = tiny_gem.pictures(folder)
            with Recorder(target, graph=pin.graph.name, profile=without_ports(pin.settings.dump())) as recorder:
                for post, text in TEXTS.items():
                    image = str(shown[post]) if post in shown else None
                    found = list(pin.stream(Post(id=post, text=text, image=image), recorder=recorder))[-1]
                    print(tiny_gem._summary(found))
        finally:
            os.chdir(before)


def without_ports(profile: Mapping[str, Any]) -> dict[str, Any]:
    """The profile with the addresses of the test's servers made the same for every recording."""
    return {
        role: {**table, "base_url": ANYWHERE} if isinstance(table, dict) and "base_url" in table else table
        for role, table in profile.items()
    }


if __name__ == "__main__":
    record(CASSETTE)
