"""MCP over HTTP: the same tokens, rates and bounds as the REST surface, in front of the SDK's own application."""

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from namepin.agent.config.sections import ServeSettings
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.mcp.server import OWNER, build_server, of_token
from namepin.agent.server.access import Access, Denied, TooMany, bearer
from namepin.agent.server.app import Bounds
from namepin.agent.server.rest import denied, too_many

_BODY = 4 / 3
"""How much longer base64 is than what it encodes."""


def create_mcp_app(sessions: McpSessions, access: Access, serve: ServeSettings, host: str = "127.0.0.1") -> ASGIApp:
    """The application; MCP is at `/mcp`.

    Stateless: every request stands for itself and brings its token, so there is no session to take over.

    Args:
        sessions: what the server remembers and may open.
        access: tokens and their rates.
        serve: bounds.
        host: the address it listens on, one of the names it answers to.
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
    return Bounds(Door(inner, access), most, serve.max_bodies_mb * 2**20)


class Door:
    """Lets in whoever has a token, and notes in the request's scope whose it is."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        try:
            owner = self.access.owner_of(bearer(header.decode("latin-1")))
            self.access.count(owner)
        except Denied:
            await denied()(scope, receive, send)
        except TooMany as error:
            await too_many(error)(scope, receive, send)
        else:
            await self.app({**scope, OWNER: owner}, receive, send)
