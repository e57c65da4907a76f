"""Checks a data set's folder: statistics as in the papers' tables, and all problems."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets import READERS, plain_conll, wnut17
from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.tools.errors import NamepinError

SPLITS = ("train", "dev", "valid", "test")


class SplitStatistics(BaseModel):
    """Statistics of one split.

    Attributes:
        multi_box: entities with more than one gold box.
        small: entities whose largest gold box is below 1/50 of the picture.
        duplicates: entities with the same words as an earlier entity of their post.
        without_entities: posts without entities.
        repeated_texts: posts with the same text as an earlier post of the split.
        missing_images: posts without a picture; None without a folder images/.
    """

    model_config = ConfigDict(frozen=True)
    posts: int
    tokens: int
    entities: int
    groundable: int | None
    boxes: int | None
    masks: int | None
    multi_box: int | None
    small: int | None
    duplicates: int
    without_entities: int
    repeated_texts: int
    missing_images: int | None
    by_type: dict[str, int]
    by_fine_type: dict[str, int]


class Overlap(BaseModel):
    """Posts that two splits share."""

    model_config = ConfigDict(frozen=True)
    splits: tuple[str, str]
    ids: int
    texts: int


class Check(BaseModel):
    """The whole folder: what `namepin data check --json` writes."""

    model_config = ConfigDict(frozen=True)
    dataset: str
    root: str
    titles: dict[str, str]
    splits: dict[str, SplitStatistics]
    overlaps: list[Overlap]
    problems: list[dict[str, str]]

    @property
    def sound(self) -> bool:
        """Whether there are no problems except warnings."""
        return all(problem["code"].startswith("W") for problem in self.problems)


def detect(root: Path) -> str:
    """Recognise the data set of a folder by its layout.

    Raises:
        NamepinError: E130 when the layout is unknown.
    """
    if (root / "txt_fine").is_dir():
        return "sandbox" if (root / "masks").is_dir() else "fmnerg"
    if (root / "txt").is_dir():
        return "smner" if (root / "masks").is_dir() else "gmner"
    texts = [root / f"{split}.txt" for split in SPLITS]
    if any(path.is_file() for path in texts):
        return "twitter" if any(path.is_file() and _has_heads(path) for path in texts) else "conll"
    if any((root / file).is_file() for file in wnut17.FILES.values()):
        return "wnut17"
    for name, suffix in (("jsonl", ".jsonl"), ("coco", ".coco.json"), ("label-studio", ".label-studio.json")):
        if any((root / f"{split}{suffix}").is_file() for split in SPLITS):
            return name
    if plain_conll.splits(root):
        return "conll"
    if any(next((root / split).glob("*.json"), None) for split in SPLITS):
        return "labelme"
    what = "is not a folder of a data set" if root.is_dir() else "does not exist"
    mend = f"point to a folder of {', '.join(READERS)} (docs/evaluation.md has their layouts)"
    raise NamepinError("E130", f"{str(root)!r} {what}", mend=mend)


def _has_heads(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2**16)
    return b"IMGID:" in head or not head.strip()


def check_folder(root: Path, name: str | None = None) -> Check:
    """Read every split of a folder and collect its problems.

    Args:
        root: the folder.
        name: the data set; None recognises it by the layout.

    Raises:
        NamepinError: E130 when there are no splits.
    """
    name = name or detect(root)
    found: dict[str, Dataset] = {}
    splits = SPLITS if name != "conll" else (*SPLITS, *sorted(set(plain_conll.splits(root)) - set(SPLITS)))
    for split in splits:
        if split == "valid" and "dev" in found:
            continue  # the same file under its other name
        try:
            found[split] = READERS[name](root, split)
        except NamepinError as error:
            if error.code != "E130":
                raise
    if not found:
        raise NamepinError("E130", f"no split of {name} in {str(root)!r}", mend="check the folder")
    problems = [problem for data in found.values() for problem in data.problems]
    return Check(
        dataset=name,
        root=str(root),
        titles={split: data.title for split, data in found.items()},
        splits={split: statistics(data) for split, data in found.items()},
        overlaps=overlaps({split: data.posts for split, data in found.items()}),
        problems=[{"code": p.code, "where": p.where, "what": p.what} for p in problems],
    )


def statistics(data: Dataset) -> SplitStatistics:
    """The statistics of one split; None for fields that the release does not have."""
    entities = [(gold, entity) for gold in data.posts for entity in gold.entities]
    # Mentions of the same words share their regions, which count once.
    named = {(gold.post.id, entity.text): entity for gold, entity in entities}.values()
    boxes = [len(entity.boxes or ()) for _, entity in entities] if data.has_boxes else None
    visual = data.has_boxes or data.has_masks
    missing = [gold for gold in data.posts if gold.post.image and not Path(gold.post.image).is_file()]
    return SplitStatistics(
        posts=len(data.posts),
        tokens=sum(len(gold.post.tokens or gold.post.text.split()) for gold in data.posts),
        entities=len(entities),
        groundable=sum(entity.groundable for _, entity in entities) if visual else None,
        boxes=sum(len(entity.boxes or ()) for entity in named) if data.has_boxes else None,
        masks=sum(len(entity.masks or ()) for entity in named) if data.has_masks else None,
        multi_box=sum(n > 1 for n in boxes) if boxes is not None else None,
        small=sum(gold.is_small(entity) for gold, entity in entities) if data.has_boxes else None,
        duplicates=sum(gold.duplicates for gold in data.posts),
        without_entities=sum(not gold.entities for gold in data.posts),
        repeated_texts=len(data.posts) - len({gold.post.text for gold in data.posts}),
        missing_images=len(missing) if data.has_images else None,
        by_type=_counts(entity.label for _, entity in entities),
        by_fine_type=_counts(entity.fine for _, entity in entities if entity.fine),
    )


def overlaps(splits: Mapping[str, Sequence[GoldPost]]) -> list[Overlap]:
    """Posts that two splits share, by id and by text, for each pair: they leak training posts into the evaluation."""
    return [
        Overlap(
            splits=(a, b),
            ids=len({gold.post.id for gold in splits[a]} & {gold.post.id for gold in splits[b]}),
            texts=len({gold.post.text for gold in splits[a]} & {gold.post.text for gold in splits[b]}),
        )
        for a, b in combinations(splits, 2)
    ]


def _counts(labels: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(labels).items(), key=lambda pair: -pair[1]))
