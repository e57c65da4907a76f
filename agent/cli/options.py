"""Flags that several commands share, worded once."""

from pathlib import Path
from typing import Annotated

import typer

Profile = Annotated[str | None, typer.Option("--profile", help="Profile: a name or a TOML file. [default: starter]")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the profile; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Folder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write the results into this folder.")]
