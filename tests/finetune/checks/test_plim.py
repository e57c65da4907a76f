"""PLIM's check on posts made here: two arms, kept runs, and the paired comparison without annotated posts."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from namepin.finetune.checks import plim as plim_check
from namepin.finetune.recipes.tagger import TaggerRecipe
from support import tagger_posts as recipes
from support import tiny_encoders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    recipes.write_posts(tmp_path / "gmner", "train", 48)
    recipes.write_posts(tmp_path / "gmner", "dev", 12)
    (tmp_path / "plim").mkdir()
    rows = [{"id": name, "annotation": "none"} for name in ("dev3", "train1", "of another split")]
    (tmp_path / "plim" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_encoders.save_tiny_bert(tmp_path / "bert")
    return tmp_path


def test_plim_check_arms_take_equal_number_of_updates(tmp_path: Path) -> None:
    bare, plim = (plim_check.recipe(arm, 1, "data", tmp_path, 1) for arm in ("bare", "plim"))
    assert bare.epochs * (1 + bare.knowledge) == plim.epochs * (1 + plim.knowledge) == plim_check.EPOCHS
    same = dataclasses.replace(plim, knowledge=0.0, epochs=bare.epochs, out=bare.out)
    assert same == bare


def test_plim_check_reuses_finished_runs_and_prints_gains(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    full = plim_check.recipe

    def small(arm: str, seed: int, data: str, out: Path, threads: int) -> TaggerRecipe:
        return dataclasses.replace(
            full(arm, seed, data, out, threads), encoder=str(root / "bert"), batch_size=8, lr_encoder=2e-3, ema=0.9
        )

    monkeypatch.setattr(plim_check, "recipe", small)
    asked = ["--data", str(root), "--out", str(tmp_path / "out"), "--seeds", "2", "--threads", "1"]
    plim_check.main(asked)
    said = capsys.readouterr().out
    assert said.count("gain ") == 4 and "part, 11 posts" in said
    assert "last epoch, all of GMNER v2.0 dev" in said and said.count("(F1, 2 seeds)") == 5
    monkeypatch.setattr(plim_check, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    plim_check.main(asked)
    again = capsys.readouterr().out
    assert [line for line in said.splitlines() if "seed" in line and "epoch" not in line] == [
        line for line in again.splitlines() if "seed" in line and "epoch" not in line
    ]
    torch.set_num_threads(threads)
