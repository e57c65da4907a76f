"""Rows of the visual recipes: an unusable train or dev split is reported before a net is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="needs the gpu extra")

from namepin.finetune.data.mentions import read_split
from namepin.finetune.entailment import train as train_entailment
from namepin.finetune.grounder.ofa import train as train_grounder
from namepin.finetune.matcher import MatcherRows
from namepin.finetune.matcher import train as train_matcher
from namepin.finetune.recipes.entailment import RECIPES as ENTAILMENT
from namepin.finetune.recipes.grounder import RECIPES as GROUNDER
from namepin.finetune.recipes.matcher import RECIPES as MATCHER
from namepin.finetune.recipes.matcher import MatcherRecipe
from namepin.finetune.recipes.segmenter import SamRecipe
from namepin.finetune.segmenter import train as train_segmenter
from namepin.tools.errors import NamepinError
from support.tiny_world import NAMES, write_world

TELL: dict[str, Any] = {
    **{f"matcher {name}": (train_matcher, kind) for name, kind in MATCHER.items()},
    **{f"entailment {name}": (train_entailment, kind) for name, kind in ENTAILMENT.items()},
}
PLACE: dict[str, Any] = {
    **{f"grounder {name}": (train_grounder, kind) for name, kind in GROUNDER.items()},
    "segmenter sam": (train_segmenter, SamRecipe),
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "world")


def write_lines(file: Path, rows: list[Any]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def say(world: Path, split: str, *, seen: bool | None) -> None:
    """Let a split have only mentions that are in their pictures, only others, or none."""
    tag = "O" if seen is None else "B-PER"
    posts = [f"IMGID:{split}{n}\n{NAMES[n]}\t{tag}\n" for n in range(0 if seen else 1, 8, 2)]
    (world / "txt" / f"{split}.txt").write_text("\n".join(posts))


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize(
    ("seen", "what"), [(True, "every mention"), (False, "no mention is"), (None, "the split has no mention")]
)
@pytest.mark.parametrize("name", TELL)
def test_training_with_one_class_raises_e139(world: Path, name: str, split: str, seen: bool | None, what: str) -> None:
    train, recipe = TELL[name]
    say(world, split, seen=seen)
    with pytest.raises(NamepinError, match=rf"E139.*{what}.*{split}\.txt"):
        train(recipe(root=str(world), out=str(world / "run"), weights=str(world / "none")))


@pytest.mark.parametrize("seen", [False, None])
@pytest.mark.parametrize("name", PLACE)
def test_training_without_box_or_mask_raises_e139(world: Path, name: str, seen: bool | None) -> None:
    train, recipe = PLACE[name]
    say(world, "dev", seen=seen)
    settings = {"root": str(world), "dataset": "gmner", "out": str(world / "run"), "weights": str(world / "none")}
    with pytest.raises(NamepinError, match=r"E139.*no mention has a (box|mask).*txt"):
        train(recipe(**settings))


def test_matcher_rows_negatives_require_groundable_mentions(world: Path) -> None:
    recipe = MatcherRecipe(root=str(world), negatives=1.0)
    say(world, "train", seen=True)
    assert len(MatcherRows(recipe).train) == 4
    say(world, "train", seen=False)
    with pytest.raises(NamepinError, match=r"E139.*no mention is in its picture.*train\.txt"):
        MatcherRows(recipe)


def test_matcher_rows_of_regions_with_empty_dev_raise_e139(world: Path) -> None:
    (world / "regions").mkdir()
    line = '{"id": "train0", "regions": [{"text": "red", "boxes": [[0, 8, 20, 30]]}, {"text": "blue", "boxes": []}]}\n'
    (world / "regions" / "train.jsonl").write_text(line)
    (world / "regions" / "dev.jsonl").write_text("")
    with pytest.raises(NamepinError, match=r"E139.*no mention.*regions.dev\.jsonl"):
        MatcherRows(MatcherRecipe(root=str(world), dataset="regions"))


ADA = {"id": "train0", "text": "ada", "expansion": "a red patch"}


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([], r"E135.*no line fits any mention of train.*said\.jsonl"),
        ([ADA | {"id": "dev0"}, ADA | {"text": "bob"}], r"E135.*no line fits any mention of train.*said\.jsonl"),
        ([ADA, ADA | {"expansion": None}], r"E134.*'expansion' is not a text.*said\.jsonl:2"),
        ([ADA, ADA | {"text": ["ada"]}], r"E134.*'text' is not a text.*said\.jsonl:2"),
        ([ADA, ADA | {"id": None}], r"E134.*'id' is not.*said\.jsonl:2"),
        ([ADA, [1]], r"E134.*said\.jsonl:2"),
    ],
)
def test_read_split_with_unusable_expansions_raises_coded_error(world: Path, lines: list[Any], error: str) -> None:
    said = write_lines(world / "said.jsonl", lines)
    with pytest.raises(NamepinError, match=error):
        read_split(MatcherRecipe(root=str(world)), "train", expansions=[said])


def test_read_split_with_captions_of_other_posts_raises_e135(world: Path) -> None:
    said = write_lines(world / "told.jsonl", [{"id": "dev0", "caption": "a patch"}])
    with pytest.raises(NamepinError, match=r"E135.*no line fits any post of train.*told\.jsonl"):
        read_split(MatcherRecipe(root=str(world)), "train", captions=said)


@pytest.mark.parametrize("name", [name for name in (*TELL, *PLACE) if name.startswith(("entailment", "grounder"))])
def test_training_with_several_dev_expansions_raises_e139(world: Path, name: str) -> None:
    train, recipe = (TELL | PLACE)[name]
    ada = ADA | {"id": "dev0"}
    said = write_lines(world / "said.jsonl", [ada, ada, ada | {"expansion": "another patch"}])
    with pytest.raises(NamepinError, match=r"E139.*'ada' in post 'dev0'.*said\.jsonl:3"):
        train(recipe(root=str(world), out=str(world / "run"), dev_expansions=said))


def test_read_split_hashes_each_file(world: Path) -> None:
    (world / "more").mkdir()
    one, other = write_lines(world / "said.jsonl", [ADA]), write_lines(world / "more" / "said.jsonl", [ADA | {"x": 1}])
    data = read_split(MatcherRecipe(root=str(world)), "train", expansions=[one, other]).data
    assert data["train said.jsonl"] != data["train said.jsonl:2"] and len(data) == 4
