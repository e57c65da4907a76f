"""Whether a chat model may be asked. Who must not wait is told that he would have to, before anything is sent."""

from contextvars import ContextVar

REQUESTS_ALLOWED: ContextVar[bool] = ContextVar("may_ask", default=True)
"""Where it is false, tools answer from what they keep, or raise `RequestNeeded`."""

THREADS = "namepin-asking"
"""How threads are called that wait for other machines: nobody waits for them when the process ends."""


class RequestNeeded(Exception):
    """The answer is not kept: a server has to be asked for it."""
