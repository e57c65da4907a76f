"""What processes of servers run whose limits are others than `namepin serve`'s."""

from collections.abc import Sequence
from typing import Any

from support.forked import command

SHORT_S = 0.5


def short_grace(arguments: Sequence[str]) -> None:
    """`namepin ARGUMENTS`, which cuts off what still runs soon after it was told to stop."""
    from namepin.agent.server import listen

    listen.GRACE_S = SHORT_S
    command(arguments)


def endless_pictures(arguments: Sequence[str]) -> None:
    """The same, which also decodes as long as it takes, as if the bounds of a picture's header had missed it."""
    from namepin.tools.images import load

    load.DEADLINE_S = 3600.0
    load.check_header = lambda data, max_pixels: False  # type: ignore[assignment]  # refuses nothing
    short_grace(arguments)


def bare(port: int, keep_alive_s: float | None) -> None:
    """A server that says "ok", and keeps connections so long, or as long as Namepin's where nothing is given."""
    from namepin.agent.server import listen

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

    listen.KEEP_ALIVE_S = keep_alive_s or listen.KEEP_ALIVE_S
    listen.listen(app, "127.0.0.1", port)
