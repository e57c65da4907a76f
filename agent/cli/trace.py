"""`namepin trace`: show a run as one page."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from namepin.tools.errors import Exit, NamepinError


def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder of extract --record, or a predictions.jsonl.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The file to write. [default: standard output]")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="The posts' pictures.")] = None,
) -> int:
    """Show a recorded run as one HTML page: steps, times, tools, the gate's decisions, match scores."""
    from namepin.agent.render.trace import read_runs, trace_page

    page = trace_page(read_runs(run, images))
    if out is None:
        print(page)
        return Exit.DONE
    try:
        out.write_text(page, "utf-8")
    except OSError as error:
        raise NamepinError("E500", f"cannot write: {error.strerror}", where=str(out)) from error
    print(f"open {out}", file=sys.stderr)
    return Exit.DONE
