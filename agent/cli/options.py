"""Flags that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.config.layers import profile_names
from namepin.graphs.names import GraphName


class DatasetName(StrEnum):
    """The supported data sets."""

    gmner = "gmner"
    fmnerg = "fmnerg"
    smner = "smner"
    twitter = "twitter"
    wnut17 = "wnut17"
    sandbox = "sandbox"
    conll = "conll"
    jsonl = "jsonl"
    labelme = "labelme"
    coco = "coco"
    label_studio = "label-studio"


class Knowledge(StrEnum):
    """The source of the auxiliary knowledge."""

    off = "off"
    recorded = "recorded"
    live = "live"


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help=f"Profile: {', '.join(profile_names())}, or a TOML file; starter by default.",
        autocompletion=lambda: profile_names(),
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the profile; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Folder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write the results into this folder.")]
Graph = Annotated[GraphName | None, typer.Option("--graph", help="The graph that processes the posts.")]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Also score posts that the weights were trained on; marks the figures.")
]
Ids = Annotated[
    Path | None, typer.Option("--ids", metavar="FILE", help="Only the posts whose ids are listed, one per line.")
]
