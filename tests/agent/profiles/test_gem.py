"""The GEM profile end to end with real tools on tiny random checkpoints, and the report of `doctor`."""

from pathlib import Path
from typing import Any

import pytest

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.agent.workflows import checkpoint_sizes as published
from namepin.agent.workflows import doctor
from namepin.agent.workflows.doctor import Check, examine
from support import tiny_gem
from support.scripted_chat import Server, serve

EXPLANATION = '{"explanation": "Eileen Collins is an astronaut of NASA."}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gem")


@pytest.fixture(scope="module")
def overrides(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return tiny_gem.build(folder)


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NAMEPIN_CACHE_DIR", str(folder / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def with_server(overrides: dict[str, Any], server: Server) -> dict[str, Any]:
    return overrides | {"knowledge": {"model": "tiny", "base_url": server.url, "retries": 0, "cache": False}}


def test_gem_extract_with_picture_runs_every_tool(overrides: dict[str, Any], folder: Path) -> None:
    picture = tiny_gem.pictures(folder)["collins"]
    with serve(EXPLANATION) as server:
        pin = Namepin(load_settings("gem", overrides=with_server(overrides, server), environment={}))
        found = pin.extract({"id": "1", "text": tiny_gem.TEXTS["collins"], "image": str(picture)})
    assert found.status == "ok" and found.entities
    caption = server.bodies[0]["messages"][-1]["content"]
    assert "<caption>" in caption
    assert {"captioner", "knowledge", "tagger", "matcher"} <= set(found.entities[0].provenance)
    assert set(found.timings_ms) >= {"captioner", "knowledge", "tagger", "matcher"}
    for entity in found.entities:
        assert entity.reranked == (entity.entropy is not None and entity.entropy > tiny_gem.GAMMA)
        assert entity.groundable == (entity.match_score is not None and entity.match_score >= tiny_gem.THRESHOLD)
        if entity.peak:
            assert {"tracer", "segmenter"} <= set(entity.provenance)
            assert entity.box and entity.mask and entity.mask.size == (48, 64)


def test_gem_with_other_reranker_and_captioner_reranks_entities(overrides: dict[str, Any], folder: Path) -> None:
    picture = tiny_gem.pictures(folder)["collins"]
    tiny_gem.tiny_rerankers.save_llama(folder / "llama")
    small = {"device": "cpu", "dtype": "float32"}
    changed = {"reranker": {"backend": "text", "weights": "llama", **small}}
    settings = load_settings("gem", overrides=overrides | changed | {"gate": {"gamma": 0.0}}, environment={},
                             assignments=["reranker.quantization=none"])  # fmt: skip
    entities = Namepin(settings).extract(tiny_gem.TEXTS["collins"], image=str(picture)).entities
    assert entities and all(entity.reranked for entity in entities)


def test_gem_gate_gamma_selects_reranked_entities(overrides: dict[str, Any]) -> None:
    def run(gamma: float) -> list[bool]:
        settings = load_settings("gem", overrides=overrides | {"gate": {"gamma": gamma}}, environment={})
        return [entity.reranked for entity in Namepin(settings).extract(tiny_gem.TEXTS["collins"]).entities]

    assert run(0.0) and all(run(0.0)) and not any(run(5.0))


def test_doctor_with_missing_checkpoints_reports_sizes_without_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any) -> None:
        raise AssertionError("doctor asked the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.setattr(published.NeededWeights, "here", property(lambda self: False))
    monkeypatch.setattr(doctor, "_gpu_gb", lambda: 24.0)
    report = {check.name: check for check in examine(load_settings("gem", environment={}))}
    reranker = report["reranker"]
    assert reranker.state == "missing" and reranker.mend == "namepin pull gem"
    assert "14.1 GB to download" in reranker.detail and "4.0 GB in 4-bit; of 24 GB on the GPU: fits" in reranker.detail
    assert reranker.megabytes == pytest.approx(7_063_427_072 * 2 / 2**20, rel=1e-3)
    for role in ("captioner", "matcher", "tracer", "segmenter"):
        assert report[role].state == "missing" and report[role].mend == "namepin pull gem"
    assert report["knowledge"].state == "missing" and "OPENAI_API_KEY" in report["knowledge"].detail
    assert report["memory"].state == "ok" and "17.2 GB together" in report["memory"].detail
    assert "trial" not in report


def test_doctor_with_small_gpu_reports_memory_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published.NeededWeights, "here", property(lambda self: False))
    monkeypatch.setattr(doctor, "_gpu_gb", lambda: 8.0)
    report = {check.name: check for check in examine(load_settings("gem", environment={}))}
    assert report["memory"].state == "missing" and "only 8 GB" in report["memory"].detail


def test_doctor_with_tiny_checkpoints_reports_nothing_missing(overrides: dict[str, Any]) -> None:
    settings = load_settings("gem", overrides=overrides, environment={})
    report: dict[str, Check] = {check.name: check for check in examine(settings)}
    assert [name for name, check in report.items() if check.state == "missing"] == []
    assert report["trial"].detail.startswith("a post with a picture: ok")
