"""Refused input of the tagger's recipe, reported with file and line or with the setting."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from namepin.agent.workflows.recipes import load_recipe
from namepin.finetune.recipes.tagger import RECIPES, TaggerRecipe
from namepin.finetune.tagger.recipe import load_data
from namepin.finetune.tagger.train import train
from namepin.tools.errors import NamepinError
from support.tagger_posts import write_posts


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("train", "dev"):
        write_posts(tmp_path / "gmner", split, 6)
    return tmp_path


def refused(data: Path, **settings: object) -> str:
    with pytest.raises(NamepinError) as error:
        load_data(data, TaggerRecipe(data=str(data), **settings))  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"id": "train1", "knowl', "not JSON"),
        (b'{"id": "train1"}', "knowledge: Field required"),
        (b'{"id": "train1", "knowledge": null}', "knowledge: .*string"),
        (b'{"id": "train1", "knowledge": ["a"]}', "knowledge: .*string"),
        (b"7", "object"),
        (b"[]", "object"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_knowledge_row_with_invalid_content_raises_e134(data: Path, split: str, line: bytes, found: str) -> None:
    file = data / "gmner" / "knowledge" / f"{split}.jsonl"
    rows = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([rows[0], b"", line, *rows[1:]]))
    said = refused(data)
    assert re.search(rf"E134.*({found})", said, re.S) and f"knowledge/{split}.jsonl:3" in said


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("rows", ["", '{"id": "of another split", "knowledge": "Reasoning: none."}\n'])
def test_knowledge_without_matching_post_raises_e135(data: Path, split: str, rows: str) -> None:
    (data / "gmner" / "knowledge" / f"{split}.jsonl").write_text(rows)
    said = refused(data)
    assert "E135" in said and f"knowledge/{split}.jsonl" in said


def test_dev_knowledge_of_several_models_raises_e139(data: Path) -> None:
    for split in ("train", "dev"):
        file = data / "gmner" / "knowledge" / f"{split}.jsonl"
        with file.open("a") as rows:
            rows.write(json.dumps({"id": f"{split}1", "knowledge": "another model's"}) + "\n")
    assert re.search(r"E139.*'dev1'.*several.*knowledge/dev\.jsonl:7", refused(data), re.S)
    write_posts(data / "gmner", "dev", 6)
    train, dev, _ = load_data(data, TaggerRecipe(data=str(data)))
    assert (len(train), len(dev)) == (7, 6)


def test_load_data_without_knowledge_file_leaves_knowledge_none(data: Path) -> None:
    (data / "gmner" / "knowledge" / "dev.jsonl").unlink()
    _, dev, _ = load_data(data, TaggerRecipe(data=str(data)))
    assert {example.knowledge for example in dev} == {None}


GOLD = "IMGID:1\nsee\tO\tO\nAda\tB-person\tB-actor\nBell\tI-person\tI-actor\n\nIMGID:2\nOslo\tB-location\tB-city\n"


@pytest.fixture
def fine(tmp_path: Path) -> Path:
    (tmp_path / "txt_fine").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "txt_fine" / f"{split}.txt").write_text(GOLD)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize(
    ("old", "new", "line", "found"),
    [
        ("B-actor", "B-unicorn", 3, "'unicorn' is not in the scheme"),
        ("B-person", "B-unicorn", 3, "'unicorn' is not in the scheme"),
        ("B-person", "X-person", 3, "'X-person' is not O, B-TYPE"),
        ("B-person\tB", "I-person\tB", 3, "broken BIO: 'I-person'"),
        ("I-actor", "I-author", 3, "do not follow"),
        ("B-city", "B-actor", 7, "does not belong to 'location'"),
        ("B-city", "O", 7, "not in the scheme"),
        ("O\tO", "O\tB-city", 2, "'B-city' where the coarse one is 'O'"),
    ],
)
def test_load_data_with_bad_tags_raises_e132(fine: Path, split: str, old: str, new: str, line: int, found: str) -> None:
    for scheme in ("8/51", "4/51", "4"):
        load_data(fine, TaggerRecipe(data=str(fine), dataset="sandbox", scheme=scheme))
    (fine / "txt_fine" / f"{split}.txt").write_text(GOLD.replace(old, new))
    said = refused(fine, dataset="sandbox", scheme="8/51")
    assert "E132" in said and found in said and f"txt_fine/{split}.txt:{line}" in said


@pytest.mark.parametrize("split", ["train", "dev"])
def test_load_data_of_split_without_mention_raises_e139(fine: Path, data: Path, split: str) -> None:
    (fine / "txt_fine" / f"{split}.txt").write_text("IMGID:1\nsee\tO\tO\n")
    (data / "gmner" / "txt" / f"{split}.txt").write_text("IMGID:1\nsee\tO\n")
    for settings in ({"dataset": "sandbox", "scheme": "8/51"}, {"dataset": "gmner"}):
        assert re.search(rf"E139.*no post has a mention.*{split}\.txt", refused(data, **settings))


def test_recipe_of_8_types_on_gmner_raises_e203(data: Path, fine: Path) -> None:
    assert re.search("E203.*8", refused(data, scheme="8/51"))
    assert re.search("E203.*8", refused(fine, scheme="8/51", dataset="sandbox", ccby_epochs=1))


def test_load_data_with_missing_ccby_tweets_raises_e130(data: Path) -> None:
    assert re.search("E130.*ccby", refused(data, ccby_epochs=1))


def test_load_data_accepts_byte_order_mark_and_misc_type(data: Path) -> None:
    """A byte order mark, and GMNER's other name of OTHER."""
    before, _, _ = load_data(data, TaggerRecipe(data=str(data)))
    file = data / "gmner" / "txt" / "train.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"-LOC", b"-MISC"))
    after, _, _ = load_data(data, TaggerRecipe(data=str(data)))
    assert [(one.id, one.knowledge) for one in after] == [(one.id, one.knowledge) for one in before]
    types = {"LOC": "OTHER", "PER": "PER"}
    assert [[types[s.coarse] for s in e.spans] for e in before] == [[s.coarse for s in e.spans] for e in after]


@pytest.mark.parametrize(
    "setting",
    [
        "lr_encoder=-1",
        "lr_heads=0",
        "clip=-1",
        "warmup=7",
        "layer_decay=2",
        "weight_decay=-1",
        "pooled=-1",
        "dropout=1",
    ],
)
def test_recipe_setting_out_of_range_raises_e203(setting: str) -> None:
    key = setting.split("=")[0]
    with pytest.raises(NamepinError, match=f"E203.*{key}"):
        load_recipe(RECIPES, None, [setting])


def test_recipe_setting_of_earlier_release_raises_e202_with_new_name() -> None:
    with pytest.raises(NamepinError, match=r"E202.*'bf16'.*\n?.*its new name is precision"):
        load_recipe(RECIPES, None, ["bf16=false"])
    assert load_recipe(RECIPES, None, ["precision=no"]).precision == "no"


@pytest.mark.parametrize("out", [lambda folder: folder / "file", lambda folder: Path("/proc/nope")])
def test_train_with_unwritable_out_raises_e500_before_reading(tmp_path: Path, out: Callable[[Path], Path]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NamepinError, match=f"E500.*{out(tmp_path)}"):
        train(TaggerRecipe(data=str(tmp_path / "none"), encoder=str(tmp_path / "none"), out=str(out(tmp_path))))


def test_recipe_without_post_or_with_marks_but_no_casing_raises_e203(data: Path) -> None:
    assert re.search("E203.*no post", refused(data, bare=False, knowledge=0.0))
    assert re.search("E203.*marks", refused(data, casing=False))
