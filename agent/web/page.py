"""The page itself: Gradio's layout and events around Namepin's own HTML."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from namepin.agent.chat.agent import build_agent, lead_model
from namepin.agent.chat.tools import MAX_TEXT
from namepin.agent.checkpointer import open_saver
from namepin.agent.config.settings import Settings
from namepin.agent.render.view import error_sentences
from namepin.agent.server.access import Denied, TooMany
from namepin.agent.server.state import ServerState
from namepin.agent.stores.pictures import Attachment
from namepin.agent.web import fragments, routes
from namepin.agent.web.conversation import PageConversation
from namepin.agent.web.examples import examples
from namepin.agent.web.gradio_guard import Gate
from namepin.agent.web.uploads import Uploads
from namepin.agent.web.visitors import Visitor, Visitors
from namepin.tools.errors import NamepinError, first_problem

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
        # Not by `css`, which Gradio rewrites: it splits selectors at commas within parentheses.
        head=f"<style>{fragments.style()}</style><script>{fragments.script()}</script>",
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
    blocks: gr.Blocks = gr.Blocks(title="Namepin", analytics_enabled=False)
    with blocks:
        _connect(blocks, _layout(state, rules), PageEvents(app))
    blocks.queue(default_concurrency_limit=None, max_size=state.settings.waiting + 64, api_open=False)
    return blocks


@dataclass(frozen=True)
class _Parts:
    """The page's components that events read or change."""

    past: gr.HTML
    now: gr.HTML
    spoken: gr.HTML
    given: gr.Textbox
    send: gr.Button
    again: gr.Button


def _layout(state: ServerState, rules: bool) -> _Parts:
    profiles = state.pins.profiles
    _html(fragments.part("top"))
    with gr.Tabs():
        with gr.Tab("Post", id="post"):
            past = _html("", elem_id="np-past")
            now = _html("", elem_id="np-now")
            spoken = _html("", elem_id="np-spoken")
            _html(
                fragments.part("composer", profiles=profiles, rules=rules, most=MAX_TEXT), elem_id="np-composer-place"
            )
            given = gr.Textbox(visible="hidden", elem_id="np-given", label="message")
            send = gr.Button("Send", visible="hidden", elem_id="np-send")
            again = gr.Button("Show the conversation", visible="hidden", elem_id="np-again")
        with gr.Tab("Batch", id="batch"):
            most = state.settings.max_job_posts, state.settings.max_body_mb
            _html(fragments.part("batch", profiles=profiles, most=most))
    return _Parts(past, now, spoken, given, send, again)


class Given(BaseModel):
    """What the composer sends.

    Attributes:
        text: the message.
        picture: the signed name of an uploaded picture; empty without one.
        profile: the profile; empty for the server's own.
        example: the number of an example post, in place of text and picture.
    """

    model_config = ConfigDict(extra="forbid")
    text: str = ""
    picture: Annotated[str, Field(max_length=200)] = ""
    profile: Annotated[str, Field(max_length=100)] = ""
    example: Annotated[int | None, Field(ge=0)] = None


class PageEvents:
    """The page's event handlers: each method returns the new values of its components."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.visitors: Visitors = app.state.visitors

    async def answer(self, given: Any, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Answer a message. The values of past, now and spoken, during the answer and afterwards."""
        same = gr.skip()
        talk: PageConversation = self.app.state.talk
        try:
            visitor = talk.visitors.require_known(request.cookies)
            with talk.answering(visitor):
                message, picture, profile = await self._read(visitor, given)
                async for html in talk.answer(visitor, message, picture, profile):
                    yield same, html, same
            spoken = fragments.part("spoken", text=await talk.spoken_answer(visitor))
            yield await talk.history(visitor), fragments.end(), spoken
        except (NamepinError, TooMany) as error:
            yield same, fragments.end(error_sentences(error)), same
        except Denied:
            yield same, fragments.end("The session has ended: load the page again."), same
        except Exception:  # the page reports a failure, and the log has the details
            _log.exception("a message could not be answered")
            yield same, fragments.end("The server had an error; its log has the details."), same

    async def begin(self, request: gr.Request) -> str:
        """The conversation so far, for a newly opened page."""
        return await _history(self.app, self.visitors.require_known(request.cookies))

    async def show(self, request: gr.Request) -> tuple[str, str]:
        """The updated conversation, and the text for screen readers."""
        visitor = self.visitors.require_known(request.cookies)
        shown = await _history(self.app, visitor)
        return shown, fragments.part("spoken", text=await self.app.state.talk.spoken_answer(visitor))

    async def _read(self, visitor: Visitor, given: Any) -> tuple[str, Attachment | None, str | None]:
        """The message, its picture and its profile.

        Raises:
            NamepinError: E103 for a message of another form; as `Uploads.attached`.
        """
        try:
            form = Given.model_validate_json(given)
        except ValidationError as error:
            raise NamepinError("E103", f"not a message: {first_problem(error)}", mend="load the page again") from error
        if form.example is None:
            return form.text, await self.app.state.uploads.attached(visitor, form.picture), form.profile or None
        chosen = examples()[form.example : form.example + 1]
        if not chosen:
            raise NamepinError("E103", "there is no such example", mend="load the page again")
        _, picture = await self.app.state.uploads.keep(visitor, chosen[0].picture.read_bytes())
        return f"{fragments.AS_POST}{chosen[0].text}", picture, form.profile or None


def _connect(blocks: gr.Blocks, parts: _Parts, events: PageEvents) -> None:
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": True}
    scroll = {"fn": None, "js": "() => window.npShown()", "api_visibility": "private"}
    shown = [parts.past, parts.now, parts.spoken]
    # The script takes the place of the component's value, since the composer is not one of Gradio's.
    taken: dict[str, Any] = {"js": "() => [window.npGiven()]"}
    # Not `once`, Gradio's default, which drops a click silently while an earlier event is open.
    sent = parts.send.click(
        events.answer, [parts.given], shown, preprocess=False, trigger_mode="multiple", **taken, **quiet
    )
    sent.then(fn=None, js="() => window.npClosed()", api_visibility="private")
    parts.again.click(events.show, None, [parts.past, parts.spoken], trigger_mode="always_last", **quiet).then(**scroll)
    blocks.load(events.begin, None, [parts.past], **quiet)


async def _history(app: FastAPI, visitor: Visitor) -> str:
    """The conversation, or its error."""
    try:
        return str(await app.state.talk.history(visitor))
    except NamepinError as error:
        return fragments.problem(error_sentences(error))


def _html(value: str, **more: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, js_on_load="", padding=False, **more)
