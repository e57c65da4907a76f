"""`namepin data`: look at data sets."""

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.eval import DatasetName, check_writable
from tools.errors import Exit

data = typer.Typer(help="Check data sets and convert them.", no_args_is_help=True)


@data.command()
def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's folder.")],
    dataset: Annotated[
        DatasetName | None, typer.Option("--dataset", help="Which data set it is. [default: by its layout]")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> int:
    """Statistics of every split, posts that splits share, and every problem with file and line."""
    from rich.console import Console

    from evals.data_check import check_folder
    from evals.show import show_check

    check_writable(json)
    result = check_folder(root, dataset.value if dataset else None)
    show_check(result, Console(soft_wrap=True))
    if json:
        json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    return Exit.DONE if result.sound else Exit.SOME_FAILED


def register(app: typer.Typer) -> None:
    """Add the commands to the `namepin` app."""
    app.add_typer(data, name="data")
