"""The GEM profile with tiny random checkpoints: every tool real, every format the published one.

`python tests/support/tiny_gem.py` records `tests/graphs/cassettes/gem` anew: posts that take, between them, the paths
of the graph that the starter profile never takes. Texts and seeds are chosen so that they do.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
CASSETTE = TESTS / "graphs" / "cassettes" / "gem"
sys.path[:0] = [str(TESTS)]

import torch  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from transformers import LlavaForConditionalGeneration  # noqa: E402

from namepin.agent.api import Namepin  # noqa: E402
from namepin.agent.config.settings import load_settings  # noqa: E402
from namepin.graphs.recording.recorder import Recorder  # noqa: E402
from namepin.tools.loading.encoder import load_encoder  # noqa: E402
from namepin.tools.tagger.adapter import TaggerSpec, build_net, save_adapter  # noqa: E402
from namepin.tools.types import Post  # noqa: E402
from support import (  # noqa: E402
    tiny_blip,
    tiny_encoders,
    tiny_rerankers,
    tiny_sam,
    tiny_seem,
)

GAMMA, THRESHOLD = 0.2, 0.5
TEXTS = {
    "collins": "Eileen Collins commands Columbia for NASA",
    "falcon": "A SpaceX Falcon waits at Cape Canaveral , Florida",
    "park": "The geometry of plants . Garfield Park Conservatory",
    "warriors": "Golden State Warriors win NBA championship against Cleveland Cavaliers",
    "potter": "RT @ AwkwardGoogle : Harry Potter",
}


def build(folder: Path) -> dict[str, Any]:
    """Write the checkpoints into the folder; the overrides of profile `gem` that name them, relative to it."""
    _tagger(folder)
    tiny_rerankers.save_blip2(folder / "blip2")
    tiny_rerankers.save_llava(folder / "llava")
    net = LlavaForConditionalGeneration.from_pretrained(folder / "llava")
    target = r".*language_model.*\.(q_proj|v_proj)"
    tiny_rerankers.save_adapter(folder / "lora", folder / "llava", net, target, rank=4)
    tiny_blip.save_folder(tiny_blip.tiny_net(), folder / "blip")
    tiny_sam.save_folder(tiny_sam.tiny_net(), folder / "sam")
    tiny_seem.save(tiny_seem.tiny_net(), folder)
    small = {"device": "cpu", "dtype": "float32"}
    blip = {"weights": "blip", "device": "cpu"}
    seem = {"weights": "seem_tiny_v0.pt", "tokenizer": "clip", "device": "cpu", "short_side": 64, "long_side": 128}
    return {
        "captioner": {"weights": "blip2", "max_tokens": 6, **small},
        "knowledge": {"backend": "off"},
        "tagger": {"adapter": "tagger", "device": "cpu"},
        "reranker": {"weights": "llava", "adapter": "lora", "quantization": "none", **small},
        "matcher": {"blip": blip},
        "tracer": {"blip": blip, "block": 1},
        "segmenter": {"sam": {"weights": "sam", "device": "cpu"}, "seem": seem},
        "gate": {"gamma": GAMMA},
        "match": {"threshold": THRESHOLD},
    }


def _tagger(folder: Path) -> None:
    """Random weights, bold ones, so that mentions are many and some are surer than others."""
    base = load_encoder(tiny_encoders.save_tiny_bert(folder / "bert"))
    spec = TaggerSpec.model_validate({"scheme": "4/51", "encoder": "bert", "input": {"max_pieces": 64, "overlap": 16}})
    torch.manual_seed(0)
    net = build_net(spec, base.model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    save_adapter(folder / "tagger", dict(net.named_parameters()), spec, base.sha256, None, {})


def pictures(folder: Path) -> Mapping[str, Path]:
    """A picture for every post but the last."""
    paths = {}
    for i, name in enumerate(list(TEXTS)[:-1]):
        picture = Image.effect_mandelbrot((64, 48), (-2 + i / 3, -1.5, 1, 1.5), 30).convert("RGB")
        ImageDraw.Draw(picture).ellipse((10 + 8 * i, 8, 30 + 8 * i, 40), fill=(40 * i, 200 - 30 * i, 90))
        paths[name] = folder / f"{name}.png"
        picture.save(paths[name])
    return paths


def record(target: Path) -> None:
    """Build everything in a folder of its own, and record the posts, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder, before = Path(name), Path.cwd()
        os.chdir(folder)  # so that the cassette's profile names no folder of this machine
        try:
            pin = Namepin(load_settings("gem", overrides=build(folder), environment={}))
            shown = pictures(folder)
            with Recorder(target, graph=pin.graph.name, profile=pin.settings.dump()) as recorder:
                for post in TEXTS:
                    image = str(shown[post]) if post in shown else None
                    found = list(pin.stream(Post(id=post, text=TEXTS[post], image=image), recorder=recorder))[-1]
                    print(_summary(found))
        finally:
            os.chdir(before)


def _summary(found: Any) -> str:
    rows = [f"{found.id}: {found.status} {[w.code for w in found.warnings]}"]
    for e in found.entities:
        rows.append(f"  {e.text!r} {e.fine_label} H={e.entropy} reranked={e.reranked} p={e.match_score} box={e.box}")
    return "\n".join(rows)


if __name__ == "__main__":
    record(CASSETTE)
