"""The page itself: Gradio's layout and events around Namepin's own HTML."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from namepin.agent.chat.agent import build_agent, lead_model
from namepin.agent.checkpointer import open_saver
from namepin.agent.config.settings import Settings
from namepin.agent.server.access import Denied, TooMany
from namepin.agent.server.state import ServerState
from namepin.agent.web import fragments, routes
from namepin.agent.web.conversation import PageConversation
from namepin.agent.web.gradio_guard import Gate
from namepin.agent.web.uploads import Uploads
from namepin.agent.web.visitors import Visitor, Visitors
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import read_lines

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "posts.jsonl"
"""Posts to try."""

_log = logging.getLogger(__name__)


def add_page(app: FastAPI, settings: Settings) -> None:
    """Add the page at `/` to the server's application.

    Args:
        app: the application of `namepin.agent.server.app.create_app`.
        settings: the server's profile; `[chat]` names the model that leads conversations.

    Raises:
        NamepinError: E31x when the chat's model cannot be used.
    """
    state: ServerState = app.state.namepin
    visitors = Visitors(state.access)
    app.state.visitors = visitors
    app.state.uploads = Uploads(visitors, state.folder / "pictures", settings.images.max_pixels)
    model = lead_model(settings.chat)
    app.include_router(routes.router)
    before = app.router.lifespan_context

    @asynccontextmanager
    async def with_conversations(app: FastAPI) -> AsyncIterator[Any]:
        async with open_saver(state.folder) as saver, before(app) as given:
            app.state.talk = PageConversation(
                state, app.state.uploads, visitors, build_agent(model, settings.chat, saver)
            )
            yield given

    app.router.lifespan_context = with_conversations
    gr.mount_gradio_app(
        app,
        _blocks(app, rules=settings.chat.model is None),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=_theme(),
        css=fragments.style(),
        head=f"<script>{fragments.script()}</script>",
    )
    mounted: Any = app.router.routes[-1]
    mounted.app = Gate(mounted.app, visitors, lambda: bool(getattr(app.state, "stopping", bool)()))


def _theme() -> Any:
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"]
    theme = gr.themes.Base(neutral_hue="stone", font=fonts, font_mono=["ui-monospace", "monospace"])
    accent, dark = "#0b5fa5", "#7cc0ff"
    return theme.set(
        color_accent=accent,
        body_background_fill="#f6f5f2",
        body_background_fill_dark="#121417",
        block_background_fill_dark="#1b1e23",
        block_label_text_color="#5c626c",
        block_title_text_color="#5c626c",
        block_title_text_color_dark="#a9afb9",
        input_background_fill="#ffffff",
        input_background_fill_dark="#24282f",
        input_border_color="#8a8f98",
        input_border_color_dark="#5c626c",
        input_border_width="1px",
        input_placeholder_color="#6b7078",
        input_placeholder_color_dark="#a9afb9",
        button_primary_background_fill=accent,
        button_primary_background_fill_hover="#094c85",
        button_primary_background_fill_dark=dark,
        button_primary_background_fill_hover_dark="#a5d4ff",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0c1620",
        checkbox_background_color_selected=accent,
        checkbox_border_color="#5c626c",
    )


def _blocks(app: FastAPI, rules: bool) -> gr.Blocks:
    state: ServerState = app.state.namepin
    examples = _rows(EXAMPLES) if EXAMPLES.is_file() else []
    blocks: gr.Blocks = gr.Blocks(title="Namepin", analytics_enabled=False)
    with blocks:
        parts = _layout(state, examples, rules)
        _connect(blocks, parts, PageEvents(app, examples))
    blocks.queue(default_concurrency_limit=None, max_size=state.settings.waiting + 64, api_open=False)
    return blocks


@dataclass(frozen=True)
class _Parts:
    """The page's components that events read or change."""

    past: gr.HTML
    now: gr.HTML
    spoken: gr.HTML
    message: gr.Textbox
    again: gr.Button
    token: gr.Textbox
    profile: gr.Radio
    send: gr.Button
    examples: list[gr.Button]
    refresh: gr.Button
    remove: gr.Button
    table: gr.HTML
    timer: gr.Timer


def _layout(state: ServerState, examples: list[dict[str, Any]], rules: bool) -> _Parts:
    _html(fragments.part("top", rules=rules))
    with gr.Tabs():
        with gr.Tab("Post", id="post"):
            past = _html("", elem_id="np-past")
            now = _html("", elem_id="np-now")
            spoken = _html("", elem_id="np-spoken")
            message = gr.Textbox(
                label="Post, or a question about the last one",
                placeholder="Paste a post. Add its picture below, or paste it here.",
                lines=1,
                max_lines=12,
                max_length=8000,
                elem_id="np-message",
                autofocus=True,
            )
            again = gr.Button("Show the conversation", visible="hidden", elem_id="np-again")
            token = gr.Textbox(visible="hidden", elem_id="np-token", label="picture", max_length=120)
            _html(fragments.part("upload"))
            with gr.Row(elem_id="np-send"):
                profile = gr.Radio(list(state.pins.profiles), value=state.pins.profiles[0], label="Profile")
                send = gr.Button("Send", variant="primary", elem_id="np-go")
            buttons = []
            if examples:
                gr.HTML("<h2 class='np-label'>Or try an example</h2>", apply_default_css=False)
                with gr.Row(elem_id="np-examples"):
                    buttons = [gr.Button(post["text"][:60] + "…", size="sm") for post in examples]
        with gr.Tab("Batch", id="batch"):
            _html(fragments.part("batch", profiles=state.pins.profiles, most=state.settings.max_job_posts))
            with gr.Row():
                refresh = gr.Button("Refresh", elem_id="np-refresh", size="sm")
                remove = gr.Button("Remove finished jobs", size="sm")
            table = _html("", elem_id="np-jobs")
            timer = gr.Timer(1, active=False)
    return _Parts(past, now, spoken, message, again, token, profile, send, buttons, refresh, remove, table, timer)


