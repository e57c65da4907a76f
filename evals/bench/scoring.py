"""Speed of scoring 10,000 posts, against nested loops as in RiVEG's `statistic.py`.

There, every prediction is compared with all remaining gold lines, and both lines are parsed again each time. Both sides
must count the same number for the same task: GMNER under the protocol `riveg`.
"""

import random
import time
from collections.abc import Sequence
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost
from namepin.evals.scoring.evaluate import count_posts, evaluate, total
from namepin.evals.scoring.predictions import Predictions, check
from namepin.tools.geometry import box_iou
from namepin.tools.labels import COARSE4
from namepin.tools.types import Post


def bench(posts: int = 10_000) -> dict[str, float]:
    """Seconds of one run of both, and their ratio; the loops take most of a minute.

    Args:
        posts: number of synthetic posts with two mentions each.

    Returns:
        `ours_s`: from checked predictions to the count; `nested_loops_s`: from lines to the count; `speedup`;
        `all_tasks_s`: the work of `namepin eval` after reading files: checks, all tasks, by type, grounding.
    """
    dataset, rows = made_dataset(posts)
    start = time.perf_counter()
    predictions = check(rows, dataset)
    evaluate(dataset, predictions)
    every = time.perf_counter() - start
    start = time.perf_counter()
    count = total(count_posts(dataset, predictions, "gmner", "riveg"))
    ours = time.perf_counter() - start
    gold, predicted = as_lines(dataset, predictions)
    start = time.perf_counter()
    right = nested_loops(predicted, gold)
    loops = time.perf_counter() - start
    assert right == count.correct, f"the loops count {right}, the protocol {count.correct}"
    return {"ours_s": ours, "nested_loops_s": loops, "speedup": loops / ours, "all_tasks_s": every}


def made_dataset(posts: int) -> tuple[Dataset, list[tuple[str, dict[str, Any]]]]:
    """Posts of 20 words with two names, some with a box, and predictions of which two thirds are right."""
    rng = random.Random(7)
    golds, rows = [], []
    for number in range(posts):
        words = [f"w{rng.randrange(5000)}" for _ in range(20)]
        text, entities, answers = " ".join(words), [], []
        for first in (3, 11):
            label = rng.choice(COARSE4)
            start = len(" ".join(words[:first])) + 1
            box = (10.0, 10.0, 10.0 + rng.randint(20, 90), 10.0 + rng.randint(20, 90)) if rng.random() < 0.4 else None
            name = " ".join(words[first : first + 2])
            entities.append(
                GoldEntity(name, (start, start + len(name)), (first, first + 2), label, boxes=(box,) if box else ())
            )
            right = rng.random() < 0.67
            answers.append(
                {
                    "token_span": [first, first + 2],
                    "label": label if right else rng.choice(COARSE4),
                    "groundable": box is not None,
                    "box": list(box) if box else None,
                }
            )
        golds.append(GoldPost(Post(id=str(number), text=text, tokens=tuple(words)), tuple(entities), (200, 200)))
        rows.append((f"post {number}", {"id": str(number), "entities": answers}))
    made = Dataset("gmner", "made", "gmner4", "made", "0" * 64, tuple(golds), has_boxes=True)
    return made, rows


def as_lines(dataset: Dataset, predictions: Predictions) -> tuple[list[str], list[str]]:
    """Gold and predictions as lines of the script's form, one per mention: `id.jpg###name(type)###0|1###&box`."""
    gold = [
        f"{post.post.id}.jpg###{e.text}({e.label})###{int(e.groundable)}###&{_box(e.boxes[0] if e.boxes else None)}"
        for post in dataset.posts
        for e in post.entities
    ]
    predicted = [
        f"{key}.jpg#{at}###{e.text}({e.label})###{int(e.box is not None)}###&{_box(e.box)}"
        for key, entities in predictions.entities.items()
        for at, e in enumerate(entities)
    ]
    return gold, predicted


def nested_loops(predicted: Sequence[str], gold: Sequence[str]) -> int:
    """Number of right predictions: each is compared with all remaining gold lines until one matches."""
    left, right = list(gold), 0
    for mine in predicted:
        for theirs in left:
            name = mine.split("###")[0].split(".jpg#")[0] + ".jpg" + mine.split("###")[1]
            if name != theirs.split("###")[0] + theirs.split("###")[1]:
                continue
            seen, there = (int(line.split("###")[2]) for line in (mine, theirs))
            if (not seen and not there) or (seen and there and _overlap(mine, theirs) >= 0.5):
                right += 1
                left.remove(theirs)
                break
    return right


def _overlap(mine: str, theirs: str) -> float:
    one, other = ([float(edge) for edge in line.split("&")[-1][1:-1].split(",")] for line in (mine, theirs))
    return box_iou((one[0], one[1], one[2], one[3]), (other[0], other[1], other[2], other[3]))


def _box(box: tuple[float, float, float, float] | None) -> str:
    return str(list(box or (0, 0, 0, 0)))
