"""Knowledge and expansions from several models, with a server on loopback: merged, taken up again, not for dev."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in ("tools", "finetune")]
from scripted_chat import Server, serve  # noqa: E402
from tiny_world import write_world  # noqa: E402

from agent.augment import augment  # noqa: E402
from agent.cli.main import main  # noqa: E402
from finetune.tagger_data import read_gmner  # noqa: E402
from finetune.visual_data import VisualTraining, read_split  # noqa: E402
from tools.errors import NamepinError  # noqa: E402


class Models(Server):
    """Says who it is; the model `dead` answers 503."""

    def said(self, body: dict[str, Any]) -> str:
        if body["model"] == "dead":
            return "503"
        asked = str(body["messages"])
        if "tell me briefly" in asked:
            return f"a runner as {body['model']} sees it"
        return json.dumps({"explanation": f"{body['model']} explains"})


def settings(server: Server) -> list[str]:
    common = {"base_url": server.url, "cache": "false", "retries": 0}
    return [f"{role}.{key}={value}" for role in ("knowledge", "expansion") for key, value in common.items()]


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_several_models_are_mixed_and_the_recipes_read_them(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=3)
    with serve("", kind=Models) as server:
        done = augment("gmner", world, "train", ["one", "two/x"], world, settings(server))
        assert {model: told.rows for model, told in done.models.items()} == {"one": 6, "two/x": 6}
        assert done.merged == {"knowledge": 6, "expansions": 6}
        asked = len(server.bodies)
        again = augment("gmner", world, "train", ["one", "two/x"], world, settings(server))
        assert [told.kept for told in again.models.values()] == [6, 6] and len(server.bodies) == asked
    assert [row["model"] for row in rows(world / "knowledge" / "train.jsonl")] == ["one", "two/x"] * 3
    examples = read_gmner(world, "train")
    assert [example.knowledge for example in examples[:2]] == ["one explains", "two/x explains"]
    recipe = VisualTraining(root=str(world), out="x")
    seen = read_split(recipe, "train", expansions=[str(world / "expansions" / "train.jsonl")]).rows
    assert [row.expansion for row in seen[:2]] == ["a runner as one sees it", "a runner as two/x sees it"]


def test_what_failed_is_asked_again(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Models) as server:
        done = augment("gmner", world, "train", ["dead"], tmp_path / "out", settings(server))
        assert done.models["dead"].failed == 4 and done.merged == {"knowledge": 0, "expansions": 0}
    part = tmp_path / "out" / "knowledge" / "train.one.jsonl"
    with serve("", kind=Models) as server:
        augment("gmner", world, "train", ["one"], tmp_path / "out", settings(server))
        whole = part.read_bytes()
        part.write_bytes(whole[: len(whole) // 2 + 5])  # killed in the middle of a line
        augment("gmner", world, "train", ["one"], tmp_path / "out", settings(server))
    assert part.read_bytes() == whole


def test_dev_is_never_mixed(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Models) as server:
        with pytest.raises(NamepinError, match=r"E139.*dev"):
            augment("gmner", world, "dev", ["one", "two"], tmp_path / "out", settings(server))
        assert not server.bodies
        assert augment("gmner", world, "dev", ["one"], tmp_path / "out", settings(server)).merged["knowledge"] == 2


def test_the_command_says_what_it_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Models) as server:
        sets = [part for setting in settings(server) for part in ("--set", setting)]
        arguments = ["data", "augment", str(world), "--models", "one", "--out", str(tmp_path / "out"), *sets]
        assert main(arguments) == 0
        assert "one: 4 answers now, 0 before, 0 failed" in capsys.readouterr().out
        assert main([*arguments[:4], "dead", *arguments[5:]]) == 1
    assert main([*arguments[:4], " , ", *arguments[5:]]) == 2
