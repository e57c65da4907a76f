"""The access check of every HTTP interface: owner and size bounds are known before a byte of the body is read."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from namepin.agent.server.access import Denied, TooMany
from namepin.agent.server.problems import problem, too_many, unauthorized

OWNER = "namepin.owner"
"""Key of the request's owner in the scope; the value is empty without a token."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_BUSY = "the server holds the largest allowed number of requests"
_SHARES = 4
"""Share of the memory for bodies that one token's requests may fill, so that one token cannot fill it all."""


@dataclass(frozen=True)
class Entry:
    """A request's owner and the largest size of its body."""

    owner: str
    max_bytes: int


@dataclass(frozen=True)
class Pace:
    """The slowest allowed arrival of a body.

    Attributes:
        window_s: seconds of waiting per window.
        window_bytes: bytes that have to arrive per window, unless the body ends.
        total_s: seconds of waiting for the whole body.
    """

    window_s: float = 10.0
    window_bytes: int = 2**16
    total_s: float = 300.0


class Bounds:
    """Refuses other sites' pages, unknown clients, and bodies that are too large or too slow; adds security headers.

    Args:
        app: the application.
        admit: returns a request's owner from its scope alone. Raises `Denied` or `TooMany`.
        max_held: total bytes of the bodies of all requests in progress, including requests that wait for a turn. A
            single request is accepted at any size.
        shared: whether several owners share `max_held`, so that one owner may use only a part.
        pace: the slowest allowed arrival of a body.
    """

    def __init__(
        self,
        app: ASGIApp,
        admit: Callable[[Scope], Entry],
        max_held: int,
        shared: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.app, self.admit, self.max_held, self.pace = app, admit, max_held, pace or Pace()
        self.share = max_held // _SHARES if shared else max_held
        self.held: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, started = _Body(self, receive), False

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                # The rest of an unread body must not be parsed as the next request.
                close = () if body.ended else ((b"connection", b"close"),)
                message["headers"] = [*message.get("headers", []), *_HEADERS, *close]
            await send(message)

        try:
            refusal = self._refusal(scope, body)
            await (refusal or self.app)(scope, body.receive, headed)
        except HTTPException as error:  # about the body, in an application that does not handle it
            if started:
                raise
            await bound_answer(error)(scope, receive, headed)
        finally:
            self.held[body.entry.owner] -= body.seen
            if not self.held[body.entry.owner]:
                del self.held[body.entry.owner]

    def has_room(self, owner: str, own: int, coming: int = 0) -> bool:
        """Whether a body with `own` received bytes fits; a single body always fits."""
        total, mine = self.held.total() + coming, self.held[owner] + coming
        alone = own + coming
        return total <= max(self.max_held, alone) and mine <= max(self.share, alone)

    def _refusal(self, scope: Scope, body: "_Body") -> JSONResponse | None:
        headers = dict(scope["headers"])
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _is_foreign(headers):
            return problem(403, "E342", "another site's page may not send requests here")
        try:
            body.entry = self.admit(scope)
        except Denied:
            return unauthorized()
        except TooMany as error:
            return too_many(error)
        scope[OWNER] = body.entry.owner
        header = headers.get(b"content-length", b"0")
        announced = int(header) if header.isdigit() else 0
        if announced > body.entry.max_bytes:
            return problem(413, "E108", too_long(body.entry.max_bytes), "send less at once")
        if announced and not self.has_room(body.entry.owner, 0, announced):
            return too_many(TooMany(_BUSY, 1))
        return None


@dataclass
class _Body:
    """A request's body while it arrives."""

    bounds: Bounds
    source: Receive
    entry: Entry = Entry("", 0)
    seen: int = 0
    ended: bool = False
    _waited_s: float = field(default=0.0, init=False)
    _window: tuple[float, int] = field(default=(0.0, 0), init=False)

    async def receive(self) -> Message:
        """The next message; raises HTTPException for a body that is too large or too slow."""
        if self.ended:
            return await self.source()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.bounds.pace.window_s):
                message = await self.source()
        except TimeoutError:
            raise HTTPException(408, "the request's body did not arrive in time") from None
        came = len(message.get("body", b""))
        self.ended = not message.get("more_body")
        self.seen += came
        self.bounds.held[self.entry.owner] += came
        if self.seen > self.entry.max_bytes:
            raise HTTPException(413, too_long(self.entry.max_bytes))
        if came and not self.bounds.has_room(self.entry.owner, self.seen):
            raise HTTPException(429, _BUSY, {"retry-after": "1"})
        if not self.ended:
            self._check_pace(time.monotonic() - began, came)
        return message

    def _check_pace(self, waited_s: float, came: int) -> None:
        pace = self.bounds.pace
        self._waited_s += waited_s
        window_s, window_bytes = self._window[0] + waited_s, self._window[1] + came
        if self._waited_s > pace.total_s or (window_s > pace.window_s and window_bytes < pace.window_bytes):
            raise HTTPException(408, "the request's body arrives too slowly")
        self._window = (0.0, 0) if window_bytes >= pace.window_bytes else (window_s, window_bytes)


def bound_answer(error: HTTPException) -> JSONResponse:
    """The response to an HTTPException."""
    code = {408: "E345", 413: "E108", 429: "E343"}.get(error.status_code, f"HTTP{error.status_code}")
    answer = problem(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def too_long(max_bytes: int) -> str:
    """The message for a body over the bound."""
    amount = f"{max_bytes / 2**20:g} MiB" if max_bytes >= 2**20 else f"{max_bytes / 2**10:g} KiB"
    return f"the request has more than {amount}"


def _is_foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether another site's page sent this, or a page of another port, which browsers call the same site."""
    header = headers.get(b"sec-fetch-site")
    if header is not None:
        return header not in (b"same-origin", b"none")
    origin, host = headers.get(b"origin"), headers.get(b"host", b"")  # from browsers that send only this header
    return origin is not None and urlsplit(origin.decode("latin-1")).netloc != host.decode("latin-1")
