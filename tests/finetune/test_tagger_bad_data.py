"""What the tagger's recipe refuses to learn from, with the file and line that are wrong."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_tagger_recipe import write_posts  # noqa: E402

from finetune.tagger_recipe import TaggerRecipe, load_data  # noqa: E402
from tools.errors import NamepinError  # noqa: E402


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
        (b'{"id": "train1", "knowl', "EOF"),
        (b'{"id": "train1"}', "knowledge Field required"),
        (b'{"id": "train1", "knowledge": null}', "knowledge .*string"),
        (b'{"id": "train1", "knowledge": ["a"]}', "knowledge .*string"),
        (b"7", "object"),
        (b"[]", "object"),
        (b"\xff", "JSON|unicode|utf-8"),
    ],
)
def test_a_row_of_knowledge_that_is_none_is_named(data: Path, split: str, line: bytes, found: str) -> None:
    file = data / "gmner" / "knowledge" / f"{split}.jsonl"
    rows = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([rows[0], b"", line, *rows[1:]]))
    said = refused(data)
    assert re.search(rf"E134.*({found})", said, re.S) and f"knowledge/{split}.jsonl:3" in said


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("rows", ["", '{"id": "of another split", "knowledge": "Reasoning: none."}\n'])
def test_knowledge_of_no_post_is_refused(data: Path, split: str, rows: str) -> None:
    (data / "gmner" / "knowledge" / f"{split}.jsonl").write_text(rows)
    said = refused(data)
    assert "E135" in said and f"knowledge/{split}.jsonl" in said


def test_dev_is_never_mixed(data: Path) -> None:
    for split in ("train", "dev"):
        file = data / "gmner" / "knowledge" / f"{split}.jsonl"
        with file.open("a") as rows:
            rows.write(json.dumps({"id": f"{split}1", "knowledge": "another model's"}) + "\n")
    assert re.search(r"E139.*'dev1'.*several.*knowledge/dev\.jsonl:7", refused(data), re.S)
    write_posts(data / "gmner", "dev", 6)
    train, dev, _ = load_data(data, TaggerRecipe(data=str(data)))
    assert (len(train), len(dev)) == (7, 6)


def test_without_a_file_of_knowledge_posts_have_none(data: Path) -> None:
    (data / "gmner" / "knowledge" / "dev.jsonl").unlink()
    _, dev, _ = load_data(data, TaggerRecipe(data=str(data)))
    assert {example.knowledge for example in dev} == {None}
