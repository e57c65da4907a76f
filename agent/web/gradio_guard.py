"""Restricts access to Gradio's application.

Gradio's routes that Namepin does not use (files, uploads, proxies, code editing) are blocked. The other routes need a
visitor, and a stream of events belongs to the visitor who began it.
"""

import asyncio
import json
import re
from collections.abc import Callable
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from cachetools import LRUCache
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from namepin.agent.server.access import Denied
from namepin.agent.server.problems import problem, unauthorized
from namepin.agent.web.visitors import SESSION_COOKIE, Visitor, Visitors, new_session

_PUBLIC = re.compile(r"/(?:assets|static)/.+|/(?:gradio_api/)?theme\.css|/favicon\.ico|/robots\.txt")
_VISITORS = re.compile(
    r"/|/config/?|/gradio_api/(?:startup-events|queue/(?:join|data)/?|cancel|reset/?|heartbeat/[^/]+)"
)
_HEARTBEAT = "/gradio_api/heartbeat/"
_MAX_BYTES = 2**18
"""Largest size of an event: a message and a few flags. Pictures and files of posts have other routes."""
_MAX_STREAMS = 20_000

POLICY = "; ".join(
    [
        "default-src 'self'",
        # Gradio's start script is inline, and its HTML component compiles templates.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
"""Content security policy of the page: the browser refuses content from other sites."""


class Gate:
    """ASGI middleware around Gradio's application alone.

    Args:
        app: Gradio's application.
        visitors: the known visitors.
        stopping: whether the server is about to stop; an open page must not delay that.
    """

    def __init__(self, app: ASGIApp, visitors: Visitors, stopping: Callable[[], bool] = lambda: False) -> None:
        self.app, self.visitors, self.stopping = app, visitors, stopping
        self._streams: LRUCache[str, str] = LRUCache(_MAX_STREAMS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if _PUBLIC.fullmatch(path) and scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif not _VISITORS.fullmatch(path):
            await problem(404, "HTTP404", "Not Found")(scope, receive, send)
        else:
            await self._visit(path, scope, receive, send)

    async def _visit(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            visitor = self.visitors.of(Request(scope).cookies)
        except Denied:
            refusal: Response = RedirectResponse("/login", 303) if path == "/" else unauthorized()
            await refusal(scope, receive, send)
            return
        if path == "/":
            await self.app(scope, receive, _with_page_headers(send, begin=visitor is None))
            return
        if visitor is None:
            await unauthorized()(scope, receive, send)
            return
        body = await _body(receive) if scope["method"] == "POST" else b""
        if body is None:
            await problem(413, "E108", "the event is too large")(scope, receive, send)
        elif not self._own_stream(visitor, path, scope, body):
            await problem(403, "E342", "another session's stream")(scope, receive, send)
        elif path.startswith(_HEARTBEAT):
            await self.app(scope, self._until_stopped(receive), send)
        else:
            await self.app(scope, _again(body, receive), send)

    def _until_stopped(self, receive: Receive) -> Receive:
        """End an open page's heartbeat, which never ends by itself, when the server stops."""

        async def listen() -> Message:
            while not self.stopping():
                try:
                    return await asyncio.wait_for(receive(), 0.5)
                except TimeoutError:
                    continue
            return {"type": "http.disconnect"}

        return listen

    def _own_stream(self, visitor: Visitor, path: str, scope: Scope, body: bytes) -> bool:
        """Whether the request's stream belongs to this visitor; the first visitor who names it owns it."""
        name: object
        if path.startswith(_HEARTBEAT):
            name = path.rpartition("/")[2]
        elif body:
            try:
                event = json.loads(body)
            except ValueError:
                return False
            name = event.get("session_hash") if isinstance(event, dict) else None
        else:
            name = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[-1]
            if not name:
                return path in ("/config", "/config/", "/gradio_api/startup-events")
        if not isinstance(name, str) or not 8 <= len(name) <= 64:
            return False
        return self._streams.setdefault(name, visitor.key) == visitor.key


async def _body(receive: Receive) -> bytes | None:
    data = bytearray()
    while True:
        message = await receive()
        data += message.get("body", b"")
        if len(data) > _MAX_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(data)


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given or not body:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_page_headers(send: Send, begin: bool) -> Send:
    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = POLICY
            headers["cache-control"] = "no-store"
            if begin:
                headers.append("set-cookie", cookie(SESSION_COOKIE, new_session()))
        await send(message)

    return headed


def cookie(name: str, value: str) -> str:
    """A `Set-Cookie` header's value: hidden from scripts, and not sent with another site's requests."""
    made: SimpleCookie = SimpleCookie({name: value})
    made[name]["httponly"], made[name]["samesite"], made[name]["path"] = True, "Lax", "/"
    return made[name].OutputString()
