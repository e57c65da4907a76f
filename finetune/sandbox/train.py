"""Train every sandbox net from scratch: `python -m namepin.finetune.sandbox.train OUT --seed 1`, or `make sandbox`.

This writes a world, draws nets from the seed and runs one recipe per tool. Each run is an ordinary `namepin finetune`
command; two run at a time, on one core each. Finished runs are skipped and stopped runs are resumed, so a killed
command can simply be started again.

`OUT2 --seed 2 --share OUT` repeats only the papers' tuning. It takes OUT's world and OUT's stand-ins for published
weights.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from namepin.finetune.loop.run_folder import disk_errors
from namepin.finetune.sandbox.nets import copy_vision_encoder, make_nets
from namepin.finetune.sandbox.write import WHOLE, write_world
from namepin.tools.errors import in_one_line

RECIPES = Path(__file__).parent / "recipes"
PROFILE = "profile.toml"
"""File in OUT: the profile of both graphs with the trained weights."""
SHIPPED = Path(__file__).parents[2] / "agent" / "profiles" / "sandbox.toml"
POSTS, WORLD_SEED = {"train": 12000, "dev": 500, "test": 500}, 1


@dataclass(frozen=True)
class RecipeRun:
    """A run of one recipe.

    Attributes:
        tool: a tool of `namepin finetune`.
        after: runs that give the initial weights.
        settings: `--set`, with `{out}` for the folder of all runs.
    """

    tool: str
    after: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


_WORLD = "root={out}/world"
_EXPANSIONS = ("expansions={out}/world/expansions/train.jsonl", "dev_expansions={out}/world/expansions/dev.jsonl")
RUNS: Mapping[str, RecipeRun] = {
    "seeing": RecipeRun("entailment", settings=(_WORLD, "weights={out}/nets/blip")),
    "pointing": RecipeRun("grounder", settings=(_WORLD, "weights={out}/nets/ofa")),
    "tagger": RecipeRun("tagger", settings=("data={out}/world", "encoder={out}/nets/bert")),
    "matcher": RecipeRun("matcher", ("seeing",), (_WORLD, "weights={out}/seeing/weights")),
    "entailment": RecipeRun("entailment", ("seeing",), (_WORLD, "weights={out}/seeing/weights", *_EXPANSIONS)),
    "segmenter": RecipeRun("segmenter", settings=(_WORLD, "weights={out}/nets/sam")),
    "grounder": RecipeRun("grounder", ("pointing",), (_WORLD, "weights={out}/pointing/weights", *_EXPANSIONS)),
    "reranker": RecipeRun("reranker", ("seeing",), (_WORLD, "weights={out}/nets/llava-seeing")),
}
"""Runs in starting order: long runs first, and each run after the runs that give its initial weights."""

PRETRAINED = ("seeing", "pointing", "segmenter")
"""Runs that replace weights which the papers take as published."""


def command(name: str, out: Path, seed: int) -> list[str]:
    """The command line of a run."""
    recipe_run = RUNS[name]
    settings = [f"out={out / name}", f"seed={seed}", *(one.format(out=out) for one in recipe_run.settings)]
    pairs = [word for one in settings for word in ("--set", one)]
    return ["namepin", "finetune", recipe_run.tool, "--config", str(RECIPES / f"{name}.toml"), *pairs, "--resume"]


def train(out: Path, seed: int, names: Sequence[str], share: Path | None = None) -> None:
    """Start the unfinished runs, and wait for them.

    Args:
        out: folder of all runs.
        seed: seed of the nets' initial weights and of the recipes.
        names: names of the runs.
        share: another `out`, whose world and `PRETRAINED` runs are used unchanged.

    Raises:
        SystemExit: when a run fails (its output is in `OUT/logs`), or when there is nothing to share.
        NamepinError: E500 or E501 when `out` cannot be written, or something else is in the world's place.
    """
    with disk_errors(out):
        (out / "logs").mkdir(parents=True, exist_ok=True)
        if share:
            names = [name for name in names if name not in PRETRAINED]
            _share(share, out)
        if not (out / "world" / WHOLE).is_file():
            write_world(out / "world", POSTS, WORLD_SEED)
        make_nets(out / "world", out / "nets", seed)
        write_profile(out)
    futures: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(2) as pool:
        for name in names:
            first = [futures[one] for one in RUNS[name].after if one in futures]
            futures[name] = pool.submit(_run_recipe, name, out, seed, first)
    for recipe_run in futures.values():
        recipe_run.result()
    print(f"all trained; to measure them: python -m namepin.finetune.sandbox.measure {out}")


def _share(share: Path, out: Path) -> None:
    for name in ("world", *PRETRAINED):
        if not (share / name).is_dir():
            raise SystemExit(f"{share / name} is not there: train {share} first")
        if not (out / name).exists():
            (out / name).symlink_to((share / name).resolve())


def write_profile(out: Path) -> None:
    """The profile `sandbox` with the weights of `out` instead of the shipped weights."""
    shipped, file = SHIPPED.read_text(encoding="utf-8"), out / PROFILE
    profile = shipped.replace('"sandbox/tagger"', f'"{out}/tagger/adapter"')
    profile = re.sub(r'"sandbox/(\w+)"', lambda tool: f'"{out}/{tool[1]}/weights"', profile)
    if not file.is_file() or file.read_text(encoding="utf-8") != profile:
        file.write_text(profile, encoding="utf-8")


def run(words: Sequence[str], log: Path) -> None:
    """Run a `namepin` command on one core; its output goes into `log`.

    Raises:
        SystemExit: when the command fails.
    """
    print(" ".join(words) + "\n", end="", flush=True)  # in one call, since two threads print
    with log.open("a") as file:
        program = [str(Path(sys.executable).with_name("namepin")), *words[1:]]
        code = subprocess.run(program, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode
    if code:
        raise SystemExit(f"{log.stem}: ended with {code}, see {log}")


def _run_recipe(name: str, out: Path, seed: int, first: Sequence["Future[None]"]) -> None:
    for one in first:
        one.result()
    if name == "reranker":
        copy_vision_encoder(out / "seeing" / "weights", out / "nets" / "llava", out / "nets" / "llava-seeing")
    done, words = out / name / "done.json", command(name, out, seed)
    if _is_finished(done, words):
        print(f"{name}: finished before", flush=True)
        return
    start = time.perf_counter()
    run(words, out / "logs" / f"{name}.log")
    minutes = (time.perf_counter() - start) / 60
    done.write_text(json.dumps({"command": words, "minutes": round(minutes, 1)}) + "\n")
    print(f"{name}: {minutes:.1f} minutes", flush=True)


def _is_finished(done: Path, words: Sequence[str]) -> bool:
    try:
        return bool(json.loads(done.read_text())["command"] == words)
    except (FileNotFoundError, ValueError):  # a kill may have cut it
        return False


def main(argv: Sequence[str] | None = None) -> None:
    """Start all runs, or the named runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument(
        "--share", type=Path, metavar="OUT", help="take its world and its stand-ins for published weights"
    )
    options = parser.parse_args(argv)
    with in_one_line():
        train(options.out, options.seed, options.only, options.share)


if __name__ == "__main__":
    main()
