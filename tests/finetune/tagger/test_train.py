"""The tagger's recipe end to end on posts made here, with a tiny encoder: it learns, resumes exactly, and ships."""

import dataclasses
import json
import random
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from namepin.evals.overlap import trained_posts
from namepin.evals.run import load_dataset
from namepin.finetune.loop.run_folder import CHECKPOINT, KEPT_EPOCH, MANIFEST
from namepin.finetune.recipes.tagger import TaggerRecipe
from namepin.finetune.tagger.average import soup
from namepin.finetune.tagger.data import (
    Span,
    read_fmnerg,
)
from namepin.finetune.tagger.recipe import load_data
from namepin.finetune.tagger.train import TaggerTask, train
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.knowledge.chat import RECORDED_STYLE
from namepin.tools.loading.encoder import load_encoder, read_safetensors
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import ADAPTER_FILE, TaggerSpec, load_adapter, read_manifest, save_adapter
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from support import two_processes
from support.forked import Forked
from support.killed_training import tagger_killed_at
from support.tagger_posts import write_posts
from support.tagger_recipe import recipe
from support.two_processes import settings_of


def test_tagger_training_learns_and_adapter_tags(root: Path, tmp_path: Path) -> None:
    report = train(recipe(root, tmp_path))
    assert report["dev_f1"] > 0.9 and report["dev_f1_knowledge"] > 0.9
    tool = DualTagger(TaggerConfig(adapter=report["adapter"]))
    (tags,) = tool.run([TagRequest(text="Ada Bell is in Oslo now")], Media())
    assert [(m.text, m.label, m.fine_label) for m in tags.mentions] == [
        ("Ada Bell", "PER", "actor"), ("Oslo", "LOC", "city"),
    ]  # fmt: skip
    manifest = json.loads((tmp_path / "adapter" / "config.json").read_text())
    assert manifest["knowledge_style"] == RECORDED_STYLE and len(manifest["training"]["data_sha256"]) == 4
    assert str(tmp_path) not in json.dumps(manifest)
    record = json.loads((tmp_path / "adapter" / MANIFEST).read_text())
    assert record["tool"] == "tagger" and record["data_sha256"] == manifest["training"]["data_sha256"]
    assert {"code", "versions", "machine"} <= record.keys() and record["settings"]["encoder"] == "bert"
    assert str(root) not in json.dumps(record)
    _, posts = trained_posts(tmp_path / "adapter")
    assert posts and posts.posts == 96
    scored = [gold.post for gold in load_dataset("gmner", root / "gmner", "train").posts]
    assert len(posts.among(scored)) == 96
    card = (tmp_path / "adapter" / "README.md").read_text()
    sha256 = record["data_sha256"]["gmner/txt/train.txt"]
    assert f"dev_f1 {report['dev_f1']}" in card and sha256 in card and "seconds" not in card


@pytest.mark.parametrize("pretraining", [0, 1])
def test_tagger_after_kill_within_epoch_resumes_to_same_weights(root: Path, tmp_path: Path, pretraining: int) -> None:
    """SIGKILL within an epoch: weights, moving average and history are those of an undisturbed run."""
    whole, broken = (
        recipe(root, tmp_path / run, epochs=2, dropout=0.1, hide=0.1, checkpoint_steps=3, ccby_epochs=pretraining)
        for run in ("whole", "broken")
    )
    train(whole)
    killed = Forked(tagger_killed_at, 23, dataclasses.asdict(broken))
    _, said = killed.communicate()
    assert killed.wait() == -signal.SIGKILL, said.decode()[-2000:]
    before = torch.load(tmp_path / "broken" / CHECKPOINT, weights_only=True)["now"]
    assert before["step"] == 21 and before["done"] > 0, "within an epoch"
    train(broken, resume=True)
    one, other = (torch.load(tmp_path / run / CHECKPOINT, weights_only=True) for run in ("whole", "broken"))
    assert one["now"] == other["now"] and one["now"]["epoch"] == 2 + pretraining and one["history"] == other["history"]
    assert len(one["history"]) == 2, "pretraining has no dev score"
    assert one["average"]["steps"] == other["average"]["steps"] == one["now"]["step"] - 2 * pretraining
    for first, second in ((one["net"], other["net"]), (one["average"]["values"], other["average"]["values"])):
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(one["net"]["coarse.linear.bias"], one["average"]["values"]["coarse.linear.bias"])


