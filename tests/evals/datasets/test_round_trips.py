"""Any posts into every form and back: the same, or listed."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from namepin.evals.datasets import READERS
from namepin.evals.datasets.convert import Conversion, convert
from namepin.evals.datasets.names import name_key
from namepin.evals.datasets.rows import row_of
from namepin.tools.labels import FINE51, FINE_TO_COARSE4
from namepin.tools.types import Mask

SIZE = (30, 20)
words = st.text(st.sampled_from("abÄ.-'&<\t\x01\u2028\u00a0😀\"#"), min_size=1, max_size=4) | st.sampled_from(
    ["Ada", "Ada", "Bob", "IMGID:1", "-DOCSTART-", "O", "B-PER", "#"]
)
ids = st.text(st.sampled_from("ab1./\\ ~=:\x00\nÄ"), min_size=1, max_size=6)


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x1, y1 = draw(st.integers(0, 28)), draw(st.integers(0, 18))
    return [x1 + draw(st.sampled_from([0, 0.25])), y1, draw(st.integers(x1 + 1, 30)), draw(st.integers(y1 + 1, 20))]


@st.composite
def masks(draw: st.DrawFn) -> dict[str, Any]:
    array = np.zeros(SIZE[::-1], dtype=bool)
    for _ in range(draw(st.integers(1, 3))):
        x, y, width, height = (draw(st.integers(0, 12)) for _ in range(4))
        array[y : y + height + 1, x : x + width + 1] ^= True
    array[0, 29] = True  # never empty
    return Mask.from_array(array).model_dump(mode="json")


@st.composite
def posts(draw: st.DrawFn) -> dict[str, Any]:
    tokens = [word for word in draw(st.lists(words, min_size=1, max_size=6))]
    text = " ".join(tokens)
    if not text.strip():
        text, tokens = "x", ["x"]
    with_boxes, with_masks = draw(st.booleans()), draw(st.booleans())
    entities = []
    for start, end in draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(1, 8)), max_size=4)):
        fine = draw(st.sampled_from(FINE51))
        entity: dict[str, Any] = {"start": start, "end": min(start + end, len(text)), "label": FINE_TO_COARSE4[fine]}
        if draw(st.booleans()):
            entity["fine_label"] = fine
        if with_boxes:
            entity["boxes"] = draw(st.lists(boxes(), max_size=2))
        if with_masks:
            entity["masks"] = draw(st.lists(masks(), max_size=2))
        entities.append(entity)
    row = {"id": draw(ids), "text": text, "entities": entities}
    if draw(st.booleans()):
        row["tokens"] = tokens if text == " ".join(tokens) else None
    row["image"] = draw(st.sampled_from([None, "a/b.jpg", "images/1.jpg", "../x.jpg"]))
    row["extra"] = draw(st.sampled_from([{}, {"k": [1, None, "ä"]}]))
    if draw(st.booleans()) or with_masks:
        row["size"] = list(SIZE)
    return {key: value for key, value in row.items() if value is not None}


splits = st.lists(posts(), min_size=1, max_size=3, unique_by=lambda row: row["id"])


def rows_of(folder: Path, name: str) -> dict[str, Any]:
    return {gold.post.id: row_of(gold, folder) for gold in READERS[name](folder, "dev").usable().posts}


def there_and_back(split: list[dict[str, Any]], form: str, check: Callable[[Any, Any, Conversion], None]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "deep" / "folder"
        source, target = folder / "source", folder / "target"
        source.mkdir(parents=True)
        (source / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in split))
        before = rows_of(source, "jsonl")
        done = convert(source, "jsonl", "dev", target, form)
        outside = [path for path in Path(name).rglob("*") if path.is_file() and target not in path.parents]
        assert outside == [source / "dev.jsonl"]
        check(before, target, done)


@pytest.mark.parametrize("form", ["jsonl", "labelme", "coco", "label-studio"])
def test_convert_of_any_posts_to_complete_form_roundtrips(form: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(splits)
    def holds(split: list[dict[str, Any]]) -> None:
        there_and_back(split, form, same)

    def same(before: dict[str, Any], target: Path, done: Conversion) -> None:
        assert done.complete
        assert rows_of(target, form) == before

    holds()


def test_convert_of_any_posts_to_conll_roundtrips_or_counts_losses() -> None:
    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(splits)
    def holds(split: list[dict[str, Any]]) -> None:
        there_and_back(split, "conll", same_or_counted)

    def same_or_counted(before: dict[str, Any], target: Path, done: Conversion) -> None:
        unnamed = lost(done, "ids cannot stand in a line")
        name = "smner" if (target / "masks").is_dir() else "gmner"
        posts = READERS[name](target, "dev").usable().posts if unnamed < len(before) else ()
        after = {gold.post.id: gold for gold in posts}
        assert len(before) - len(after) == unnamed
        dropped = lost(done, "mentions within or across") + lost(done, "mentions of white space")
        source = {post_id: row for post_id, row in before.items() if post_id in after}
        written = sum(len(gold.entities) for gold in after.values())
        assert sum(len(row["entities"]) for row in source.values()) - written == dropped
        for post_id, row in source.items() if not dropped else ():
            for entity, back in zip(row["entities"], after[post_id].entities, strict=True):
                assert back.label == entity["label"]
                assert name_key(back.text) == name_key(row["text"][entity["start"] : entity["end"]])
                assert {tuple(box) for box in entity.get("boxes", ())} <= set(back.boxes or ())
                assert {mask["counts"] for mask in entity.get("masks", ())} <= {m.counts for m in back.masks or ()}
                if done.complete and not any("share" in problem.what for problem in done.problems):
                    assert len(back.boxes or ()) == len({tuple(box) for box in entity.get("boxes", ())})

    def lost(done: Conversion, what: str) -> int:
        return sum(int(problem.what.split()[0]) for problem in done.problems if what in problem.what)

    holds()
