"""A conversation in the terminal: it reads messages and `/commands` and streams the answers."""

import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from rich.console import Console

from namepin.agent.chat.agent import Agent, build_agent, lead_model, stream_answer
from namepin.agent.chat.review_command import Reviewing
from namepin.agent.chat.state import Answer, ChatContext
from namepin.agent.checkpointer import Saver, data_folder, open_saver, sessions_of, thread_of
from namepin.agent.config.settings import Settings, load_settings
from namepin.agent.render.view import printable, short
from namepin.agent.stores.heat_maps import HeatMaps
from namepin.agent.stores.pictures import Attachment, Pictures, given_up
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction

OWNER = "terminal"
COMMANDS = """/image FILE   the picture of the next message      /new          begin another conversation
/save FILE    the last result: .json, .png or .html   /sessions     stored conversations
/profile P    read posts with another profile    /quit         stop (so does Ctrl-D)
/review [DIR] decide the last post's close calls yourself; DIR gets the answers as training rows   /later  not now"""


class Terminal:
    """One `namepin chat`.

    Args:
        settings: the profile's settings.
        assignments: the `--set` flags, which also apply to every other profile.
        session: a conversation's id; None begins a new one.

    Raises:
        NamepinError: E31x for the chat's model.
    """

    def __init__(self, settings: Settings, assignments: Sequence[str], session: str | None) -> None:
        self.assignments, self.profile = tuple(assignments), settings.profile
        self.session = session or _new_id()
        self.model, self.settings = lead_model(settings.chat), settings.chat
        self.pictures = Pictures(data_folder() / "pictures", max_pixels=settings.images.max_pixels)
        self.heat = HeatMaps(data_folder() / "heat")
        self.pins = ProfilePool([self.profile], self.assignments)
        self.attached: Attachment | None = None
        self.last: Extraction | None = None
        self.reviewing: Reviewing | None = None
        self.console = Console(highlight=False, markup=False, emoji=False)

    async def list_sessions(self) -> None:
        """Print the stored conversations."""
        async with open_saver() as saver:
            await self._show_sessions(saver)

    async def run(self, source: TextIO) -> None:
        """Run the conversation until the input ends."""
        async with open_saver() as saver:
            agent = build_agent(self.model, self.settings, saver)
            if source.isatty():
                self._say(
                    f"Namepin, profile {self.profile}, conversation {self.session}. `help` or /help; Ctrl-D ends."
                )
            async for message in _messages(source):
                try:
                    if message.startswith("/") and "\n" not in message:
                        if await self._command(message, saver):
                            return
                    elif self.reviewing:
                        await self.reviewing.answer(message)
                        self._show_review()
                    else:
                        await self._answer(agent, message)
                except NamepinError as error:
                    self._say(f"error: {error}")

    def attach(self, path: Path) -> None:
        """Attach a file as the next message's picture.

        Raises:
            NamepinError: E12x.
        """
        from namepin.tools.images.load import load_image

        try:
            load_image(path, max_pixels=self.pictures.max_pixels)  # errors that name the file
            self.attached = Attachment(self.pictures.keep(path.read_bytes()))
        except NamepinError as error:
            self.attached = given_up(error)

    async def _answer(self, agent: Agent, message: str) -> None:
        context = ChatContext(self.pins, self.pictures, self.profile, heat=self.heat)
        picture, self.attached = self.attached, None
        async for event in stream_answer(agent, message, picture, context, thread_of(OWNER, self.session)):
            if isinstance(event, Answer):
                self.last = event.extraction or self.last
            elif event.tool:
                self._say(f"[{event.tool}]")
            elif event.step is None:
                self.console.print(_visible(event.text), end="", soft_wrap=True)
        self.console.print("\n")

    async def _command(self, line: str, saver: Saver) -> bool:
        """Run a `/command`; returns true when it ends the conversation."""
        name, _, rest = line.partition(" ")
        rest = os.path.expanduser(rest.strip().strip("'\""))
        if name in ("/quit", "/exit"):
            return True
        if name == "/image":
            self.attach(Path(rest))
            self._say(self._describe_attached())
        elif name == "/new":
            self.session, self.attached, self.last, self.reviewing = _new_id(), None, None, None
            self._say(f"conversation {self.session}")
        elif name == "/profile":
            profile = load_settings(rest or None, assignments=self.assignments).profile
            self.pins, self.profile = (
                ProfilePool(list(dict.fromkeys([profile, *self.pins.profiles])), self.assignments),
                profile,
            )
            self._say(f"profile {profile}")
        elif name == "/review":
            rows = Path(rest) if rest else None
            self.reviewing = await Reviewing.begin(self.last, self.pins, self.pictures, self.profile, rows)
            self._show_review()
        elif name == "/later":
            self.reviewing = None
        elif name == "/sessions":
            await self._show_sessions(saver)
        elif name == "/save":
            self._save(Path(rest))
        else:
            self._say(COMMANDS)
        return False

    def _describe_attached(self) -> str:
        """What the next message comes with."""
        ref = self.attached.ref if self.attached else None
        if ref is None:
            return "the picture took too long to read: your next message goes without it"
        return f"picture of {ref.width} x {ref.height}: it will be sent with your next message"

    def _show_review(self) -> None:
        """Print the next question, or the end of the review."""
        assert self.reviewing is not None
        reviewing = self.reviewing
        if reviewing.over:
            self.reviewing, self.last = None, reviewing.review.extraction
        self.console.print(_visible(reviewing.next()) + "\n", soft_wrap=True)

    def _save(self, path: Path) -> None:
        from namepin.agent.render.html import About, page
        from namepin.agent.render.picture import annotate
        from namepin.agent.render.view import PostView

        if self.last is None:
            raise NamepinError("E330", "there is no result yet", mend="send a post first")
        picture = self.pictures.open(self.last.image).image if self.last.image else None
        try:
            if path.suffix == ".json":
                path.write_text(self.last.to_json() + "\n", "utf-8")
            elif path.suffix == ".html":
                shown = PostView(self.last, picture, self.heat.of(self.last))
                path.write_text(page([shown], About(self.profile)), "utf-8")
            elif path.suffix == ".png" and picture is not None:
                annotate(picture, self.last).save(path)
            else:
                raise NamepinError("E330", "saves .json and .html, and .png for a post with a picture", where="/save")
        except OSError as error:
            raise NamepinError("E500", f"cannot write: {error.strerror}", where=str(path)) from error
        self._say(f"wrote {path}")

    async def _show_sessions(self, saver: Saver) -> None:
        found = await sessions_of(saver, OWNER)
        for stored in found:
            self._say(f"{stored.id}  {stored.changed:%Y-%m-%d %H:%M}  {short(' '.join(stored.title.split()), 60)}")
        if not found:
            self._say("there are no stored conversations")

    def _say(self, line: str) -> None:
        self.console.print(_visible(line), style="dim", soft_wrap=True)


def _visible(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _new_id() -> str:
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}"


async def _messages(source: TextIO) -> AsyncIterator[str]:
    """Messages: typed or pasted at a terminal, with history; else paragraphs of the input, or lines with a /command."""
    if not source.isatty():
        for message in _paragraphs(source.read()):
            yield message
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.patch_stdout import patch_stdout

    data_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    prompt: PromptSession[str] = PromptSession(history=FileHistory(str(data_folder() / "chat-history")))
    while True:
        try:
            with patch_stdout():
                line = await prompt.prompt_async("> ")
        except EOFError:
            print(file=sys.stdout)
            return
        if line.strip():
            yield line.strip()


def _paragraphs(text: str) -> list[str]:
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip().split("\n")
        while lines and lines[0].startswith("/"):
            parts.append(lines.pop(0).strip())
        if rest := "\n".join(lines).strip():
            parts.append(rest)
    return parts
