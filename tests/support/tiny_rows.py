"""Every row of `namepin ablate` on tiny nets: its training commands write weights, and the row reads them.

A command is run once per kind of weights (tool, backend, data set, scheme); the other rows' weights of that kind are
links to the first ones.
"""

import argparse
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from namepin.agent.workflows.recipes import RECIPE_MODULES, load_recipe, recipe_kinds
from namepin.evals.ablations import Row
from namepin.tools.models.seqtr_vocabulary import FILE as VOCABULARY
from support import (
    tiny_albef,
    tiny_blip,
    tiny_encoders,
    tiny_features,
    tiny_grounders,
    tiny_ofa,
    tiny_rerankers,
    tiny_sam,
    tiny_sam3,
    tiny_seem,
    tiny_seqtr,
)
from support.tiny_riveg import SAMPLES
from support.tiny_world import NAMES, write_world

KINDS = ("actor", "athlete")
SMALL = {"device": "cpu", "dtype": "float32"}


def save_nets(folder: Path) -> None:
    """The stand-ins for every published checkpoint, by short names."""
    folder.mkdir()
    tiny_encoders.save_tiny_bert(folder / "bert")
    tiny_blip.save_folder(tiny_blip.tiny_net(), folder / "blip")
    tiny_features.save_blip2(folder / "blip2-itm")
    tiny_features.save_llava(folder / "llava-match")
    tiny_rerankers.save_blip2(folder / "blip2")
    tiny_rerankers.save_llava(folder / "llava")
    tiny_rerankers.save_llama(folder / "llama")
    tiny_ofa.save_folder(tiny_ofa.tiny_net(), folder / "ofa")
    tiny_sam.save_folder(tiny_sam.tiny_net(), folder / "sam")
    tiny_grounders.save_yolos(folder / "yolos")
    (folder / "albef").mkdir()
    tiny_albef.save(tiny_albef.tiny_net(), folder / "albef")
    (folder / "seem").mkdir()
    tiny_seem.save(tiny_seem.tiny_net(), folder / "seem")
    for name, sizes in (("seqtr", tiny_seqtr.BOX), ("seqtr-mask", tiny_seqtr.MASK)):
        (folder / name).mkdir()
        tiny_seqtr.save(tiny_seqtr.tiny_net(sizes), folder / name)
    tiny_sam3.tiny_net().save_pretrained(folder / "sam3")
    tiny_sam3.words().save_pretrained(folder / "sam3")


def save_data(folder: Path) -> None:
    """GMNER, FMNERG and Twitter with the same four posts, their knowledge, captions and expansions."""
    gmner = write_world(folder / "gmner", posts=4)
    fmnerg, twitter = folder / "fmnerg", folder / "twitter"
    for other in (fmnerg, twitter):
        other.mkdir()
        for name in ("xml", "images"):
            (other / name).symlink_to(gmner / name)
    (fmnerg / "txt_fine").mkdir()
    for split in ("train", "dev"):
        text = (gmner / "txt" / f"{split}.txt").read_text()
        two = text.replace("bob\tB-PER", "bob\tB-LOC")  # one type alone would teach a reranker nothing
        (gmner / "txt" / f"{split}.txt").write_text(two)
        (twitter / f"{split}.txt").write_text(two)
        for number, name in enumerate(NAMES[:4]):
            text = text.replace(f"{name}\tB-PER", f"{name}\tB-person\tB-{KINDS[number % 2]}")
        (fmnerg / "txt_fine" / f"{split}.txt").write_text(text.replace("runs\tO", "runs\tO\tO"))
        rows = [{"id": f"{split}{n}", "knowledge": f"1. {name} (actor)"} for n, name in enumerate(NAMES[:4])]
        for root in (gmner, fmnerg, twitter):
            (root / "knowledge").mkdir(exist_ok=True)
            _write(root / "knowledge" / f"{split}.jsonl", rows)
    both = [(split, n, name) for split in ("train", "dev") for n, name in enumerate(NAMES[:4])]
    captions = [{"id": f"{split}{n}", "caption": "a patch"} for split, n, _ in both]
    expansions = [{"id": f"{split}{n}", "text": name, "expansion": "a red runner"} for split, n, name in both]
    for root in (gmner, fmnerg):
        for name, rows in (("captions/train-and-dev", captions), ("expansions/train", expansions)):
            (root / name).parent.mkdir(exist_ok=True)
            _write(root / f"{name}.jsonl", rows)
    _write(folder / "annotations.jsonl", SAMPLES)


