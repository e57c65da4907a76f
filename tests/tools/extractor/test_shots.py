"""Shots: drawn from a training split, shown by both backends as earlier turns, and part of the fingerprint."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.evals.run import load_dataset
from namepin.evals.shots import draw_shots, main
from namepin.finetune.sandbox.qwen_vl import save_qwen_vl
from namepin.tools.errors import NamepinError
from namepin.tools.extractor.chat import ChatExtractor
from namepin.tools.extractor.config import ChatExtractorConfig, LocalExtractorConfig
from namepin.tools.extractor.local import LocalExtractor
from namepin.tools.extractor.shots import Shots
from namepin.tools.interfaces import ExtractRequest
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support.scripted_chat import serve
from support.tiny_world import write_world

ADA = {"text": "Ada", "type": "politician", "box": [0, 0, 20, 40]}
REQUEST = ExtractRequest(text="Bob met Ada", image=ImageRef(sha256="a" * 64, width=64, height=64))
MEDIA = Media(images={"a" * 64: Image.new("RGB", (64, 64), "teal")})


def a_file(folder: Path, *items: Any, text: str = "Ada ran", image: str | None = "one.png") -> Path:
    Image.new("RGB", (40, 40), "red").save(folder / "one.png")
    rows = [{"text": text, "image": image, "answer": list(items)}, {"text": "Oslo", "image": None, "answer": []}]
    (folder / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "shots.jsonl"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "world")


def chat(url: str, file: Path | None, **changes: Any) -> ChatExtractor:
    given = {"model": "m", "base_url": url, "frame": "thousand", "retries": 0, "cache": False, "shots": file}
    return ChatExtractor(ChatExtractorConfig.model_validate(given | changes))


def test_shots_command_draws_named_posts_by_seed_and_backend_reads_them(world: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        main(["--root", str(world), "--shots", "3", "--seed", seed, "--out", str(file)])
    first, again, other = (file.read_text() for file in files)
    assert first == again != other
    shots = Shots(files[0], "gmner4").before("anything")
    assert len(shots) == 3 and all(shot.picture and shot.mentions for shot in shots)
    assert any(mention.box for shot in shots[:2] for mention in shot.mentions)
    posts = load_dataset("gmner", world, "train").posts
    with pytest.raises(NamepinError, match="E139: 9 shots, of 8"):
        draw_shots(posts, 9, 1)


@pytest.mark.parametrize(
    ("guide", "answer"), [("none", "[{}]"), ("json_schema", '{{"entities": [{}]}}')], ids=["bare", "wrapped"]
)
def test_chat_extractor_shows_shots_as_earlier_turns_in_its_own_form(tmp_path: Path, guide: str, answer: str) -> None:
    with serve('{"entities": []}') as server:
        chat(server.url, a_file(tmp_path, ADA), guide=guide).run([REQUEST], MEDIA)
    turns = server.bodies[0]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[1]["content"][0]["type"] == "image_url" and '"Ada ran"' in turns[1]["content"][1]["text"]
    assert turns[2]["content"] == answer.format('{"text": "Ada", "type": "PER", "box": [0, 0, 500, 1000]}')
    assert isinstance(turns[3]["content"], str) and turns[4]["content"] == answer.format("")
    assert '"Bob met Ada"' in turns[5]["content"][1]["text"]


def test_shots_never_show_a_post_to_itself(tmp_path: Path) -> None:
    shots = Shots(a_file(tmp_path, ADA), "fmnerg51")
    assert [shot.text for shot in shots.before("Ada ran")] == ["Oslo"]
    assert [shot.mentions[0].type for shot in shots.before("x")[:1]] == ["politician"]


def test_chat_fingerprint_covers_the_shots_and_is_the_old_one_without(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    file = a_file(tmp_path, ADA)
    (tmp_path / "moved").mkdir()
    moved = a_file(tmp_path / "moved", ADA)
    with_shots = chat(url, file).fingerprint
    assert with_shots == chat(url, moved).fingerprint != chat(url, None).fingerprint
    assert chat(url, a_file(tmp_path, {**ADA, "box": None})).fingerprint != with_shots


def test_local_extractor_sees_the_shots_and_their_pictures(tmp_path: Path) -> None:
    folder = save_qwen_vl(tmp_path / "net", ["ada ran in oslo"] * 3, width=32, layers=1)
    settings = {"weights": str(folder), "dtype": "float32", "min_pixels": 3136, "max_pixels": 3136, "max_tokens": 1}
    tools = [
        LocalExtractor(LocalExtractorConfig.model_validate({**settings, "shots": file}))
        for file in (None, a_file(tmp_path, ADA))
    ]
    seen: list[list[dict[str, Any]]] = []
    for tool in tools:
        answer = tool._answer

        def spied(messages: Any, answer: Any = answer) -> str:
            seen.append(list(messages))
            answer(messages)  # a net with drawn weights writes no list, but it must take the pictures
            return "[]"

        tool._answer = spied  # type: ignore[method-assign]
        tool.run([REQUEST], MEDIA)
    plain, shown = seen
    assert [turn["role"] for turn in shown] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert (shown[0], shown[-1]["content"][1]) == (plain[0], plain[-1]["content"][1])
    assert shown[1]["content"][0]["image"].size == (56, 56)
    assert shown[2]["content"][0]["text"] == '[{"text": "Ada", "type": "PER", "box": [0, 0, 28, 56]}]'
    assert tools[0].fingerprint != tools[1].fingerprint


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({**ADA, "type": "robot"}, "'robot' is no type of gmner4"),
        ({**ADA, "text": "Eve"}, "'Eve' is not in the text"),
        ({**ADA, "box": [1, 2]}, "neither four numbers nor null"),
        ({"text": "Ada"}, "type"),
    ],
)
def test_shots_with_an_invalid_row_raise_e134_with_its_line(tmp_path: Path, item: Any, message: str) -> None:
    with pytest.raises(NamepinError, match=f"E134.*{message}.*shots.jsonl:1"):
        Shots(a_file(tmp_path, item), "gmner4")


def test_shots_with_missing_file_or_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130.*namepin.evals.shots"):
        Shots(tmp_path / "none.jsonl", "gmner4")
    with pytest.raises(NamepinError, match="E12"):
        Shots(a_file(tmp_path, ADA, image="none.png"), "gmner4")
