"""An application behind uvicorn on loopback, in a thread of the test."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from support.processes import free_port

HOST = "http://localhost"
"""A name that the servers answer to, for test clients, which would call them `testserver`."""


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The application while the block runs; yields its port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        thread.join()