class PageEvents:
    """The page's event handlers: each method returns the new values of its components."""

    def __init__(self, app: FastAPI, examples: list[dict[str, Any]]) -> None:
        self.app, self.examples = app, examples
        self.state: ServerState = app.state.namepin
        self.visitors: Visitors = app.state.visitors

    async def answer(self, typed: str, signed: str, chosen: str, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Answer a message."""
        async for shown in _answers(self.app, request, typed, signed, chosen):
            yield shown

    async def example(self, number: int, chosen: str, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Answer an example post."""
        post = self.examples[number]
        try:
            visitor = self.visitors.require_known(request.cookies)
            data = (EXAMPLES.parent / post["image"]).read_bytes()
            signed, _ = await self.app.state.uploads.keep(visitor, data)
        except (Denied, OSError, NamepinError):
            signed = ""
        async for shown in _answers(self.app, request, f"{fragments.AS_POST}{post['text']}", signed, chosen):
            yield shown

    async def begin(self, request: gr.Request) -> tuple[str, str, Any]:
        """The conversation and the jobs so far, for a newly opened page."""
        visitor = self.visitors.require_known(request.cookies)
        return await _history(self.app, visitor), *self.jobs(request)

    async def show(self, request: gr.Request) -> tuple[str, str]:
        """The updated conversation, and the text for screen readers."""
        visitor = self.visitors.require_known(request.cookies)
        shown = await _history(self.app, visitor)
        return shown, fragments.part("spoken", text=await self.app.state.talk.spoken_answer(visitor))

    def jobs(self, request: gr.Request) -> tuple[str, Any]:
        """The visitor's jobs, and whether to poll again in a second."""
        mine = self.state.jobs.list(self.visitors.require_known(request.cookies).jobs_owner)
        return fragments.jobs(mine), gr.Timer(active=any(job.state in ("waiting", "running") for job in mine))

    def clean(self, request: gr.Request) -> tuple[str, Any]:
        """Remove the jobs that have ended."""
        owner = self.visitors.require_known(request.cookies).jobs_owner
        for job in self.state.jobs.list(owner):
            if job.state in ("done", "failed"):
                self.state.jobs.delete(owner, job.id)
        return self.jobs(request)


def _connect(blocks: gr.Blocks, parts: _Parts, events: PageEvents) -> None:
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": True}
    shown = [parts.past, parts.now, parts.spoken, parts.message, parts.token]
    clear = {"fn": None, "js": "() => window.npAnswered()", "api_visibility": "private"}
    for event in (parts.message.submit, parts.send.click):
        given = [parts.message, parts.token, parts.profile]
        event(events.answer, given, shown, preprocess=False, **quiet).then(**clear)
    for number, button in enumerate(parts.examples):
        which = gr.State(number)
        button.click(events.example, [which, parts.profile], shown, preprocess=False, **quiet).then(**clear)
    parts.again.click(events.show, None, [parts.past, parts.spoken], **quiet).then(**clear)
    blocks.load(events.begin, None, [parts.past, parts.table, parts.timer], **quiet)
    for event in (parts.refresh.click, parts.timer.tick):
        event(events.jobs, None, [parts.table, parts.timer], **quiet)
    parts.remove.click(events.clean, None, [parts.table, parts.timer], **quiet)


async def _history(app: FastAPI, visitor: Visitor) -> str:
    """The conversation, or its error."""
    try:
        return str(await app.state.talk.history(visitor))
    except NamepinError as error:
        return fragments.problem(str(error))


async def _answers(
    app: FastAPI, request: gr.Request, typed: Any, signed: Any, profile: Any
) -> AsyncIterator[tuple[Any, ...]]:
    """The page's values during an answer and afterwards: past, now, spoken, message, picture."""
    same = gr.skip()
    talk: PageConversation = app.state.talk
    typed, signed, profile = (value if isinstance(value, str) else "" for value in (typed, signed, profile))
    try:
        visitor = talk.visitors.require_known(request.cookies)
        picture = await talk.uploads.attached(visitor, signed)
        async for html in talk.answer(visitor, typed, picture, profile or None):
            yield same, html, same, same, same
        spoken = fragments.part("spoken", text=await talk.spoken_answer(visitor))
        yield await talk.history(visitor), "", spoken, "", ""
    except (NamepinError, TooMany) as error:
        yield same, fragments.problem(str(error)), same, same, same
    except Denied:
        yield same, fragments.problem("The session has ended: load the page again."), same, same, same
    except Exception:  # the page reports a failure, and the log has the details
        _log.exception("a message could not be answered")
        yield same, fragments.problem("The server had an error; its log has the details."), same, same, same


def _html(value: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, js_on_load="", **more)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [line.parse_object() for line in read_lines(path)]
