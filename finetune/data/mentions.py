"""Rows for the recipes that read pictures: gold mentions with their post's picture and regions.

A mention in the picture has boxes. A mention that is not in the picture has none; matchers and entailment learn to
reject it (GEM section 3.4.1, RiVEG section IV-C1).
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from namepin.evals.datasets.gold import GoldEntity, GoldPost
from namepin.evals.overlap import TrainedPosts
from namepin.finetune.data.described_regions import read_regions
from namepin.finetune.data.rows import MentionRow, Split
from namepin.finetune.data.splits import file_of, read_gold
from namepin.finetune.recipes.visual import VisualTraining
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Rectangle
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import Query
from namepin.tools.jsonl import read_placed_rows
from namepin.tools.labels import FINE_TO_COARSE4
from namepin.tools.referring import Reading


def read_split(
    recipe: VisualTraining,
    split: str,
    *,
    limit: int = 0,
    captions: str = "",
    expansions: Sequence[str] = (),
    reading: Reading = "both",
    mixed: bool = True,
) -> Split:
    """The mentions of every post of a split. A mention with several expansions gives one row per expansion.

    Args:
        recipe: names the data set.
        split: name of the split.
        limit: number of rows to read, from the start; 0 for all.
        captions: JSONL of `{"id", "caption"}`, for a tool that reads the picture's caption.
        expansions: JSONL files of `{"id", "text", "expansion"}`. Several lines per mention, in one file or in several,
            are RiVEG's "Mix".
        reading: the part of the referring expression that is read.
        mixed: whether a mention may have several expansions.

    Raises:
        NamepinError: E130 when a folder or file is missing, E131 to E139 when the data set is unusable, E120 when a
            picture is missing, E134 when a row of captions or expansions is invalid, E135 when a file of them fits
            nothing, E139 when a mention has several expansions and may not.
    """
    root = Path(recipe.root)
    if recipe.dataset == "regions":
        described = read_regions(root, split)
        return replace(described, rows=described.rows[: limit or None])
    dataset = read_gold(recipe.dataset, root, split, regions=True)
    if not dataset.has_boxes and not dataset.has_masks:
        raise NamepinError("E130", "the data set has no xml/ folder, so it has no boxes", where=str(root))
    if not dataset.has_images:
        raise NamepinError("E130", "the data set has no images/ folder", where=str(root))
    missing = [gold for gold in dataset.posts if not Path(gold.post.image or "").is_file()]
    if missing:
        what = f"{len(missing)} pictures are missing, such as {missing[0].post.image}"
        raise NamepinError("E120", what, where=missing[0].where, mend="add them, or take their posts out of the split")
    data = {f"{dataset.name} {split}": dataset.sha256}
    data |= _sha256((Path(file) for file in (captions, *expansions) if Path(file).is_file()), split)
    caption_of = {post: text for post, text in lines_of(captions, "caption")} if captions else {}
    if captions:
        require_fit(captions, any(gold.post.id in caption_of for gold in dataset.posts), f"post of {split}")
    expansions_of: dict[tuple[str, str], list[str]] = {}
    mentions = {(gold.post.id, entity.text) for gold in dataset.posts for entity in gold.entities}
    for file in expansions:
        fitting = _add_expansions(expansions_of, file, mixed) & mentions
        require_fit(file, bool(fitting), f"mention of {split}")
    rows = [
        replace(_mention_row(gold, entity, caption_of.get(gold.post.id), expansion), reading=reading)
        for gold in dataset.posts
        for entity in gold.entities
        for expansion in expansions_of.get((gold.post.id, entity.text)) or (None,)
    ]
    regions = [[Path(row.image).name, row.query.text, row.boxes, row.masks] for row in rows]
    data[f"{dataset.name} {split} regions"] = hashlib.sha256(repr(regions).encode()).hexdigest()
    return Split(tuple(dict.fromkeys(rows))[: limit or None], data, file_of(dataset))


def _sha256(files: Iterable[Path], split: str) -> dict[str, str]:
    """The sha256 of each file by split and file name; repeated names get a number."""
    found: dict[str, str] = {}
    for file in files:
        alike = sum(name.split(":")[0] == f"{split} {file.name}" for name in found)
        found[f"{split} {file.name}" + (f":{alike + 1}" if alike else "")] = file_sha256(file)
    return found


def _mention_row(gold: GoldPost, entity: GoldEntity, caption: str | None, expansion: str | None) -> MentionRow:
    return MentionRow(
        post=gold.post.id,
        text=gold.post.text,
        image=str(gold.post.image),
        query=query_of(entity),
        boxes=entity.boxes or (),
        masks=entity.masks or (),
        expansion=expansion,
        caption=caption,
    )


def _add_expansions(expansions_of: dict[tuple[str, str], list[str]], file: str, mixed: bool) -> set[tuple[str, str]]:
    """Add a file's expansions to the (post, mention) pairs; returns the pairs of the file.

    Raises:
        NamepinError: as `lines_of`, and E139 at the second expansion of a mention, unless they may be mixed.
    """
    found = set()
    for where, (post, text, expansion) in placed_lines(file, "text", "expansion"):
        known = expansions_of.setdefault((post, text), [])
        if known and expansion not in known and not mixed:
            what = f"a second expansion of {text!r} in post {post!r}: dev is never mixed"
            raise NamepinError("E139", what, where=where, mend="give one line per mention")
        known.append(expansion)
        found.add((post, text))
    return found


def require_fit(file: str, fits: bool, kind: str) -> None:
    """Require that a file belongs to the data.

    Raises:
        NamepinError: E135 when none of its lines fits any of this kind, such as "mention of train".
    """
    if not fits:
        raise NamepinError("E135", f"no line fits any {kind}", where=file, mend="give the file of this data set")


def lines_of(file: str, *keys: str) -> Iterator[tuple[str, ...]]:
    """The values of "id" and `keys` in every line of a JSONL file, as `placed_lines` without the places."""
    return (values for _, values in placed_lines(file, *keys))


def placed_lines(file: str, *keys: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The place of every line of a JSONL file, with its values of "id" and `keys`.

    Raises:
        NamepinError: E130 when it is missing, E134 when a line is invalid, or a value is not a text.
    """
    path = Path(file)
    if not path.is_file():
        raise NamepinError("E130", "no such file", where=file, mend="check the recipe's settings")

    def values(row: dict[str, Any]) -> tuple[str, ...]:
        strange = [key for key in keys if not isinstance(row[key], str)]
        if strange or not isinstance(row["id"], str | int):
            raise ValueError(f"{(strange or ['id'])[0]!r} is not a text")
        return str(row["id"]), *(" ".join(row[key].split()) for key in keys)

    yield from read_placed_rows(path, values, f"a row of id, {', '.join(keys)}")


