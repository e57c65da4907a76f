"""The terminal's table: name, type, probability, place and reason; readable in 80 columns."""

from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from namepin.agent.render.view import COLOURS, presence, printable, short, shown_score, typing
from namepin.tools.types import Entity, Extraction

_STATUS_STYLE = {"ok": "green", "degraded": "yellow", "failed": "red"}


def print_table(extraction: Extraction, file: TextIO, first: bool = True) -> None:
    """Write one post's table; coloured on a terminal, plain in a file or a pipe.

    Args:
        extraction: the result.
        file: the output stream.
        first: whether this is the first table; a blank line precedes the others.
    """
    console = Console(file=file, highlight=False, emoji=False, markup=False, width=None if file.isatty() else 80)
    if not first:
        console.print()
    head = Text(short(extraction.id, 60), style="bold")
    head.append(f"  {extraction.status}", style=_STATUS_STYLE[extraction.status])
    if extraction.image:
        head.append(f"  picture {extraction.image.width}x{extraction.image.height}", style="dim")
    console.print(head)
    console.print(_highlight(extraction))
    if extraction.entities:
        console.print(_table(extraction.entities, extraction.image is not None))
    else:
        console.print(Text("no names found", style="dim"))
    for notice in extraction.warnings:
        console.print(Text(f"! {printable(f'{notice.code} {notice.tool}: {notice.message}')}", style="yellow"))


def _highlight(extraction: Extraction) -> Text:
    text = Text(short(extraction.text, 600))
    for number, entity in enumerate(extraction.entities):
        text.stylize(f"bold underline {COLOURS[number % len(COLOURS)]}", entity.start, entity.end)
    return text


def _table(entities: tuple[Entity, ...], with_picture: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("entity", ratio=3, overflow="fold")
    table.add_column("type", ratio=3, overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    if with_picture:
        table.add_column("in the picture?", no_wrap=True)
    table.add_column("how", ratio=4, overflow="fold")
    for number, entity in enumerate(entities):
        name = Text(printable(entity.text), style=f"bold {COLOURS[number % len(COLOURS)]}")
        value = shown_score(entity)
        cells: list[Text | str] = [name, typing(entity, " "), "" if value is None else f"{value:.2f}"]
        if with_picture:
            cells.append(_where(entity))
        cells.append(Text(_how(entity), style="dim"))
        table.add_row(*cells)
    return table


def _where(entity: Entity) -> str:
    answer = presence(entity)
    if entity.match_score is not None:
        answer += f" {entity.match_score:.2f}"
    if entity.ambiguous:
        answer += " ambiguous"
    if entity.box:
        answer += "\n" + ",".join(f"{value:.0f}" for value in entity.box)
    return answer


def _how(entity: Entity) -> str:
    """The matcher's evidence if there is any, else the tools that took part."""
    reasons = [printable(entity.evidence) if entity.evidence else " > ".join(entity.provenance)]
    if entity.reranked:
        reasons.append("reranked")
    return "; ".join(filter(None, reasons))
