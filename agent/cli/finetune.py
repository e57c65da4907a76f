"""`namepin finetune`: train one tool's weights, one sub-command a tool."""

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import Set
from tools.errors import Exit

app = typer.Typer(name="finetune", help="Train the weights of a tool.")

Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file of recipe settings.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch of the run folder.")]


@app.callback(invoke_without_command=True)
def _finetune(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def tagger(config: Config = None, set_: Set = None, resume: Resume = False) -> int:
    """Train the dual-granularity tagger; --set takes the recipe's settings (epochs=3, seed=2, out=DIR)."""
    from agent.recipes import load_recipe
    from finetune.tagger import TaggerRecipe, train

    recipe = load_recipe(TaggerRecipe, config, set_ or ())
    report = train(recipe, resume)
    for name, value in report.items():
        if isinstance(value, int | float | str):
            print(f"{name}: {value}")
    return Exit.DONE