def query_of(entity: GoldEntity) -> Query:
    """A gold mention as the request of the visual tools."""
    label = FINE_TO_COARSE4[entity.fine] if entity.fine else entity.label
    return Query(text=entity.text, label=label, category=entity.fine or label)


class Pictures:
    """The pictures of rows as tensors for a net; a picture that occurs twice in a batch is encoded once."""

    def __init__(self, prepare: Callable[[Image.Image], Tensor]) -> None:
        """Store the function that turns a picture into a tensor (3, height, width)."""
        self._prepare = prepare

    def __call__(self, rows: Sequence[MentionRow]) -> tuple[Tensor, Tensor]:
        """The pictures, (pictures, 3, height, width), and the index of each row's picture, (rows,).

        Raises:
            NamepinError: E120 to E125 when a picture cannot be read.
        """
        paths = list(dict.fromkeys(row.image for row in rows))
        pixels = torch.stack([self._prepare(load_image(path).image) for path in paths])
        return pixels, torch.tensor([paths.index(row.image) for row in rows])


RowType = TypeVar("RowType")


def shuffle_rows(
    rows: Sequence[RowType], rng: random.Random, picture: Callable[[RowType], str] | None = None
) -> list[RowType]:
    """The rows in random order. Rows of one picture stay together, so that a batch encodes it once."""
    groups: dict[str, list[RowType]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(picture(row) if picture else str(at), []).append(row)
    order = list(groups)
    rng.shuffle(order)
    return [row for key in order for row in groups[key]]


def require_both_classes(split: Split, *, negatives: bool = False) -> None:
    """Require both classes, mentions in their picture and mentions that are not.

    Args:
        split: the split to train on or to choose epochs by.
        negatives: whether the recipe adds mentions that are not in their picture.

    Raises:
        NamepinError: E139 when there is no mention, or all are in their picture, or none.
    """
    there = {row.groundable for row in split.rows}
    if there >= ({True} if negatives else {True, False}):
        return
    which = "every" if True in there else "no"
    one_class = f"{which} mention is in its picture: one class only, nothing to tell apart"
    what = one_class if there else "the split has no mention"
    raise NamepinError("E139", what, where=split.file, mend="use another split")


BoxedRows = tuple[list[MentionRow], list[MentionRow], dict[str, str], TrainedPosts]
"""Rows of train and of dev, the sha256 of the data, and the training posts."""


def read_boxed_rows(
    recipe: VisualTraining,
    *,
    expansions: Sequence[str],
    dev_expansions: str,
    reading: Reading = "both",
    ungroundable: bool = False,
) -> BoxedRows:
    """The mentions that a grounder learns from and is scored on.

    Args:
        recipe: names the data set, and its splits.
        expansions: as `read_split`, for train.
        dev_expansions: file with one expansion per mention of dev; empty for none.
        reading: as `read_split`.
        ungroundable: whether mentions without a box are rows, too.

    Raises:
        NamepinError: as `read_split`; E139 when a split has no mention with a box.
    """
    known = [dev_expansions] if dev_expansions else []
    train = read_split(recipe, recipe.train, limit=recipe.limit, expansions=expansions, reading=reading)
    dev = read_split(recipe, recipe.dev, expansions=known, reading=reading, mixed=False)
    for split in (train, dev):
        require_rows([row for row in split.rows if row.boxes], split, "box")
    rows, dev_rows = ([row for row in split.rows if row.boxes or ungroundable] for split in (train, dev))
    return rows, dev_rows, {**train.data, **dev.data}, train.trained_posts


def require_rows(rows: Sequence[object], split: Split, kind: str) -> None:
    """Require at least one usable row.

    Args:
        rows: the usable rows.
        split: the split of the rows.
        kind: the annotation that a usable row has, such as "box".

    Raises:
        NamepinError: E139 when there is none.
    """
    if not rows:
        raise NamepinError("E139", f"no mention has a {kind}", where=split.file, mend="use another split")


def in_picture(rows: Sequence[MentionRow], judge: Callable[[Sequence[MentionRow]], Tensor]) -> dict[str, float]:
    """F1 of "in the picture", then precision and recall, as fractions; zero where the divisor is zero.

    Args:
        rows: mentions with their gold boxes.
        judge: predictions for some of them, (rows,) booleans.
    """
    predicted = [bool(one) for at in range(0, len(rows), 16) for one in judge(rows[at : at + 16]).tolist()]
    truth = [row.groundable for row in rows]
    both = sum(a and b for a, b in zip(truth, predicted, strict=True))
    return {
        "f1": 2 * both / max(sum(predicted) + sum(truth), 1),
        "precision": both / max(sum(predicted), 1),
        "recall": both / max(sum(truth), 1),
        "accuracy": sum(a == b for a, b in zip(truth, predicted, strict=True)) / max(len(rows), 1),
    }


def jitter_box(box: Rectangle, most: float, rng: random.Random) -> Rectangle:
    """The box with each edge moved by up to `most` of its side; never inverted for `most` below one half."""
    width, height = (box[2] - box[0]) * most, (box[3] - box[1]) * most
    left, top, right, bottom = (
        edge + rng.uniform(-side, side) for edge, side in zip(box, (width, height) * 2, strict=True)
    )
    return left, top, right, bottom
