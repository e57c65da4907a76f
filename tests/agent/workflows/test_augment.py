"""Knowledge and expansions from several models, with a server on loopback: merged, taken up again, not for dev."""

import json
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.cli.main import main
from namepin.agent.workflows.augment import augment
from namepin.evals.run import load_dataset
from namepin.finetune.data.mentions import read_split
from namepin.finetune.extractor.rows import read_reasoning
from namepin.finetune.recipes.extractor import SftRecipe
from namepin.finetune.recipes.visual import VisualTraining
from namepin.finetune.tagger.data import read_gmner
from namepin.tools.errors import NamepinError
from support.scripted_chat import Handler, Server, serve
from support.tiny_world import write_world


class Models(Server):
    """Says who it is; the model `dead` answers 503, `mad` without sense."""

    def answer_to(self, body: dict[str, Any]) -> str:
        if body["model"] == "dead":
            return "503"
        if body["model"] == "mad":
            return "what?"
        asked = str(body["messages"])
        if "tell me briefly" in asked:
            return f"a runner as {body['model']} sees it"
        return json.dumps({"explanation": f"{body['model']} explains"})


class Priced(Models):
    """Every answer costs 100 and 10 tokens; the model `late` answers two questions only."""

    def __init__(self, *script: str) -> None:
        super().__init__(*script)
        self.RequestHandlerClass = Metered

    def answer_to(self, body: dict[str, Any]) -> str:
        late = sum(one["model"] == "late" for one in self.bodies) > 2
        return "503" if body["model"] == "late" and late else super().answer_to(body)


