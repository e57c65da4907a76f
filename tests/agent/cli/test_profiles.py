"""`namepin profiles`, and the help about settings."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import typer

from namepin.agent.cli.main import app
from namepin.agent.config.layers import profile_names
from namepin.agent.workflows.recipe_help import describe_recipe
from namepin.agent.workflows.recipes import RECIPE_MODULES
from support.cli import Cli


def test_profiles_lists_every_shipped_profile_with_its_tools(cli: Cli) -> None:
    shown = cli("profiles")
    listed = json.loads(cli("profiles", "--json").out)
    assert [row["name"] for row in listed] == profile_names()
    assert all(row["about"] and row["tools"] and row["name"] in shown.out for row in listed)
    starter = next(row for row in listed if row["name"] == "starter")
    assert starter["about"] == "The embedded default: any laptop, offline, no key"


def test_recipe_help_of_every_tool_describes_every_setting() -> None:
    for tool in RECIPE_MODULES:
        settings = describe_recipe(tool)
        assert [setting.name for setting in settings if not setting.text] == [], tool
        assert {"epochs", "seed", "out"} <= {setting.name for setting in settings}, tool


def test_finetune_help_lists_settings_with_default_and_allowed_values(cli: Cli) -> None:
    shown = cli("finetune", "tagger", "--help").out
    assert 'precision (no|bf16|fp16, default "bf16")' in shown
    assert 'backend (blip|blip2|llava, default "blip")' in cli("finetune", "matcher", "--help").out
    assert "Example: namepin finetune tagger" in shown


def test_help_of_a_command_has_an_example_and_the_profiles(cli: Cli) -> None:
    shown = " ".join(cli("extract", "--help").out.split())
    assert "Example: namepin extract" in shown
    assert all(name in shown for name in profile_names())


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a group and of its groups, by its words."""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]


def test_every_command_has_an_example_that_its_parser_accepts() -> None:
    for path, command in commands(typer.main.get_command(app)):
        if path[0] == "finetune":
            continue  # its help writes it, below the settings
        words = shlex.split((command.epilog or "").removeprefix("Example: "))
        assert words[: len(path) + 1] == ["namepin", *path], path
        assert "--help" not in words, path
        command.make_context(path[-1], words[len(path) + 1 :])
