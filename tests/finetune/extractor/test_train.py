"""The extractor's recipes on a tiny Qwen2.5-VL: SFT learns the form, GRPO is rewarded, runs resume, adapters load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from namepin.evals.overlap import trained_posts
from namepin.finetune.extractor.model import ExtractorModel
from namepin.finetune.extractor.rewards import REWARDS
from namepin.finetune.extractor.run import STATE, ExtractorRun
from namepin.finetune.extractor.score import write_answers
from namepin.finetune.extractor.train import ExtractorTask, train
from namepin.finetune.recipes.extractor import ExtractorTraining, SftRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.extractor.answer import read_answer
from namepin.tools.extractor.config import LocalExtractorConfig
from namepin.tools.extractor.local import LocalExtractor
from namepin.tools.extractor.result import extracted
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import ExtractRequest
from namepin.tools.loading.adapters import LORA, Base, load_adapter_onto, read_adapter_manifest
from namepin.tools.loading.config import Placement
from namepin.tools.loading.pretrained import weights_sha256
from namepin.tools.media import Media
from namepin.tools.models.qwen_vl import load_qwen_vl
from support import two_processes
from support.forked import Forked
from support.tiny_extractor import a_recipe, save_model
from support.tiny_world import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), posts=8)


@pytest.fixture(scope="module")
def drawn(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(world, tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def pretrained(world: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model that has learnt the form, in the place of the published one; and its training's last checkpoint."""
    out = tmp_path_factory.mktemp("whole")
    recipe = a_recipe("sft", world, drawn, out, whole=True, lr=1e-2, epochs=10, shift=0.0, scale=0.0, batch_size=2)
    train(recipe)
    return out / "weights", state_of(out)


