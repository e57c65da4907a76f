"""Shots for an extractor: `python -m namepin.evals.shots --root DIR --out FILE`.

Annotated posts of a training split, drawn once by a seed, with at least one name and a picture each
(`extractor.shots=FILE`). They are the same for every question, and a post is never shown to itself.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from namepin.evals.datasets.gold import GoldEntity, GoldPost
from namepin.evals.run import load_dataset
from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.files import atomic_write
from namepin.tools.geometry import box_area
from namepin.tools.jsonl import dump_json


def draw_shots(posts: Sequence[GoldPost], count: int, seed: int) -> list[GoldPost]:
    """`count` posts with a name and a picture, in the order drawn; one of the first two has a name with a box.

    Raises:
        NamepinError: E139 for more posts than there are.
    """
    fit = [gold for gold in posts if gold.entities and gold.post.image]
    if count > len(fit):
        what = f"{count} shots, of {len(fit)} posts with a name and a picture"
        raise NamepinError("E139", what, where="--shots", mend="ask for fewer")
    order = random.Random(f"shots/{seed}").sample(fit, len(fit))
    boxed = next((gold for gold in order if any(entity.boxes for entity in gold.entities)), None)
    if boxed is not None and boxed not in order[:2]:
        order.remove(boxed)
        order.insert(0, boxed)
    return order[:count]


def shot_row(gold: GoldPost) -> dict[str, object]:
    """A post as a row of shots. The type is the finest that the data set has; boxes are pixels."""
    assert gold.post.image is not None
    image = str(Path(gold.post.image).resolve())
    return {"text": gold.post.text, "image": image, "answer": [_item(entity) for entity in gold.entities]}


def _item(entity: GoldEntity) -> dict[str, object]:
    largest = max(entity.boxes, key=box_area) if entity.boxes else None
    return {"text": entity.text, "type": entity.fine or entity.label, "box": largest and list(largest)}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="gmner")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    with in_one_line():
        posts = load_dataset(options.dataset, options.root, options.split).posts
        rows = [shot_row(gold) for gold in draw_shots(posts, options.shots, options.seed)]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(options.out, "".join(f"{dump_json(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