class Metered(Handler):
    def answer(self, body: Any, status: int = 200) -> None:
        super().answer({**body, "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}}, status)


def settings(server: Server) -> list[str]:
    common = {"base_url": server.url, "cache": "false", "retries": 0}
    return [f"{role}.{key}={value}" for role in ("knowledge", "expansion") for key, value in common.items()]


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_augment_with_several_models_mixes_rows_that_recipes_read(tmp_path: Path) -> None:
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


def test_augment_rerun_after_failure_or_torn_file_completes(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Models) as server:
        done = augment("gmner", world, "train", ["dead"], tmp_path / "out", settings(server))
        assert done.models["dead"].failed == 4 and done.merged == {"knowledge": 0, "expansions": 0}
        assert not (tmp_path / "out" / "knowledge" / "train.jsonl").exists(), "nothing is learnt from an empty file"
    part = tmp_path / "out" / "knowledge" / "train.one.jsonl"
    with serve("", kind=Models) as server:
        augment("gmner", world, "train", ["one"], tmp_path / "out", settings(server))
        whole = part.read_bytes()
        part.write_bytes(whole[: len(whole) // 2 + 5])  # killed in the middle of a line
        augment("gmner", world, "train", ["one"], tmp_path / "out", settings(server))
    assert part.read_bytes() == whole


def test_augment_of_dev_with_several_models_raises_e139(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Models) as server:
        with pytest.raises(NamepinError, match=r"E139.*dev"):
            augment("gmner", world, "dev", ["one", "two"], tmp_path / "out", settings(server))
        assert not server.bodies
        assert augment("gmner", world, "dev", ["one"], tmp_path / "out", settings(server)).merged["knowledge"] == 2


def own_knowledge(root: Path, split: str = "train", posts: int = 2) -> Path:
    """What a data set comes with; its last line has no end."""
    for folder, said in (("knowledge", {}), ("expansions", {"text": "ada"})):
        key = "expansion" if said else "knowledge"
        lines = [json.dumps({"id": f"{split}{at}", "model": "old", **said, key: "known"}) for at in range(posts)]
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return root / "knowledge" / f"{split}.jsonl"


def test_augment_with_recorded_knowledge_keeps_it_in_mix(tmp_path: Path) -> None:
    """Models are added one at a time: two to the recorded knowledge of a third."""
    world = write_world(tmp_path / "world", posts=2)
    merged = own_knowledge(world)
    with serve("", kind=Models) as server:
        for model in ("two", "one", "two"):
            augment("gmner", world, "train", [model], world, settings(server))
    assert [row["model"] for row in rows(merged)] == ["old", "one", "two"] * 2
    assert [row["knowledge"] for row in rows(world / "knowledge" / "train.before.jsonl")] == ["known"] * 2
    found = [row["model"] for row in rows(world / "expansions" / "train.jsonl") if row["text"] == "ada"]
    assert sorted(found) == ["old", "old", "one", "two"]
    assert not list(world.rglob("*.part"))


def test_augment_with_unreachable_model_keeps_merged_file(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    merged = own_knowledge(world)
    before = merged.read_bytes()
    with serve("", kind=Models) as server:
        sets = [part for setting in settings(server) for part in ("--set", setting)]
        assert main(["data", "augment", str(world), "--models", "dead", "--out", str(world), *sets]) == 1
        assert merged.read_bytes() == before and not (world / "knowledge" / "train.before.jsonl").exists()
    with serve("", kind=Models) as server:
        augment("gmner", world, "train", ["one"], world, settings(server))
        augment("gmner", world, "train", ["dead"], world, settings(server))
    assert [row["model"] for row in rows(merged)] == ["old", "one"] * 2


def test_augment_after_killed_merge_keeps_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = write_world(tmp_path / "world", posts=2)
    merged = own_knowledge(world)
    before = merged.read_bytes()

    def killed(*names: object) -> None:
        raise KeyboardInterrupt

    with serve("", kind=Models) as server:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("namepin.tools.files.os.replace", killed)
            augment("gmner", world, "train", ["one"], world, settings(server))
        assert merged.read_bytes() == before
        augment("gmner", world, "train", ["one"], world, settings(server))
    assert [row["model"] for row in rows(merged)] == ["old", "one"] * 2


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"id": "a"}', "\xff"])
def test_augment_with_invalid_recorded_rows_raises_e134_before_any_request(tmp_path: Path, line: str) -> None:
    world = write_world(tmp_path / "world", posts=2)
    own_knowledge(world).write_bytes(line.encode("latin-1"))
    with serve("", kind=Models) as server, pytest.raises(NamepinError, match=r"E134.*train.jsonl:1"):
        augment("gmner", world, "train", ["one"], world, settings(server))
    assert not server.bodies


def test_augment_of_explained_dev_by_other_model_raises_e139(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    own_knowledge(world, "dev")
    with serve("", kind=Models) as server:
        with pytest.raises(NamepinError, match=r"E139.*dev\.jsonl"):
            augment("gmner", world, "dev", ["one"], world, settings(server))
        assert not server.bodies
        augment("gmner", world, "dev", ["one"], tmp_path / "out", settings(server))
        with pytest.raises(NamepinError, match=r"E139.*dev\.one\.jsonl"):
            augment("gmner", world, "dev", ["two"], tmp_path / "out", settings(server))


@pytest.mark.parametrize("out", ["/proc/nope", "{0}/file", "{0}/file/below"])
def test_augment_to_unwritable_folder_raises_e500(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world", posts=1)
    (tmp_path / "file").touch()
    arguments = ["data", "augment", str(world), "--models", "one", "--out", out.format(tmp_path)]
    assert main([*arguments, "--set", "knowledge.base_url=http://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.startswith("error: E500")


def test_augment_costs_accumulate_over_interrupted_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world", posts=2)
    prices = ["--prompt-price", "1000", "--answer-price", "10000"]
    arguments = ["data", "augment", str(world), "--out", str(tmp_path / "out"), *prices]
    with serve("", kind=Priced) as server:
        sets = [part for setting in settings(server) for part in ("--set", setting)]
        assert main([*arguments, "--models", "late", *sets]) == 1
        assert "2 answers now, 0 before, 2 failed; 200 + 20 tokens, 0.4000 now" in capsys.readouterr().out
        server.bodies.clear()
        assert main([*arguments, "--models", "late", *sets]) == 0
        told = "2 answers now, 2 before, 0 failed; 200 + 20 tokens, 0.4000 now; 400 + 40 tokens, 0.8000 in all"
        assert told in capsys.readouterr().out
        done = augment("gmner", world, "train", ["mad"], tmp_path / "mad", settings(server))
    assert done.models["mad"].prompt_tokens >= 400, "what was answered without sense was paid for, too"


def test_augment_command_prints_costs_and_exits_by_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Models) as server:
        sets = [part for setting in settings(server) for part in ("--set", setting)]
        arguments = ["data", "augment", str(world), "--models", "one", "--out", str(tmp_path / "out"), *sets]
        assert main(arguments) == 0
        assert "one: 4 answers now, 0 before, 0 failed" in capsys.readouterr().out
        assert main([*arguments[:4], "dead", *arguments[5:]]) == 1
    assert main([*arguments[:4], " , ", *arguments[5:]]) == 2


class Teacher(Server):
    """Thinks aloud; the model `lister` answers with a list at first."""

    def answer_to(self, body: dict[str, Any]) -> str:
        if body["model"] == "lister" and len(body["messages"]) < 3:
            return '[{"text": "ada"}]'
        return "<think>hm</think> The word ada is a name.\nA red patch may be her."


def test_augment_reasoning_shows_picture_and_gold_and_writes_rows_for_sft(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=2)
    with serve("", kind=Teacher) as server:
        done = augment("gmner", world, "train", ["lister"], world, settings(server), ["reasoning"])
        assert done.merged == {"reasoning": 2} and done.models["lister"].failed == 0
        asked = server.bodies[0]["messages"][-1]["content"]
    picture, question = asked[0], asked[-1]["text"]
    assert picture["type"] == "image_url" and "ada (PER, in the picture)" in question
    recipe = SftRecipe(root=str(world), reasoning=str(world / "reasoning" / "train.jsonl"))
    data: dict[str, str] = {}
    thoughts = read_reasoning(recipe, load_dataset("gmner", world, "train"), data)
    assert thoughts["train0"] == "The word ada is a name. A red patch may be her." and set(data) == {"train.jsonl"}
    assert not (world / "knowledge").exists()


def test_augment_reasoning_of_refusing_teacher_fails_and_writes_no_row(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=1)
    with serve("I'm sorry, but I cannot help with that.") as server:
        done = augment("gmner", world, "train", ["one"], tmp_path / "out", settings(server), ["reasoning"])
    assert done.models["one"].failed == 1 and done.merged == {"reasoning": 0}
