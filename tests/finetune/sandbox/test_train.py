"""The sandbox's nets: every run is a command that a person can type, and what is packed is what was trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from namepin.agent.workflows.recipes import load_recipe, recipe_kinds
from namepin.finetune.sandbox import train as module
from namepin.finetune.sandbox.nets import copy_vision_encoder, make_nets
from namepin.finetune.sandbox.pack import pack
from namepin.finetune.sandbox.train import PRETRAINED, RUNS, command, main, train
from namepin.finetune.sandbox.write import write_world
from namepin.tools.loading.encoder import load_encoder
from namepin.tools.loading.pretrained import weights_sha256
from namepin.tools.models.sam_checkpoint import load_sam


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sandbox")
    write_world(out / "world", {"train": 30, "dev": 2, "test": 2}, 1, quiet=True)
    make_nets(out / "world", out / "nets")
    return out


@pytest.mark.parametrize("name", RUNS)
def test_sandbox_run_is_finetune_command_of_recipe(name: str) -> None:
    words = command(name, Path("out/sandbox"), 3)
    assert words[:3] == ["namepin", "finetune", RUNS[name].tool] and words[3] == "--config" and words[-1] == "--resume"
    recipes = recipe_kinds(RUNS[name].tool)
    recipe = load_recipe(recipes, Path(words[4]), words[6:-1:2])
    assert (recipe.out, recipe.seed) == (f"out/sandbox/{name}", 3) and recipe.dataset in ("sandbox", "regions")


def test_sandbox_run_starts_after_runs_it_begins_with() -> None:
    names = list(RUNS)
    for name, recipe_run in RUNS.items():
        assert all(names.index(one) < names.index(name) for one in recipe_run.after)
        given = " ".join(command(name, Path("X"), 1))
        assert all(f"X/{one}/weights" in given or f"X/nets/llava-{one}" in given for one in recipe_run.after)


def test_make_nets_keeps_existing_nets_and_depends_on_seed(nets: Path, tmp_path: Path) -> None:
    before = weights_sha256(nets / "nets/sam")
    make_nets(nets / "world", nets / "nets", 2)
    assert weights_sha256(nets / "nets/sam") == before, "what is there stays"
    make_nets(nets / "world", tmp_path, 2)
    assert weights_sha256(tmp_path / "sam") != before


def test_make_nets_redraws_degenerate_initial_weights(nets: Path) -> None:
    sam = load_file(nets / "nets" / "sam" / "model.safetensors")
    places = sam["shared_image_embedding.positional_embedding"]
    assert 0.5 < places.std() < 2, "published SAMs have unit normal ones; neighbours are alike"
    blip = load_file(nets / "nets" / "blip" / "model.safetensors")
    assert blip["vision_model.encoder.layers.0.self_attn.qkv.weight"].std() > 0.03


def test_copy_vision_encoder_aligns_llava_features_with_blip(nets: Path) -> None:
    """Apart from the norm that only CLIP has, it sees what the BLIP sees."""
    from transformers import BlipForImageTextRetrieval, LlavaForConditionalGeneration

    copy_vision_encoder(nets / "nets/blip", nets / "nets/llava", nets / "borrowed")
    blip: Any = BlipForImageTextRetrieval.from_pretrained(nets / "nets/blip")  # in evaluation mode
    llava: Any = LlavaForConditionalGeneration.from_pretrained(nets / "borrowed")
    before: Any = LlavaForConditionalGeneration.from_pretrained(nets / "nets/llava")
    pictures = torch.rand(3, 3, 8, 8).repeat_interleave(12, 2).repeat_interleave(12, 3)
    with torch.inference_mode():
        seen = blip.vision_model(pictures).last_hidden_state[:, 1:].flatten(0, 1)
        for net, least, most in ((llava, 0.9, 1.01), (before, -1, 0.5)):
            tower = net.model.vision_tower
            said = tower.post_layernorm(tower(pictures).last_hidden_state)[:, 1:].flatten(0, 1)
            assert least < torch.cosine_similarity(seen, said).mean() < most


def test_pack_stores_trained_weights_in_half_precision(nets: Path, tmp_path: Path) -> None:
    shutil.copytree(nets, tmp_path / "run")
    shutil.copytree(nets / "nets" / "sam", tmp_path / "run" / "segmenter" / "weights")
    target = tmp_path / "sandbox"
    size = pack(tmp_path / "run", target)
    assert size == sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    whole, half = (load_file(folder / "model.safetensors") for folder in (nets / "nets" / "sam", target / "segmenter"))
    assert all(torch.equal(half[key], value.half()) for key, value in whole.items() if value.is_floating_point())
    net = load_sam(target / "segmenter", weights_sha256(target / "segmenter")).net
    assert {value.dtype for value in net.parameters()} == {torch.float32}


def test_sandbox_tokenizer_splits_invented_names_without_unknown(nets: Path) -> None:
    encoder = load_encoder(str(nets / "nets" / "bert"))
    words = encoder.tokenizer.tokenize("Named entities: 1. Tutapa (ORGANIZATION/sports_team)")
    assert "[UNK]" not in words and "entities" in words


def test_sandbox_second_seed_reuses_pretraining(nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(module, "_run_recipe", lambda name, out, seed, first: ran.append(name))
    with pytest.raises(SystemExit, match="seeing is not there: train"):
        train(tmp_path / "early", 2, list(RUNS), nets)
    first = tmp_path / "one"
    shutil.copytree(nets, first)
    for name in PRETRAINED:
        (first / name / "weights").mkdir(parents=True)
    train(tmp_path / "two", 2, list(RUNS), first)
    assert sorted(ran) == sorted(set(RUNS) - set(PRETRAINED))
    assert (tmp_path / "two/world/sandbox.json").is_file() and not (tmp_path / "two/nets").is_symlink()
    assert all((tmp_path / "two" / name).resolve() == first / name for name in PRETRAINED)


def test_sandbox_train_after_early_kill_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the world was written, while nets were drawn, while a LLaVA borrowed eyes, while it was noted as done."""
    monkeypatch.setattr(module, "POSTS", {"train": 20, "dev": 2, "test": 2})
    ran: list[str] = []
    monkeypatch.setattr(module, "run", lambda words, log: ran.append(log.stem))
    (tmp_path / "world/txt").mkdir(parents=True)
    (tmp_path / "nets/bert").mkdir(parents=True)
    (tmp_path / "nets/bert/config.json").write_text("{")
    (tmp_path / "tagger").mkdir()
    (tmp_path / "tagger/done.json").write_text('{"comm')
    for _ in range(2):
        main([str(tmp_path), "--only", "tagger"])
    assert ran == ["tagger"]
    assert load_encoder(str(tmp_path / "nets/bert"))
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent/config.json").write_text("{")
    copy_vision_encoder(tmp_path / "nets/blip", tmp_path / "nets/llava", tmp_path / "lent")
    assert weights_sha256(tmp_path / "lent") != weights_sha256(tmp_path / "nets/llava")


def test_make_nets_after_kill_leaves_no_broken_net(nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path, said: object) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("namepin.finetune.sandbox.nets._sam", killed)
        make_nets(nets / "world", tmp_path)
    assert not (tmp_path / "sam").exists()
    make_nets(nets / "world", tmp_path)
    assert weights_sha256(tmp_path / "sam") == weights_sha256(nets / "nets/sam") and not list(tmp_path.glob("*.*"))


def test_sandbox_train_with_foreign_files_prints_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "out/world").mkdir(parents=True)
    (tmp_path / "out/world/mine.txt").touch()
    for out, code in ((tmp_path / "out", "E501"), (tmp_path / "file", "E500")):
        with pytest.raises(SystemExit) as ended:
            main([str(out)])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith(f"error: {code}") and said.count("\n") == 1
    assert (tmp_path / "out/world/mine.txt").exists()
