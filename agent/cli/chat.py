"""`namepin chat`: a conversation in the terminal."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.cli.checks import require_packages
from namepin.agent.cli.options import Profile, Set
from namepin.agent.cli.progress import say_loading
from namepin.tools.errors import Exit, NamepinError


def chat(
    profile: Profile = None,
    set_: Set = None,
    session: Annotated[
        str | None,
        typer.Option("--session", metavar="ID", help="Resume a stored conversation, or begin one of this name."),
    ] = None,
    sessions: Annotated[bool, typer.Option("--sessions", help="List the stored conversations and stop.")] = False,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="Picture of the first message.")] = None,
) -> int:
    """Talk about posts: paste one, give its picture with /image FILE, ask why. Piped paragraphs are messages."""
    require_packages("chat", "langchain", "aiosqlite", "prompt_toolkit", extra="chat")
    if session is not None and not re.fullmatch(r"[\w.-]{1,64}", session):
        what = "a conversation's id has up to 64 letters, digits, dots and dashes"
        raise NamepinError("E107", what, where=f"--session {session}", mend="choose another id")

    from namepin.agent.config.settings import load_settings
    from namepin.tools.images.load import load_image

    settings = load_settings(profile, assignments=set_ or ())
    if image:
        load_image(image, max_pixels=settings.images.max_pixels)  # reports errors before anything is loaded
    say_loading("the chat")

    import asyncio

    from namepin.agent.chat.terminal import Terminal

    terminal = Terminal(settings, set_ or (), session)
    if image:
        terminal.attach(image)
    asyncio.run(terminal.list_sessions() if sessions else terminal.run(sys.stdin))
    return Exit.DONE