def test_tagger_training_on_gpu_learns_and_resumes_on_cpu(root: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    first = recipe(root, tmp_path, cpu=False, precision="bf16", accumulate=2)
    assert train(first)["dev_f1"] > 0.9
    assert train(dataclasses.replace(first, cpu=True), resume=True)["dev_f1"] > 0.9


def test_tagger_adapter_stores_moving_average(root: Path, tmp_path: Path) -> None:
    report = train(recipe(root, tmp_path, epochs=1))
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    saved = read_safetensors(Path(report["adapter"]) / ADAPTER_FILE)
    assert all(torch.equal(saved[name], value.half()) for name, value in state["average"]["values"].items())


def test_mean_of_an_early_the_best_and_the_last_epoch_is_the_adapter(root: Path, tmp_path: Path) -> None:
    given = recipe(root, tmp_path, mean_epoch=1, limit=24)
    report = train(given)
    kept, best, last, mean = (
        read_safetensors(tmp_path / folder / ADAPTER_FILE) for folder in (KEPT_EPOCH, "adapter", "last-epoch", "mean")
    )
    assert report["adapter"] == str(tmp_path / "mean")
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert all(torch.equal(last[name], value.half()) for name, value in state["average"]["values"].items())
    assert any(not torch.equal(kept[name], last[name]) for name in kept)
    for name, value in mean.items():
        expected = torch.stack([part[name].float() for part in (kept, best, last)]).mean(0)
        assert torch.equal(value, expected.half())
    about = read_manifest(tmp_path / "mean").training
    assert len(about["average_of"]) == 3 and len(about["history"]) == 3 and about["recipe"]["mean_epoch"] == 1
    assert trained_posts(tmp_path / "mean")[1] is not None


def test_tagger_lora_trains_factors_that_the_adapter_adds_to_the_base(root: Path, tmp_path: Path) -> None:
    report = train(recipe(root, tmp_path, epochs=1, lora=3, upper_layers=1))
    tensors = read_safetensors(Path(report["adapter"]) / ADAPTER_FILE)
    inside = {name for name in tensors if name.startswith("encoder.")}
    assert inside and all(".layer.1." in name and ".lora_" in name for name in inside)
    net, _, _ = load_adapter(Path(report["adapter"]))
    base = dict(load_encoder(str(root / "bert")).model.named_parameters())
    loaded = dict(net.encoder.named_parameters())
    changed = {name for name, value in base.items() if not torch.equal(value, loaded[name])}
    assert len(changed) == 6 and len(inside) == 12  # query, key, value, and three dense layers
    for name in changed:
        up, down = (tensors[f"encoder.{name[:-7]}.lora_{side}.default.weight"].float() for side in "BA")
        assert up.shape[1] == down.shape[0] == 3 and up.abs().sum() > 0
        assert torch.allclose(loaded[name], base[name] + up @ down, atol=1e-6)


@pytest.mark.parametrize("damage", ["no lora_A", "no lora_B", "other rank", "no layer"])
def test_tagger_adapter_with_lora_that_does_not_fit_raises_e212(root: Path, tmp_path: Path, damage: str) -> None:
    adapter = Path(train(recipe(root, tmp_path, epochs=1, limit=8, lora=3))["adapter"])
    manifest, tensors = read_manifest(adapter), read_safetensors(adapter / ADAPTER_FILE)
    name = next(name for name in tensors if ".lora_A." in name)
    if damage == "no layer":
        tensors[name.replace("layer.0", "layer.7")] = tensors[name].clone()
        tensors[name.replace("layer.0", "layer.7").replace("lora_A", "lora_B")] = tensors[name].T.contiguous()
    elif damage == "other rank":
        tensors[name] = tensors[name][:2].contiguous()
    else:
        del tensors[next(name for name in tensors if damage[3:] in name)]
    save_adapter(tmp_path / "bad", tensors, manifest.spec, manifest.encoder_sha256, None, {})
    with pytest.raises(NamepinError, match="E212: the adapter's encoder"):
        load_adapter(tmp_path / "bad")


def test_tagger_start_from_adapter_of_another_form_raises_e212(root: Path, tmp_path: Path) -> None:
    adapter = train(recipe(root, tmp_path / "lora", epochs=1, limit=8, lora=3))["adapter"]
    TaggerTask(recipe(root, tmp_path / "again", lora=3, start=adapter))
    with pytest.raises(NamepinError, match="E212.*lora_A"):
        TaggerTask(recipe(root, tmp_path / "other", start=adapter))


def test_tagger_mean_of_lora_factors_raises_e203_or_e212(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E203: mean_epoch"):
        TaggerTask(recipe(root, tmp_path, lora=3, mean_epoch=1))
    adapter = Path(train(recipe(root, tmp_path, epochs=1, limit=8, lora=3))["adapter"])
    with pytest.raises(NamepinError, match="E212: factors of LoRA"):
        soup([adapter, adapter], tmp_path / "mean")


def test_tagger_limit_takes_first_posts(root: Path, tmp_path: Path) -> None:
    task = TaggerTask(recipe(root, tmp_path, limit=5, swap=0.0, lower=0.0))
    assert {row.example.id for row in task.rows(random.Random(1))} == {f"train{number}" for number in range(5)}
    assert len(task.dev) == 24


@pytest.mark.parametrize(("setting", "written"), [("lower", str.lower), ("upper", str.upper)])
def test_tagger_rate_of_a_casing_writes_bare_posts_in_it_alone(
    root: Path, tmp_path: Path, setting: str, written: Callable[[str], str]
) -> None:
    casing = {"lower": 0.0, "upper": 0.0, setting: 1.0}
    task = TaggerTask(recipe(root, tmp_path, limit=4, swap=0.0, **casing))
    rows = [row for row in task.rows(random.Random(1)) if not row.informed]
    assert len(rows) == 4
    assert all(word == written(word) for row in rows for word in row.example.words)
    assert sum(len(row.example.spans) for row in rows) == sum(len(example.spans) for example in task.train)


def test_tagger_checkpoint_of_older_release_raises_e205(root: Path, tmp_path: Path) -> None:
    first = recipe(root, tmp_path, epochs=1, limit=8)
    train(first)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["now"]
    torch.save(state, tmp_path / CHECKPOINT)
    with pytest.raises(NamepinError, match=r"E205.*older release"):
        train(first, resume=True)


def test_tagger_resume_with_other_settings_raises_e205(root: Path, tmp_path: Path) -> None:
    first = recipe(root, tmp_path, epochs=1)
    train(first)
    with pytest.raises(NamepinError, match="E205.*alpha"):
        train(dataclasses.replace(first, alpha=0.3), resume=True)


def test_tagger_resume_with_other_data_raises_e205(root: Path, tmp_path: Path) -> None:
    first = recipe(root, tmp_path / "run", epochs=1)
    train(first)
    shutil.copytree(root, tmp_path / "other")
    text = tmp_path / "other" / "gmner" / "txt" / "train.txt"
    text.write_text(text.read_text().replace("IMGID:train1\n", "IMGID:train_one\n"))
    assert train(dataclasses.replace(first, data=str(root)), resume=True)["epoch"] == 1
    with pytest.raises(NamepinError, match=r"E205.*another gmner/txt/train\.txt"):
        train(dataclasses.replace(first, data=str(tmp_path / "other")), resume=True)


def test_tagger_in_two_processes_takes_steps_of_one(root: Path, tmp_path: Path) -> None:
    """Data parallel, and spread over both (FSDP), stopped after an epoch and resumed."""
    data = tmp_path / "data"
    for split, count in (("train", 20), ("dev", 8)):
        write_posts(data / "gmner", split, count)
    bert = shutil.copytree(root / "bert", tmp_path / "bert")
    config = json.loads((bert / "config.json").read_text())  # processes draw dropout of their own
    (bert / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.0}))
    given = settings_of("tagger", str(data), str(bert), tmp_path / "one")
    train(TypeAdapter(TaggerRecipe).validate_python(given | {"out": str(tmp_path / "one")}))
    process = Forked(two_processes.main, "tagger", str(data), str(bert), tmp_path)
    _, said = process.communicate()
    assert process.wait() == 0, said.decode()[-3000:]
    wanted = torch.load(tmp_path / "one" / CHECKPOINT, weights_only=True)
    for name in ("ddp", "fsdp"):
        found = torch.load(tmp_path / name / CHECKPOINT, weights_only=True)
        for one, two in zip(wanted["history"], found["history"], strict=True):
            assert two == pytest.approx(one, rel=1e-3, abs=1e-3)
        assert found["average"]["steps"] == wanted["average"]["steps"]
        values = found["average"]["values"]
        # AdamW steps by a gradient's sign where the gradient is next to nothing.
        assert (
            max(float((values[key] - value).abs().max()) for key, value in wanted["average"]["values"].items()) < 2e-2
        )
        assert DualTagger(TaggerConfig(adapter=str(tmp_path / name / "adapter")))


