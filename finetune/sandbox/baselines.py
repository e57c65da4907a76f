"""Baselines without understanding: `python -m namepin.finetune.sandbox.baselines ROOT --split test`.

Every baseline gets the right names and types and only has to place them. It places no name, or each name on the
largest thing, or each name on a thing of its kind. The oracle looks for the thing that the knowledge describes.
All baselines know the exact boxes of the things (`truth/`), unlike any model.
"""

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldEntity
from namepin.evals.run import load_dataset
from namepin.evals.scoring.evaluate import evaluate
from namepin.evals.scoring.predictions import check
from namepin.finetune.data.mentions import lines_of
from namepin.tools.errors import in_one_line
from namepin.tools.jsonl import read_lines

Thing = Mapping[str, Any]
"""A row of `truth/`: the shown thing, its fine type, its box."""

Choose = Callable[[GoldEntity, str | None, Sequence[Thing]], Thing | None]
"""Choose the thing of a mention, given its expansion if known and the things in the picture; or None."""


def largest(entity: GoldEntity, expansion: str | None, things: Sequence[Thing]) -> Thing | None:
    """The largest thing, for any mention."""
    return max(things, key=lambda thing: _area(thing["box"]), default=None)


def of_its_kind(entity: GoldEntity, expansion: str | None, things: Sequence[Thing]) -> Thing | None:
    """The first thing of the mention's type."""
    return next((thing for thing in things if thing["fine"] == entity.fine), None)


def find_described(entity: GoldEntity, expansion: str | None, things: Sequence[Thing]) -> Thing | None:
    """The thing that the expansion describes; without an expansion, a thing of the mention's kind."""
    if expansion is None:
        return of_its_kind(entity, None, things)
    return next((thing for thing in things if thing["shows"] == expansion), None)


BASELINES: Mapping[str, Choose] = {
    "never in the picture": lambda entity, expansion, things: None,
    "the largest thing": largest,
    "a thing of its kind": of_its_kind,
    "oracle: what is described": find_described,
}


def gmner_f1(root: Path, split: str) -> dict[str, float]:
    """GMNER F1 of every baseline, and of types drawn from train's, all ungroundable (`text alone`)."""
    dataset = load_dataset("sandbox", root, split)
    lines = read_lines(root / "truth" / f"{split}.jsonl")
    truth = {str(row["id"]): row["objects"] for row in (line.parse_object() for line in lines)}
    expansions = {
        (post, text): expansion
        for post, text, expansion in lines_of(str(root / f"expansions/{split}.jsonl"), "text", "expansion")
    }
    found = {name: _score(dataset, choose, truth, expansions) for name, choose in BASELINES.items()}
    rng = random.Random(1)
    labels = [e.fine for gold in load_dataset("sandbox", root, "train").posts for e in gold.entities]
    guessed = [[_row(e, str(rng.choice(labels)), None) for e in gold.entities] for gold in dataset.posts]
    return found | {"types at random, never in the picture": _evaluate(dataset, guessed)}


def _score(
    dataset: Dataset, choose: Choose, truth: Mapping[str, Sequence[Thing]], expansions: Mapping[tuple[str, str], str]
) -> float:
    rows = [
        [
            _row(e, str(e.fine), choose(e, expansions.get((gold.post.id, e.text)), truth[gold.post.id]))
            for e in gold.entities
        ]
        for gold in dataset.posts
    ]
    return _evaluate(dataset, rows)


def _row(entity: GoldEntity, fine: str, thing: Thing | None) -> dict[str, Any]:
    from namepin.finetune.data.mentions import query_of

    box = list(map(float, thing["box"])) if thing else None
    label = query_of(entity).label
    where = {"token_span": list(entity.token_span), "label": label, "fine_label": fine}
    return {**where, "groundable": box is not None, "box": box}


def _evaluate(dataset: Dataset, rows: Sequence[Sequence[dict[str, Any]]]) -> float:
    given = [
        (gold.post.id, {"id": gold.post.id, "entities": list(row)})
        for gold, row in zip(dataset.posts, rows, strict=True)
    ]
    report = evaluate(dataset, check(given, dataset))
    score = (report.fine or {}).get("gmner")
    return score.f1 if score else 0.0


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--split", default="test")
    given = parser.parse_args(argv)
    for name, score in gmner_f1(given.root, given.split).items():
        print(f"{name:40} {score:.4f}")


if __name__ == "__main__":
    with in_one_line():
        main()
