"""Posts that weights were trained on are recognised among scored posts."""

import json
from pathlib import Path

import pytest

from namepin.evals.overlap import KEY, Overlap, TrainedPosts, trained_posts
from namepin.tools.errors import NamepinError
from namepin.tools.types import Post

TEXTS = {f"O_{n}": f"Post number {n} is about the city of Rome" for n in range(10)}


def posts(texts: dict[str, str]) -> list[Post]:
    return [Post(id=post, text=text) for post, text in texts.items()]


@pytest.mark.parametrize(
    ("text", "post", "seen"),
    [
        ("Post number 3 is about the city of Rome", "other", True),
        ("post  NUMBER 3is about the city of\u00a0Rome", "other", True),
        ("another text altogether, of no post", "O_3", True),
        ("another text altogether, of no post", "other", False),
        ("another text altogether, of no post", "3", False),
    ],
)
def test_trained_posts_recognise_post_by_text_or_id(text: str, post: str, seen: bool) -> None:
    record = TrainedPosts.of(TEXTS.items())
    assert record.among(posts({post: text})) == ([post] if seen else [])


def test_trained_posts_with_short_text_recognise_nothing() -> None:
    assert TrainedPosts.of([("a", "Good day")]).among(posts({"b": "Good day"})) == []


@pytest.mark.parametrize(("agreeing", "seen"), [(0, 0), (5, 20)])
def test_trained_posts_with_numeric_ids_require_agreeing_texts(agreeing: int, seen: int) -> None:
    record = TrainedPosts.of((str(n), f"the text of the training post {n}") for n in range(20))
    texts = {str(n): f"the text of the {'training' if n < agreeing else 'other'} post {n}" for n in range(20)}
    assert len(record.among(posts(texts))) == seen


def test_trained_posts_together_with_other_equal_their_union() -> None:
    both = TrainedPosts.of(list(TEXTS.items())[:4]).together_with(TrainedPosts.of(list(TEXTS.items())[4:]))
    assert both == TrainedPosts.of(TEXTS.items())


def write(folder: Path, name: str, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def test_trained_posts_of_weights_folder_return_record_or_unknown(tmp_path: Path) -> None:
    record = TrainedPosts.of(TEXTS.items())
    assert trained_posts(tmp_path) == (False, None)
    assert trained_posts(write(tmp_path / "hub", "config.json", {"model_type": "bert"})) == (False, None)
    assert trained_posts(write(tmp_path / "old", "namepin.json", {"tool": "matcher"})) == (True, None)
    assert trained_posts(write(tmp_path / "new", "namepin.json", {KEY: record.model_dump()})) == (True, record)
    tagger = {"training": {KEY: record.model_dump()}}
    assert trained_posts(write(tmp_path / "tagger", "config.json", tagger)) == (True, record)
    with pytest.raises(NamepinError, match="E211"):
        trained_posts(write(tmp_path / "bad", "namepin.json", {KEY: {"posts": -1}}))


def test_overlap_of_few_posts_is_tolerated(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", "namepin.json", {KEY: TrainedPosts.of(TEXTS.items()).model_dump()})
    texts = {f"new-{n}": f"a new post about the number {n}" for n in range(199)}
    few = Overlap.of({"w": folder}, posts(texts | {"x": TEXTS["O_1"]}))
    few.require_small("here")
    assert (few.count, few.count_if_recorded, few.mark) == (1, 1, "")
    many = Overlap.of({"w": folder}, posts(dict(list(texts.items())[:20]) | TEXTS))
    assert many.mark == "TRAINED ON 10 OF THESE 30 POSTS"
    with pytest.raises(NamepinError, match=r"E141: w was trained on 10 of these 30 posts, such as 'O_0'") as refused:
        many.require_small("here")
    assert "--allow-overlap" in str(refused.value)


def test_overlap_without_record_is_unknown_and_warns_w136(tmp_path: Path) -> None:
    found = Overlap.of({"w": write(tmp_path / "w", "namepin.json", {"tool": "matcher"})}, posts(TEXTS))
    found.require_small("here")
    assert found.count_if_recorded is None and found.warning.startswith("W136: w: no record")