@pytest.mark.parametrize("scheme", ["4", "4/51"])
def test_tagger_training_in_gmner_scheme_sets_fine_labels_accordingly(root: Path, tmp_path: Path, scheme: str) -> None:
    report = train(recipe(root, tmp_path, scheme=scheme, epochs=1, crf_scope="all", knowledge=1.0))
    (tags,) = DualTagger(TaggerConfig(adapter=report["adapter"])).run([TagRequest(text="Oslo")], Media())
    assert all((m.fine_label is None) == (scheme == "4") for m in tags.mentions)


def test_tagger_training_in_fmnerg_scheme_uses_gold_fine_types(root: Path, tmp_path: Path) -> None:
    folder = root / "fmnerg" / "txt_fine"
    folder.mkdir(parents=True, exist_ok=True)
    text = "IMGID:1\nAda\tB-person\tB-common_person\nBell\tI-person\tI-common_person\n\nIMGID:2\nMGM\tB-art\tB-music\n"
    for split in ("train", "dev"):
        (folder / f"{split}.txt").write_text(text)
    spec = TaggerSpec(scheme="8/51")
    people, art = read_fmnerg(root / "fmnerg", "train", spec)
    assert people.spans == (Span(0, 2, "person", {"person_other": 1.0}),)
    assert art.spans == (Span(0, 1, "art", {"music": 1.0}),)
    report = train(recipe(root, tmp_path, scheme="8/51", dataset="fmnerg", epochs=1, knowledge=0.0, swap=0.0))
    assert DualTagger(TaggerConfig(adapter=report["adapter"], spans="fine")).spec.scheme == "8/51"


