"""The extractor's recipes on the command line: the stage chooses the recipe and its defaults."""

import pytest
from typer.testing import CliRunner

from namepin.agent.cli.main import app
from namepin.agent.workflows.recipe_help import describe_recipe
from namepin.agent.workflows.recipes import load_recipe, recipe_kinds
from namepin.finetune.recipes.extractor import GrpoRecipe, SftRecipe
from namepin.tools.errors import NamepinError


def test_stage_chooses_recipe_with_its_own_defaults() -> None:
    kinds = recipe_kinds("extractor")
    sft, grpo = (load_recipe(kinds, None, ["root=x", *more]) for more in ([], ["stage=grpo", "answers=4"]))
    assert isinstance(sft, SftRecipe) and (sft.lr, sft.epochs, sft.batch_size, sft.shift) == (5e-4, 10, 16, 0.1)
    assert isinstance(grpo, GrpoRecipe) and (grpo.lr, grpo.answers, grpo.dropout) == (1e-5, 4, 0.0)


def test_unknown_stage_raises_e203_with_the_nearest() -> None:
    with pytest.raises(NamepinError, match=r"E203: no recipe has the stage 'grpp'.*grpo.*stages: sft, grpo"):
        load_recipe(recipe_kinds("extractor"), None, ["root=x", "stage=grpp"])
    with pytest.raises(NamepinError, match="E202.*'answers'"):
        load_recipe(recipe_kinds("extractor"), None, ["root=x", "answers=4"])


def test_help_describes_every_setting_of_both_stages() -> None:
    settings = describe_recipe("extractor")
    assert settings[0].name == "stage" and settings[0].values == "sft|grpo"
    assert all(setting.text for setting in settings), "every setting says what it is"
    shown = CliRunner().invoke(app, ["finetune", "extractor", "--help"]).output
    assert "penalty_visual (float, default 0.5, with stage grpo)" in shown and "whole (bool" in shown
