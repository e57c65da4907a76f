"""Ids, names and links of a hostile data set: no conversion writes a file outside the target."""

import json
import tempfile
from pathlib import Path

import pytest

from namepin.evals.datasets import READERS
from namepin.evals.datasets.convert import WRITERS, convert

ABSOLUTE = Path(tempfile.gettempdir()) / "escaped-by-namepin"
IDS = [
    "../../escaped",
    str(ABSOLUTE),
    "..",
    ".",
    "a/../../b",
    "2024/05/a",
    "a\\..\\b",
    "CON",
    "x" * 400,
    "\x00",
    "~",
    "ä/",
]
MASK = {"size": [80, 100], "counts": [10, 20, 7970]}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("post_id", IDS)
def test_convert_with_hostile_id_writes_inside_target_only(tmp_path: Path, form: str, post_id: str) -> None:
    source, target = tmp_path / "a" / "b" / "source", tmp_path / "a" / "b" / "target"
    source.mkdir(parents=True)
    entity = {"label": "PER", "start": 0, "end": 3, "boxes": [[10, 10, 30, 40]], "masks": [MASK]}
    row = {"id": post_id, "text": "Ada met Bob", "size": [100, 80], "entities": [entity]}
    (source / "dev.jsonl").write_text(json.dumps(row) + "\n")
    done = convert(source, "jsonl", "dev", target, form)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(target in path.parents for path in files if path != source / "dev.jsonl")
    assert not list(ABSOLUTE.parent.glob(f"{ABSOLUTE.name}*"))
    if done.complete:
        name = "smner" if form == "conll" else form
        (post,) = READERS[name](target, "dev").usable().posts
        assert post.post.id == post_id and post.entities[0].boxes and post.entities[0].masks


@pytest.mark.parametrize("post_id", ["../outside", "..", "a/../../outside"])
def test_reader_with_hostile_id_reads_no_region_outside_root(tmp_path: Path, post_id: str) -> None:
    root = tmp_path / "root"
    for folder in ("txt", "xml", "masks", "images"):
        (root / folder).mkdir(parents=True)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    for outside in (root / "outside.xml", tmp_path / "outside.xml", root / ".xml"):
        outside.write_text(f"<annotation><object><name>Ada</name>{box}</object></annotation>")
    (root / "txt" / "dev.txt").write_text(f"IMGID:{post_id}\nAda\tB-PER\n")
    (post,) = READERS["smner"](root, "dev").usable().posts
    assert not post.entities[0].boxes
    assert post.post.image and Path(post.post.image).parent == root / "images"


@pytest.mark.parametrize("form", WRITERS)
def test_convert_with_link_in_target_replaces_it(tmp_path: Path, form: str) -> None:
    source, target, victim = tmp_path / "source", tmp_path / "target", tmp_path / "victim"
    entity = {"label": "PER", "start": 0, "end": 3, "boxes": [[10, 10, 30, 40]]}
    row = {"id": "a", "text": "Ada met Bob", "size": [100, 80], "entities": [entity]}
    for folder in (source, target, target / "dev", target / "txt", target / "xml"):
        folder.mkdir()
    victim.write_text("precious")
    (source / "dev.jsonl").write_text(json.dumps(row) + "\n")
    for file in ("dev.jsonl", "dev/a.json", "txt/dev.txt", "xml/a.xml", "dev.coco.json", "dev.label-studio.json"):
        (target / file).symlink_to(victim)
    convert(source, "jsonl", "dev", target, form)
    assert victim.read_text() == "precious"
