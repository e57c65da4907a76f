"""`namepin finetune`: train one tool's weights, one sub-command per tool."""

import json
import os
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from namepin.agent.cli.checks import check_folder
from namepin.agent.cli.options import Set
from namepin.agent.cli.progress import say_loading
from namepin.tools.errors import Exit, NamepinError, install_command

app = typer.Typer(name="finetune", help="Train the weights of a tool.")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file of settings, or a shipped recipe.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint of the run folder.")]


class RecipeCommand(TyperCommand):
    """A command whose help also lists the settings of its recipe."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, then every setting with its default and allowed values."""
        super().format_help(ctx, formatter)
        from namepin.agent.workflows.recipe_help import describe_recipe
        from namepin.agent.workflows.recipes import choice_of, recipe_kinds

        choice = choice_of(recipe_kinds(str(self.name)))
        settings = describe_recipe(str(self.name))
        all_backends = {backend for setting in settings for backend in setting.backends}
        print(" Settings for --set NAME=VALUE, or for a TOML file:\n")
        for setting in settings:
            default = "required" if setting.default is None else f"default {setting.default}"
            only = (
                f", with {choice} {' or '.join(setting.backends)}" if len(setting.backends) < len(all_backends) else ""
            )
            print(f"  {setting.name} ({setting.values}, {default}{only})")
            if setting.text:
                print(textwrap.fill(setting.text, 76, initial_indent="      ", subsequent_indent="      "))
        print(f"\n Example: namepin finetune {self.name} --set out=runs/{self.name} --set seed=2\n")


@app.callback(invoke_without_command=True)
def _finetune(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _train(module: str, config: Path | None, assignments: Sequence[str], resume: bool) -> int:
    """Run a recipe of `finetune/`. It prints the settings first and the best epoch's scores at the end."""
    from namepin.agent.workflows.recipes import load_recipe, recipe_kinds

    recipe = load_recipe(recipe_kinds(module), config, assignments)
    check_folder(Path(recipe.out), "--set out=DIR")  # before the slow imports
    first = os.environ.get("RANK", "0") == "0"  # only the main process prints
    if first:
        say_loading("PyTorch and the recipe")
    home = _training_module(module)

    import torch

    if first:
        for name, value in asdict(recipe).items():
            print(f"{name} = {json.dumps(value)}")
    # New nets have many denormal numbers, which are slow on CPUs. Flushed to zero, they save a third of the time.
    torch.set_flush_denormal(True)
    try:
        report = home.train(recipe, resume)
    finally:
        torch.set_flush_denormal(False)
    for name, value in report.items():
        if first and isinstance(value, int | float | str):
            print(f"{name}: {value}")
    return Exit.DONE


def _training_module(module: str) -> ModuleType:
    """The module that trains a tool.

    Raises:
        NamepinError: E301 without a package that runs the training and that no other command needs.
    """
    from namepin.agent.workflows.recipes import RECIPE_MODULES

    try:
        return import_module(RECIPE_MODULES[module])
    except ModuleNotFoundError as error:
        if error.name not in ("accelerate", "trl", "peft", "datasets"):
            raise
        what, mend = f"finetune {module} needs the package {error.name!r}", install_command("namepin[gpu]")
        raise NamepinError("E301", what, mend=mend, exit_code=Exit.UNREACHABLE) from error


@app.command(cls=RecipeCommand)
def tagger(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train the dual-granularity tagger."""
    return _train("tagger", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def matcher(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train BLIP, BLIP-2 or LLaVA (--set backend=blip|blip2|llava) to tell which mentions are in their picture."""
    return _train("matcher", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def entailment(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train OFA, ALBEF or BLIP (--set backend=ofa|albef|blip) to judge referring expressions."""
    return _train("entailment", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def grounder(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train OFA or MM-Grounding-DINO (--set backend=ofa|mmgdino) to answer a referring expression with a box."""
    return _train("grounder", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def reranker(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train LoRA on LLaVA, BLIP-2 or a text model (--set backend=llava|blip2|text) to choose among types."""
    return _train("reranker", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def segmenter(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train SAM's mask decoder, asked with boxes."""
    return _train("segmenter", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def fusion(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train UMT, whose features find the posts that are most alike."""
    return _train("fusion", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def generator(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train a T5 or BART that writes entities, types and regions in one sequence (the H-Index and TIGER baseline)."""
    return _train("generator", config, set_ or (), resume)


@app.command(cls=RecipeCommand)
def extractor(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train LoRA on a Qwen2.5-VL that answers with names, types and boxes (--set stage=sft, then --set stage=grpo)."""
    return _train("extractor", config, set_ or (), resume)
