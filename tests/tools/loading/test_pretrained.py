"""Finding and sharing checkpoints; damaged ones are tested with the models that read them."""

import gc
import json
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import pytest

from namepin.tools.base import file_sha256
from namepin.tools.caching.lru import LruCache
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.loading.pretrained import locate, normalisation, shared_model, weights_sha256


def test_locate_with_hub_refusal_raises_e213_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        raise ConnectionError("no route to host\nand a page of advice")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(NamepinError, match="E213.*no route to host.*namepin pull owner/name") as raised:
        locate("owner/name")
    assert raised.value.exit_code == Exit.UNREACHABLE
    assert "advice" not in str(raised.value)


def test_locate_of_hub_name_fetches_revision_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns[-1]))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert locate("owner/name", "abc") == tmp_path
    (tmp_path / "model.safetensors").touch()
    locate("owner/name")
    assert asked == [
        ("owner/name", "abc", "model*.safetensors"),
        ("owner/name", "abc", "pytorch_model*.bin"),
        ("owner/name", None, "model*.safetensors"),
    ]


@pytest.mark.parametrize("weights", ["nowhere.pth", "./owner/name", "/a/b", "name", "a/b/c"])
def test_locate_of_missing_path_raises_e210(weights: str) -> None:
    with pytest.raises(NamepinError, match="E210"):
        locate(weights)


def test_weights_sha256_covers_every_shard(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_text(name)
    both = weights_sha256(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text("not read, since there is safetensors")
    assert weights_sha256(tmp_path) == both
    (tmp_path / "model-00002-of-00002.safetensors").write_text("changed")
    assert weights_sha256(tmp_path) != both
    assert weights_sha256(tmp_path / "pytorch_model.bin") == file_sha256(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}),
        ("processor_config.json", {"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}}),
    ],
)
def test_normalisation_reads_mean_and_std_of_folder(tmp_path: Path, file: str, said: dict[str, object]) -> None:
    silent, _ = normalisation(tmp_path)
    (tmp_path / file).write_text(json.dumps(said))
    assert normalisation(tmp_path) == ((0.5,) * 3, (0.25,) * 3) != silent


@dataclass(frozen=True)
class Settings:
    weights: str
    size: int = 1
    revision: str | None = None


class Model:
    pass


def test_shared_model_with_equal_settings_is_one_object_while_in_use(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    file.write_text("weights")
    made: list[str] = []

    def load(settings: Settings, path: Path, sha256: str) -> Model:
        made.append(sha256)
        return Model()

    first = shared_model(Settings(str(file)), load)
    assert shared_model(Settings(str(file)), load) is first
    assert shared_model(Settings(str(file), size=2), load) is not first
    file.write_text("others")
    assert shared_model(Settings(str(file)), load) is not first
    assert len(made) == 3
    del first
    gc.collect()
    file.write_text("weights")
    shared_model(Settings(str(file)), load)
    assert len(made) == 4


def test_lru_cache_beyond_capacity_evicts_least_recently_used() -> None:
    recent: LruCache[str, int] = LruCache(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)
    assert len(recent) == 2
    nothing: LruCache[str, int] = LruCache(0)
    nothing.put("a", 1)
    assert nothing.get("a") is None