@pytest.fixture(scope="module")
def adapter(world: Path, pretrained: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a supervised run with LoRA."""
    out = tmp_path_factory.mktemp("sft")
    train(a_recipe("sft", world, pretrained[0], out, epochs=2, accumulate=2, lr=3e-3))
    return out


def state_of(out: Path) -> dict[str, Any]:
    """What the last checkpoint keeps."""
    found = sorted(out.glob(f"checkpoints/*/{STATE}"), key=lambda path: int(path.parent.name.rpartition("-")[2]))
    state: dict[str, Any] = json.loads(found[-1].read_text())
    return state


def test_sft_lowers_the_loss_and_learns_the_form(pretrained: tuple[Path, dict[str, Any]]) -> None:
    history = pretrained[1]["now"]["history"]
    assert history[-1]["loss"] < 0.25 * history[0]["loss"]
    assert history[0]["valid"] < 0.5 and max(row["valid"] for row in history) == 1.0


def test_sft_writes_an_adapter_of_the_language_model_with_its_record(
    world: Path, pretrained: tuple[Path, Any], adapter: Path
) -> None:
    folder = adapter / "weights"
    manifest = read_adapter_manifest(folder)
    assert (manifest.task, manifest.rank) == ("extract", 8) and manifest.training["stage"] == "sft"
    tensors = load_file(folder / LORA)
    assert tensors and all(".language_model." in name and ".lora_" in name for name in tensors)
    record = trained_posts(folder)[1]
    assert record is not None and record.posts == 16, "the base's posts and the adapter's"
    assert "mean_f1" in (folder / "README.md").read_text()
    net = load_qwen_vl(Placement(device="cpu", dtype="float32"), pretrained[0])
    base = Base(weights=str(pretrained[0]), revision=None, sha256=weights_sha256(pretrained[0]))
    load_adapter_onto(net, folder, task="extract", base=base)
    own = {name: value for name, value in net.named_parameters() if ".lora_B" in name}
    assert any(bool(value.any()) for value in own.values())


def test_sft_teaches_only_the_answer_and_perturbs_boxes_by_epoch(
    world: Path, pretrained: tuple[Path, Any], tmp_path: Path
) -> None:
    thoughts = tmp_path / "thoughts.jsonl"
    thoughts.write_text(json.dumps({"id": "train0", "reasoning": "ada runs, so she is a person"}) + "\n")
    task = ExtractorTask(a_recipe("sft", world, pretrained[0], tmp_path, reasoning=str(thoughts)))
    trainer = task.trainer()
    rows = [task.examples.example(number) for number in (0, 1)]
    labels = trainer.data_collator([dict(row) for row in rows])["labels"]
    said = [task.model.processor.tokenizer.decode(row[row != -100]) for row in labels]
    answers = [row["completion"][0]["content"][0]["text"] for row in rows]
    assert said == [f"{answer}<|end|>" for answer in answers]
    assert json.loads(answers[0])["reasoning"].startswith("ada runs") and isinstance(json.loads(answers[1]), list)
    again = task.examples.example(0)["completion"][0]["content"][0]["text"]
    task.examples.epoch = 1
    assert again == answers[0] != task.examples.example(0)["completion"][0]["content"][0]["text"]


def test_grpo_logs_every_reward_apart_and_keeps_no_reference_adapter(
    world: Path, pretrained: tuple[Path, Any], adapter: Path, tmp_path: Path
) -> None:
    changes = {"start": str(adapter / "weights"), "beta": 0.02, "limit": 4, "rank": 32, "lr": 1e-3}
    report = train(a_recipe("grpo", world, pretrained[0], tmp_path, **changes))
    assert {reward.__name__ for reward in REWARDS} <= set(report) and report["reward_json"] > 0
    folder = tmp_path / "weights"
    assert read_adapter_manifest(folder).rank == 8, "that of the start"
    before, after = load_file(adapter / "weights" / LORA), load_file(folder / LORA)
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    record = trained_posts(folder)[1]
    assert record is not None and record.posts == 8 + 16 + 4, "base, start and own"


def test_local_backend_answers_with_the_adapter_as_in_training(
    world: Path, pretrained: tuple[Path, Any], adapter: Path, tmp_path: Path
) -> None:
    task = ExtractorTask(a_recipe("grpo", world, pretrained[0], tmp_path, start=str(adapter / "weights")))
    task.model.net.eval()
    posts = [gold for gold in task.dev.posts if gold.post.image]
    answers = write_answers(task.model, task.ask, posts, task.recipe.longest, 1)
    places: dict[str, Any] = {"weights": str(pretrained[0]), "adapter": str(adapter / "weights")}
    config = LocalExtractorConfig(
        **places, device="cpu", dtype="float32", max_tokens=task.recipe.longest, min_pixels=784, max_pixels=56 * 56
    )
    tool = LocalExtractor(config)
    for gold, (text, frame) in zip(posts, answers, strict=True):
        loaded = load_image(str(gold.post.image))
        request = ExtractRequest(text=gold.post.text, tokens=gold.post.tokens, image=loaded.ref)
        read = read_answer(text, "gmner4")
        assert read is not None and read.items
        assert tool.run([request], Media(images={loaded.ref.sha256: loaded.image})) == [
            extracted(request, read, frame, "extractor")
        ]


def stopped(recipe: ExtractorTraining, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recipe until the process would be killed at the beginning of a step."""
    end = ExtractorRun.on_step_end

    def killed(self: ExtractorRun, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt
        end(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ExtractorRun, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_resumed_run_equals_an_undisturbed_one(
    world: Path, pretrained: tuple[Path, Any], tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"epochs": 2, "checkpoint_steps": 1, "limit": 6, "batch_size": 2, "lr": 1e-3}
    whole, cut = (a_recipe(stage, world, pretrained[0], tmp_path / name, **changes) for name in ("whole", "cut"))
    train(whole)
    stopped(cut, 5, monkeypatch)
    (tmp_path / "cut" / "checkpoints" / "checkpoint-9").mkdir()  # a kill may leave a folder without its state
    train(cut, resume=True)
    one, two = (state_of(tmp_path / name)["now"]["history"] for name in ("whole", "cut"))
    assert one == two
    tensors = [load_file(tmp_path / name / "weights" / LORA) for name in ("whole", "cut")]
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def logged(out: Path) -> list[tuple[float, float]]:
    """Loss and norm of the gradient of every step."""
    last = max((out / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    rows = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [(row["loss"], row["grad_norm"]) for row in rows if "loss" in row]


def test_sft_in_two_processes_takes_the_same_steps(world: Path, drawn: Path, tmp_path: Path) -> None:
    settings: Any = two_processes.settings_of("extractor", str(world), str(drawn), tmp_path / "one")
    train(SftRecipe(**settings | {"out": str(tmp_path / "one"), "cpu": True}))
    process = Forked(two_processes.main, "extractor", str(world), str(drawn), tmp_path)
    out, said = process.communicate()
    assert process.wait() == 0, said.decode()[-3000:]
    assert out.count(b"weights: ") == 1, "of two processes one speaks"
    one, two = logged(tmp_path / "one"), logged(tmp_path / "ddp")
    assert len(one) == 4 and two == [pytest.approx(step, rel=2e-3) for step in one]
    whole, shared = (load_file(tmp_path / name / "weights" / LORA) for name in ("one", "ddp"))
    # AdamW steps by a gradient's sign where the gradient is next to nothing.
    assert max(float((shared[name] - value).abs().max()) for name, value in whole.items()) < 1e-2


def test_resume_with_other_settings_raises_e205(world: Path, pretrained: tuple[Path, Any], adapter: Path) -> None:
    other = a_recipe("sft", world, pretrained[0], adapter, epochs=2, accumulate=2, lr=1e-3)
    with pytest.raises(NamepinError, match="E205.*another lr"):
        train(other, resume=True)


@pytest.mark.parametrize(
    ("stage", "changes", "error"),
    [
        ("sft", {"scheme": "fmnerg51"}, "E139: the data set has no fine types"),
        ("sft", {"batch_size": 3, "accumulate": 2}, "E203: accumulate: 3 rows"),
        ("sft", {"reasoning": "nowhere.jsonl"}, "E130"),
        ("grpo", {"batch_size": 9}, "E203: batch_size: 9 posts, of 8"),
        ("grpo", {"vllm": "colocate"}, "E301.*vllm"),
        ("grpo", {"start": "nowhere"}, "E210"),
        ("sft", {"quantization": "4bit"}, "E301.*bitsandbytes|E216: 4-bit weights need a CUDA device"),
    ],
)
def test_unusable_settings_stop_a_run_before_it_begins(
    world: Path, pretrained: tuple[Path, Any], tmp_path: Path, stage: str, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(NamepinError, match=error):
        train(a_recipe(stage, world, pretrained[0], tmp_path, **changes))


def test_loss_that_is_not_finite_raises_e220(
    world: Path, pretrained: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ExtractorModel._with_lora

    def broken(self: ExtractorModel, base: Any) -> Any:
        base.lm_head.weight.data.fill_(float("nan"))
        return begin(self, base)

    monkeypatch.setattr(ExtractorModel, "_with_lora", broken)
    with pytest.raises(NamepinError, match="E220: the loss is nan at step 1"):
        train(a_recipe("sft", world, pretrained[0], tmp_path))
    assert not (tmp_path / "weights").exists()
