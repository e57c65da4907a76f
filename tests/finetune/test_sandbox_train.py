"""The sandbox's nets: every stage is a command that a person can type, and what is packed is what was trained."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agent.recipes import load_recipe
from finetune.sandbox.nets import make_nets
from finetune.sandbox.pack import pack
from finetune.sandbox.train import STAGES, command
from finetune.sandbox.write import write_world
from tools.checkpoints import load_encoder
from tools.pretrained import weights_sha256
from tools.sam_checkpoint import load_sam


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sandbox")
    write_world(out / "world", {"train": 30, "dev": 2, "test": 2}, 1, quiet=True)
    make_nets(out / "world", out / "nets")
    return out


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_command_of_a_recipe(name: str) -> None:
    words = command(name, Path("out/sandbox"), 3)
    assert (
        words[:3] == ["namepin", "finetune", STAGES[name].tool] and words[3] == "--config" and words[-1] == "--resume"
    )
    recipes = import_module(f"finetune.{STAGES[name].tool}").RECIPES
    recipe = load_recipe(recipes, Path(words[4]), words[6:-1:2])
    assert (recipe.out, recipe.seed, recipe.dataset) == (f"out/sandbox/{name}", 3, "sandbox")


def test_a_stage_begins_with_what_was_made_before_it() -> None:
    names = list(STAGES)
    for name, stage in STAGES.items():
        assert all(names.index(one) < names.index(name) for one in stage.after)
        given = " ".join(command(name, Path("X"), 1))
        assert all(f"X/{one}/weights" in given for one in stage.after)


def test_nets_are_drawn_from_the_seed_once(nets: Path, tmp_path: Path) -> None:
    before = weights_sha256(nets / "nets/sam")
    make_nets(nets / "world", nets / "nets", 2)
    assert weights_sha256(nets / "nets/sam") == before, "what is there stays"
    make_nets(nets / "world", tmp_path, 2)
    assert weights_sha256(tmp_path / "sam") != before


def test_packed_weights_are_the_trained_ones_in_half_precision(nets: Path) -> None:
    (nets / "segmenter").mkdir(exist_ok=True)
    (nets / "segmenter" / "weights").symlink_to(nets / "nets" / "sam")
    target = nets / "sandbox"
    size = pack(nets, target)
    assert size == sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    whole, half = (load_file(folder / "model.safetensors") for folder in (nets / "nets" / "sam", target / "segmenter"))
    assert all(torch.equal(half[key], value.half()) for key, value in whole.items() if value.is_floating_point())
    net = load_sam(target / "segmenter", weights_sha256(target / "segmenter")).net
    assert {value.dtype for value in net.parameters()} == {torch.float32}


def test_the_taggers_words_are_pieces_of_names_too(nets: Path) -> None:
    encoder = load_encoder(str(nets / "nets" / "bert"))
    words = encoder.tokenizer.tokenize("Named entities: 1. Tutapa (ORGANIZATION/sports_team)")
    assert "[UNK]" not in words and "entities" in words
