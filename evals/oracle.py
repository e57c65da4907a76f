"""An oracle's answers: `python -m namepin.evals.oracle --root DIR --split dev --out FILE`.

They stand in for a model that knows the gold names, to see what the gate in front of it would gain before a GPU is paid
for (`extractor.backend=recorded`). With `--noise` each name is, with that probability, left out, given another type, or
cut to one of its words or moved by one word.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from namepin.evals.datasets.gold import GoldEntity, GoldPost
from namepin.evals.run import load_dataset
from namepin.tools.errors import in_one_line
from namepin.tools.extractor.answer import GoldMention, write_answer
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.files import atomic_write
from namepin.tools.geometry import box_area
from namepin.tools.images.load import load_image
from namepin.tools.labels import COARSE4, COARSE8_TO_4


def oracle_answer(gold: GoldPost, noise: float, chance: random.Random) -> str:
    """The gold answer of a post with 4 types, spoilt with a probability of `noise` per name."""
    size = None
    if gold.post.image and any(entity.boxes for entity in gold.entities):
        upright = load_image(gold.post.image).ref
        size = upright.width, upright.height
    mentions = [
        spoilt
        for entity in gold.entities
        if (spoilt := _spoil(_mention(entity), entity, gold, noise, chance)) is not None
    ]
    return write_answer(mentions, BoxFrame("pixels", size, size) if size else None)


def _mention(entity: GoldEntity) -> GoldMention:
    box = max(entity.boxes, key=box_area) if entity.boxes else None
    return GoldMention(entity.text, COARSE8_TO_4.get(entity.label, entity.label), box)


def _spoil(
    mention: GoldMention, entity: GoldEntity, gold: GoldPost, noise: float, chance: random.Random
) -> GoldMention | None:
    if chance.random() >= noise:
        return mention
    way = chance.choice(("left out", "type", "span"))
    if way == "left out":
        return None
    if way == "type":
        kind = chance.choice([label for label in COARSE4 if label != mention.type])
        return GoldMention(mention.text, kind, mention.box)
    words, tokens = mention.text.split(), gold.post.tokens or ()
    last = entity.token_span[1]
    moved = words[:1] if len(words) > 1 else [*words, *tokens[last : last + 1]]
    return GoldMention(" ".join(moved), mention.type, mention.box)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the answers of a split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="gmner")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    with in_one_line():
        chance = random.Random(options.seed)
        rows = []
        for gold in load_dataset(options.dataset, options.root, options.split).posts:
            answer = json.loads(oracle_answer(gold, options.noise, chance))
            rows.append(json.dumps({"text": gold.post.text, "answer": answer}, ensure_ascii=False) + "\n")
        atomic_write(options.out, "".join(rows))


if __name__ == "__main__":
    main()
