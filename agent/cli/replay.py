"""`namepin replay`: run recorded posts again, with the same or other settings."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.cli.options import Set
from namepin.tools.errors import Exit, NamepinError


def replay(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder written by extract --record.")],
    check: Annotated[bool, typer.Option("--check", help="Exit with 4 at the first difference.")] = False,
    set_: Set = None,
    fill: Annotated[bool, typer.Option("--fill", help="Make the calls that are missing, and record them.")] = False,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="The posts' pictures, if --fill needs them.")
    ] = None,
) -> int:
    """Run the graph over recorded tool calls, and print the extractions as JSON lines."""
    from namepin.agent.workflows.replay import replay_cassette

    count = 0
    for extraction in replay_cassette(directory, check=check, assignments=set_ or (), fill=fill, images=images):
        print(extraction.to_json(), flush=True)
        count += 1
    if not count:
        raise NamepinError("E401", "the cassette holds no posts", where=str(directory), mend="record some")
    if check:
        print(f"{count} post{'' if count == 1 else 's'} replayed, nothing differs", file=sys.stderr)
    return Exit.DONE
