"""MCP over HTTP: the tokens, rates and bounds of the REST API in front of the SDK's application."""

import asyncio

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from namepin.agent.config.sections import ServeSettings
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.mcp.server import build_server, of_token
from namepin.agent.server.access import Access, bearer
from namepin.agent.server.bodies import MAX_PARTS, is_intricate
from namepin.agent.server.bounds import Bounds, Entry
from namepin.agent.server.problems import problem

_BODY = 4 / 3
"""Length of base64 relative to the encoded bytes."""


def create_mcp_app(sessions: McpSessions, access: Access, serve: ServeSettings, host: str = "127.0.0.1") -> ASGIApp:
    """The application; MCP is at `/mcp`.

    It is stateless: every request carries its token, so there is no session to hijack.

    Args:
        sessions: the owners' posts and pictures.
        access: tokens and their rates.
        serve: bounds.
        host: the address to listen on, which is also an accepted host name.
    """
    names = list(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", host, *serve.hosts]))
    security = TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[
            f"{scheme}://{name}{port}" for scheme in ("http", "https") for name in names for port in ("", ":*")
        ],
    )
    most = int(serve.max_body_mb * 2**20 * _BODY) + 2**16
    inner = build_server(sessions, of_token).streamable_http_app(
        stateless_http=True, json_response=True, max_request_body_size=most, transport_security=security, host=host
    )

    def admit(scope: Scope) -> Entry:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        owner = access.owner_of(bearer(header.decode("latin-1")))
        access.count(owner)
        return Entry(owner, most)

    return Bounds(Door(inner), admit, serve.max_bodies_mb * 2**20, shared=not access.open)


class Door:
    """Passes on complete bodies that the SDK's parser handles quickly."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await _whole(receive)
        if await asyncio.to_thread(is_intricate, body):
            answer = problem(413, "E108", f"the request's JSON has more than {MAX_PARTS:,} parts")
            await answer(scope, receive, send)
            return
        await self.app(scope, _again(body, receive), send)


async def _whole(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
