"""Profile laptop end to end: tiny checkpoints in the published form, and what `pull` and `doctor` say of it."""

from pathlib import Path

import pytest
from PIL import Image

from namepin import Namepin
from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.pull import settings_of, wanted_of
from namepin.tools.loading.pins import pinned_revision
from support import tiny_owlv2
from support.paths import ROOT
from support.tiny_sam2 import tiny_net

TEXT = "So proud of Eileen Collins, the first woman to command a Space Shuttle for NASA"


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("laptop")
    tiny_owlv2.save(folder / "owlv2")
    tiny_net().save_pretrained(folder / "sam2")
    return {
        "matcher.owlv2.weights": str(folder / "owlv2"),
        "matcher.owlv2.image_size": 64,
        "segmenter.sam.weights": str(folder / "sam2"),
    }


def test_laptop_profile_finds_faces_and_things_and_masks_both(overrides: dict[str, object]) -> None:
    # Random weights see everything a little: with a low threshold every thing is found.
    settings = load_settings("laptop", overrides={**overrides, "matcher.threshold": 0.01}, environment={})
    found = Namepin(settings).extract(TEXT, image=str(ROOT / "examples" / "astronaut.jpg"))
    entities = {entity.text: entity for entity in found.entities}
    collins, shuttle = entities["Eileen Collins"], entities["Space Shuttle"]
    assert collins.groundable and "face" in str(collins.evidence) and collins.mask is not None
    assert shuttle.groundable and "detector sees it" in str(shuttle.evidence) and shuttle.peak is not None
    assert found.status == "ok" and {"matcher", "tracer", "segmenter"} <= set(shuttle.provenance)
    for absent_below, shuttle_is_there in ((0.0, None), (0.99, False)):
        chosen = {**overrides, "matcher.threshold": 0.999, "matcher.absent_below": absent_below}
        pin = Namepin(load_settings("laptop", overrides=chosen, environment={}))
        again = {e.text: e for e in pin.extract(TEXT, image=str(ROOT / "examples" / "astronaut.jpg")).entities}
        assert again["Space Shuttle"].groundable is shuttle_is_there and again["NASA"].groundable is None
        assert again["Eileen Collins"].box == collins.box


def test_laptop_profile_without_things_leaves_sam_alone(
    overrides: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("namepin.tools.models.sam2.Sam2._fit", lambda *_: pytest.fail("SAM 2 encoded a picture"))
    settings = load_settings("laptop", overrides=overrides, environment={})
    found = Namepin(settings).extract("Emma Watson smiles", Image.open(ROOT / "examples" / "astronaut.jpg"))
    assert any(entity.mask for entity in found.entities)


def test_laptop_profile_names_two_repositories_of_which_one_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMEPIN_LOCK", str(tmp_path / "lock.json"))
    wanted, elsewhere = wanted_of("laptop", settings_of("laptop"))
    names = [one.name for one in wanted]
    assert names == ["google/owlv2-base-patch16-ensemble", "facebook/sam2.1-hiera-tiny"] and elsewhere == {}
    assert [len(pinned_revision(name) or "") for name in names] == [40, 0]
