"""A tagger's calibration: the curve, its file, and the confidence that the tagger gives with it."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from namepin.agent.config.settings import load_settings
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.loading.encoder import load_encoder
from namepin.tools.loading.shipped import WEIGHTS
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import Manifest, TaggerSpec, build_net, read_manifest, save_adapter
from namepin.tools.tagger.calibration import CALIBRATION_FILE, Calibration, read_calibration
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from support import tiny_encoders

SETTINGS = {"spans": "coarse", "merge": "logsumexp", "lexicon": 0.0}


def curve(*points: tuple[float, float], weights: str = "w", **changed: object) -> Calibration:
    return Calibration.model_validate({"weights_sha256": weights, **SETTINGS, "points": points, **changed})


@pytest.mark.parametrize(
    ("score", "probability"),
    [(0.0, 0.1), (0.2, 0.1), (0.3, 0.2), (0.4, 0.3), (0.6, 0.6), (0.8, 0.9), (1.0, 0.9)],
)
def test_calibration_probability_is_linear_between_points_and_flat_beyond(score: float, probability: float) -> None:
    assert curve((0.2, 0.1), (0.4, 0.3), (0.8, 0.9)).probability(score) == probability


@pytest.mark.parametrize("points", [(), ((0.4, 0.2), (0.2, 0.3)), ((0.2, 0.5), (0.4, 0.3)), ((0.2, 1.5),)])
def test_calibration_without_rising_points_raises_validation_error(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValidationError):
        curve(*points)


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, Manifest]:
    base = load_encoder(tiny_encoders.save_tiny_bert(tmp_path / "bert"))
    spec = TaggerSpec.model_validate({"encoder": str(tmp_path / "bert"), "input": {"max_pieces": 64, "overlap": 16}})
    torch.manual_seed(0)
    net = build_net(spec, base.model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = tmp_path / "adapter"
    return folder, save_adapter(folder, dict(net.named_parameters()), spec, base.sha256, None, {})


def mentions(folder: Path, **settings: object) -> list[dict[str, object]]:
    tagger = DualTagger(TaggerConfig.model_validate({"adapter": str(folder), **settings}))
    (tags,) = tagger.run([TagRequest(text="So proud of Eileen Collins in New York")], Media())
    return [mention.model_dump(mode="json") for mention in tags.mentions]


def test_tagger_with_calibration_gives_each_mention_confidence(adapter: tuple[Path, Manifest]) -> None:
    folder, manifest = adapter
    before = mentions(folder)
    assert before and not any("confidence" in mention for mention in before)
    calibration = curve((0.0, 0.25), (1.0, 0.75), weights=manifest.weights_sha256)
    (folder / CALIBRATION_FILE).write_text(calibration.model_dump_json(), "utf-8")
    after = mentions(folder)
    assert [{k: v for k, v in mention.items() if k != "confidence"} for mention in after] == before
    for mention in after:
        scores = mention["scores"]
        assert isinstance(scores, dict)
        assert mention["confidence"] == calibration.probability(scores[mention["fine_label"]])
    assert not any("confidence" in mention for mention in mentions(folder, lexicon=0.5)), "fitted without the lexicon"


def test_tagger_fingerprint_with_calibration_differs(adapter: tuple[Path, Manifest]) -> None:
    folder, manifest = adapter
    before = DualTagger(TaggerConfig(adapter=str(folder))).fingerprint
    calibration = curve((0.0, 0.25), (1.0, 0.75), weights=manifest.weights_sha256)
    (folder / CALIBRATION_FILE).write_text(calibration.model_dump_json(), "utf-8")
    assert DualTagger(TaggerConfig(adapter=str(folder))).fingerprint != before
    assert DualTagger(TaggerConfig(adapter=str(folder), lexicon=0.5)).fingerprint != before


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]"])
def test_read_calibration_of_damaged_file_raises_e212_with_command(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CALIBRATION_FILE).write_bytes(content)
    with pytest.raises(NamepinError, match="namepin.finetune.tagger.calibrate") as error:
        read_calibration(tmp_path, "w")
    assert error.value.code == "E212"


def test_read_calibration_of_other_weights_raises_with_command(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(curve((0.5, 0.5)).model_dump_json(), "utf-8")
    assert read_calibration(tmp_path, "w") == curve((0.5, 0.5))
    with pytest.raises(NamepinError, match="other weights.*namepin.finetune.tagger.calibrate"):
        read_calibration(tmp_path, "another training")
    assert read_calibration(tmp_path / "nowhere", "w") is None


def test_shipped_calibration_of_starter_adapter_beats_scores() -> None:
    folder = WEIGHTS / "starter-tagger"
    starter = load_settings("starter", environment={}).tools["tagger"].config
    assert isinstance(starter, TaggerConfig)
    shipped = read_calibration(folder, read_manifest(folder).weights_sha256)
    assert shipped and shipped.fits(starter) and shipped.fit["split"] == "dev"
    assert shipped.fit["after"]["ece"] <= 0.03 < shipped.fit["before"]["ece"]
    assert shipped.fit["after"]["log_loss"] < shipped.fit["before"]["log_loss"]
    assert shipped.fit["chosen"]["precision"] >= 0.70 and shipped.fit["chosen"]["shown"] >= 0.6
    assert "/" not in json.dumps(dict(shipped.fit))