def test_tagger_training_of_fine_path_alone_reports_fine_f1(root: Path, tmp_path: Path) -> None:
    """GEM's w/o-MGP: nobody trains the coarse path, so that it cannot choose the epoch."""
    fine = {"PER": "person\t{0}-actor", "LOC": "location\t{0}-city"}
    folder = tmp_path / "data" / "fmnerg" / "txt_fine"
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        text = (root / "gmner" / "txt" / f"{split}.txt").read_text()
        with_fine = re.sub(r"([BI])-(PER|LOC)", lambda tag: f"{tag[1]}-{fine[tag[2]].format(tag[1])}", text)
        (folder / f"{split}.txt").write_text(re.sub(r"\tO$", "\tO\tO", with_fine, flags=re.M))
    given = {"alpha": 0.0, "beta": 0.0, "pooled": 0.0, "knowledge": 0.0, "scheme": "8/51", "dataset": "fmnerg"}
    report = train(recipe(tmp_path / "data", tmp_path / "run", encoder=str(root / "bert"), epochs=4, **given))
    assert report["dev_f1"] > 0.8
    tool = DualTagger(TaggerConfig(adapter=report["adapter"], spans="fine"))
    [tags] = tool.run([TagRequest(text="Ada Bell is in Oslo now")], Media())
    assert [m.fine_label for m in tags.mentions] == ["actor", "city"]


@pytest.mark.parametrize("settings", [{"scheme": "5/51"}, {"dataset": "conll"}, {"dropout": 2}, {"epochs": 0}])
def test_tagger_recipe_with_invalid_settings_raises_validation_error(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TaggerRecipe).validate_python(settings)


def test_tagger_training_without_data_raises_e130(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        train(TaggerRecipe(data=str(tmp_path), out=str(tmp_path)))


@pytest.mark.parametrize(
    ("split", "lines", "found"),
    [
        ("train", "IMGID:1\nAda\tB-PET\n", r"E132.*train\.txt:2"),
        ("train", "IMGID:1\nAda B-PER\n", r"E131.*BIO tags after tabs.*train\.txt:2"),
        ("dev", "IMGID:1\nAda\tB-PER\nBell\tE-PER\n", r"E131.*BIO tags after tabs.*dev\.txt:2"),
        ("dev", "", "E139.*holds no post"),
    ],
)
def test_load_data_with_malformed_split_raises_coded_error(tmp_path: Path, split: str, lines: str, found: str) -> None:
    for name in ("train", "dev"):
        write_posts(tmp_path / "gmner", name, 4)
    (tmp_path / "gmner" / "txt" / f"{split}.txt").write_text(lines)
    with pytest.raises(NamepinError) as error:
        load_data(tmp_path, recipe(tmp_path, tmp_path / "out"))
    assert re.search(found, str(error.value))


def test_soup_equals_weighted_mean_and_tags(root: Path, tmp_path: Path) -> None:
    adapters = []
    for seed in (1, 2):
        adapters.append(Path(train(recipe(root, tmp_path / str(seed), epochs=1, seed=seed))["adapter"]))
    soup(adapters, tmp_path / "soup", [3, 1])
    one, two, mean = (read_safetensors(folder / ADAPTER_FILE) for folder in (*adapters, tmp_path / "soup"))
    name = "coarse.linear.weight"
    assert torch.allclose(mean[name].float(), 0.75 * one[name].float() + 0.25 * two[name].float(), atol=1e-3)
    assert DualTagger(TaggerConfig(adapter=str(tmp_path / "soup"))).run([TagRequest(text="Oslo")], Media())
    other = Path(train(recipe(root, tmp_path / "4", epochs=1, scheme="4"))["adapter"])
    with pytest.raises(NamepinError, match="E212"):
        soup([other, *adapters], tmp_path / "bad")
