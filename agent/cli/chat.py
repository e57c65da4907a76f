"""`namepin chat`: a conversation in the terminal."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.cli.options import Profile, Set
from namepin.tools.errors import Exit, NamepinError


def chat(
    profile: Profile = None,
    set_: Set = None,
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="ID", help="Go on with a kept conversation, or begin one so named."),
    ] = None,
    sessions: Annotated[bool, typer.Option("--sessions", help="List the kept conversations and stop.")] = False,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Picture of the first message.")] = None,
) -> int:
    """Talk about posts: paste one, give its picture with /image FILE, ask why. Piped, a paragraph is a message."""
    import asyncio

    try:
        from namepin.agent.chat.terminal import Terminal
    except ModuleNotFoundError as error:
        what = f"chat needs the package {error.name!r}"
        raise NamepinError("E332", what, mend="pip install 'namepin[chat]'", exit_code=Exit.UNREACHABLE) from error

    terminal = Terminal(profile, set_ or (), session)
    if image:
        terminal.attach(image)
    asyncio.run(terminal.list_sessions() if sessions else terminal.run(sys.stdin))
    return Exit.DONE