def _write(file: Path, rows: "list[dict[str, Any]] | list[dict[str, str]]") -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


BASES = {
    ("matcher", "blip"): {"weights": "blip"},
    ("matcher", "blip2"): {"weights": "blip2-itm"},
    ("matcher", "llava"): {"weights": "llava-match", "dtype": "float32"},
    ("reranker", "llava"): {"weights": "llava", "dtype": "float32"},
    ("reranker", "blip2"): {"weights": "blip2", "dtype": "float32"},
    ("reranker", "text"): {"weights": "llama", "dtype": "float32"},
    ("entailment", "ofa"): {"weights": "ofa", "image_size": tiny_ofa.IMAGE_SIZE},
    ("entailment", "albef"): {"weights": "albef/albef_tiny.pth", "tokenizer": "albef/bert", "image_size": 64},
    ("grounder", "ofa"): {"weights": "ofa", "image_size": tiny_ofa.IMAGE_SIZE},
    ("grounder", "seqtr"): {"weights": "seqtr/det_best.pth", "image_size": 64},
}
"""Of each recipe the tiny weights in the place of the published ones, with their sizes."""


class Commands:
    """Runs the commands of `Ablations.train` in a folder that has `nets/` and `data/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: dict[tuple[str, ...], str] = {}

    def make(self, path: str, command: str) -> None:
        """Write the weights that a command makes, or link them to weights of their kind."""
        target = self.folder / path
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if command == "make sandbox":
            self._sandbox(path, target)
            return
        if command.startswith("SeqTR's own "):
            target.symlink_to(self.folder / "nets" / "seqtr-mask" / "det_best.pth")
            (target.parent / VOCABULARY).symlink_to(self.folder / "nets" / "seqtr-mask" / VOCABULARY)
            return
        tool, recipe = self._recipe(command)
        kind = (tool, recipe.backend if tool != "tagger" else recipe.scheme, str(recipe.dataset))
        if kind not in self._done:
            import_module(RECIPE_MODULES[tool]).train(recipe)
            self._done[kind] = path
        elif self._done[kind] != path:
            target.symlink_to(self.folder / self._done[kind])

    def _sandbox(self, path: str, target: Path) -> None:
        if path.endswith(".jsonl"):
            target.write_text((self.folder / "data/gmner/expansions/train.jsonl").read_text())
        else:
            target.symlink_to(self.folder / "nets" / "blip")

    def _recipe(self, command: str) -> tuple[str, Any]:
        asked = argparse.ArgumentParser()
        for word in ("namepin", "finetune", "tool"):
            asked.add_argument(word)
        asked.add_argument("--config", type=Path)
        asked.add_argument("--set", action="append")
        words = asked.parse_args(shlex.split(command, comments=True))
        recipe = load_recipe(recipe_kinds(words.tool), words.config, words.set)
        small = {"epochs": 1, "batch_size": 4, "patience": 1, "cpu": True, "limit": 4}
        if words.tool == "tagger":
            data = self.folder / "data"
            root = {"twitter": data / "twitter", "sandbox": data / "fmnerg"}.get(recipe.dataset, data)
            small |= {"data": str(root), "encoder": str(self.folder / "nets/bert"), "precision": "no", "threads": 1}
            return words.tool, replace(recipe, knowledge_pieces=24, **small)
        base = BASES[words.tool, recipe.backend]
        base = {k: str(self.folder / "nets" / v) if k in ("weights", "tokenizer") else v for k, v in base.items()}
        dataset = recipe.dataset if recipe.dataset in ("gmner", "fmnerg") else "gmner"
        root = self.folder / "data" / dataset
        if hasattr(recipe, "expansions") and recipe.expansions:
            base["expansions"] = (str(root / "expansions/train.jsonl"),)
        if getattr(recipe, "captions", ""):
            base["captions"] = str(root / "captions/train-and-dev.jsonl")
        return words.tool, replace(recipe, root=str(root), precision="no", **small, **base)


def overrides_for(row: Row, chosen: Mapping[str, str], knowledge: str, other: str) -> dict[str, Any]:
    """What lets a row run on tiny nets; whatever the row sets itself stays, but published weights do not.

    Args:
        row: the row.
        chosen: role -> backend, as the row's profile and `--set` choose.
        knowledge: address of a server that answers as PLIM's models do.
        other: address of a server that answers every other role.
    """
    nets = Path("nets").absolute()
    ofa = {"weights": str(nets / "ofa"), "device": "cpu"}
    blip = {"weights": str(nets / "blip"), "device": "cpu"}
    seem = {"weights": str(nets / "seem/seem_tiny_v0.pt"), "tokenizer": str(nets / "seem/clip"), "device": "cpu"}
    chat = {"base_url": other, "cache": False}
    rerank = {"quantization": "none", **SMALL}
    by_backend: dict[tuple[str, str], dict[str, Any]] = {
        ("captioner", "blip2"): {"weights": str(nets / "blip2"), "max_tokens": 6, **SMALL},
        ("examples", "annotated"): {"samples": [str(nets.parent / "data/annotations.jsonl")], "n": 2, "data": None},
        ("knowledge", "chat"): chat,
        ("knowledge", "plim"): {"base_url": knowledge, "cache": False},
        ("tagger", "dual"): {"device": "cpu"},
        ("reranker", "llava"): {"weights": str(nets / "llava"), **rerank},
        ("reranker", "blip2"): {"weights": str(nets / "blip2"), **rerank},
        ("reranker", "text"): {"weights": str(nets / "llama"), **rerank},
        ("reranker", "chat"): chat,
        ("matcher", "blip"): {"blip": blip},
        ("matcher", "blip2"): {"blip2": {"weights": str(nets / "blip2-itm"), "device": "cpu"}},
        ("matcher", "llava"): {"llava": {"weights": str(nets / "llava-match"), **SMALL}},
        ("tracer", "blip"): {"block": 1},
        ("describer", "chat"): chat,
        ("expansion", "chat"): chat,
        ("entailment", "ofa"): {"ofa": ofa, "image_size": tiny_ofa.IMAGE_SIZE},
        ("entailment", "albef"): {"tokenizer": str(nets / "albef/bert"), "image_size": 64},
        ("grounder", "ofa"): {"ofa": ofa, "image_size": tiny_ofa.IMAGE_SIZE},
        ("grounder", "seqtr"): {"image_size": 64},
        ("grounder", "detector"): {"blip": blip, "detector": {"weights": str(nets / "yolos")}},
        ("grounder", "sam3"): {"sam": {"weights": str(nets / "sam3")}},
        ("segmenter", "gem"): {
            "sam": {"weights": str(nets / "sam"), "device": "cpu"},
            "seem": {**seem, "short_side": 64, "long_side": 128},
        },
        ("segmenter", "sam"): {"sam": {"weights": str(nets / "sam"), "device": "cpu"}},
    }
    pairs = (assignment.partition("=") for assignment in row.set)
    own = {key for key, _, value in pairs if not key.endswith("weights") or value.startswith("out/")}
    found = {role: by_backend.get((role, backend), {}) for role, backend in chosen.items()}
    return {role: _without(values, own, f"{role}.") for role, values in found.items() if values}


def _without(values: Mapping[str, Any], own: set[str], above: str) -> dict[str, Any]:
    """The settings that a row does not set itself."""
    return {
        key: _without(value, own, f"{above}{key}.") if isinstance(value, dict) else value
        for key, value in values.items()
        if f"{above}{key}" not in own or key == "data"
    }


def enter(folder: Path) -> Path:
    """Make the folder the current one; returns the one before."""
    before = Path.cwd()
    os.chdir(folder)
    return before
