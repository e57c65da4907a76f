"""How a command listens: one address, no access log, time for what was begun."""

from typing import Any

from tools.errors import Exit, NamepinError

GRACE_S = 30
"""How long requests that were begun may go on when the server is told to stop."""


def listen(app: Any, host: str, port: int) -> int:
    """Serve an ASGI application until it is told to stop.

    Raises:
        NamepinError: E344 when the address and port cannot be listened on.
    """
    import uvicorn

    config = uvicorn.Config(
        app, host, port, log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE_S, access_log=False
    )
    server = uvicorn.Server(config)
    if hasattr(app, "state"):
        app.state.stopping = lambda: server.should_exit  # for streams that have no end of their own
    server.run()
    if not server.started:
        raise NamepinError("E344", f"cannot listen on {host}:{port}", mend="another --port", exit_code=Exit.UNREACHABLE)
    return Exit.DONE
