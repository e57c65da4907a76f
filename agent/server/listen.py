"""Listening for all servers: one address, no access log, and time for running requests at the end."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from namepin.tools.errors import Exit, NamepinError

GRACE_S = 30
"""Longest time for running requests after the server is told to stop."""

KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open. This is longer than clients and proxies keep theirs (5 to 60 s), so that
the server never closes a connection while a client sends its next request, which would be reset."""


def check_address(host: str, port: int) -> None:
    """Fail before anything is loaded if the address cannot be listened on.

    Raises:
        NamepinError: E344.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            probe.bind(address)
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror}"
        raise NamepinError("E344", what, mend="choose another --port", exit_code=Exit.UNREACHABLE) from error


def listen(app: Any, host: str, port: int) -> int:
    """Serve an ASGI application until it is told to stop. SIGTERM is the normal way, and counts as success.

    Raises:
        NamepinError: E344 when the address and port cannot be listened on.
    """
    import uvicorn

    from namepin.tools.images.load import end_decoders

    config = uvicorn.Config(
        app,
        host,
        port,
        log_level="warning",
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: Any = None) -> None:
            await super().shutdown(sockets)
            end_decoders()  # a thread that waits for a picture would delay the end

    server = Server(config)
    if hasattr(app, "state"):
        app.state.stopping = lambda: server.should_exit  # for streams that never end by themselves
    with _sigterm_is_no_failure():
        server.run()
    if not server.started:
        raise NamepinError("E344", f"cannot listen on {host}:{port}", mend="another --port", exit_code=Exit.UNREACHABLE)
    return Exit.DONE


@contextmanager
def _sigterm_is_no_failure() -> Iterator[None]:
    """Ignore the SIGTERM that uvicorn sends to itself again after its shutdown; the process would end as killed."""
    if threading.current_thread() is not threading.main_thread():  # signals arrive only in the main thread
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
