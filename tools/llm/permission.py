"""Whether requests to a chat model are allowed. Where they are not, `RequestNeeded` is raised before a request."""

from contextvars import ContextVar

REQUESTS_ALLOWED: ContextVar[bool] = ContextVar("may_ask", default=True)
"""Where it is false, tools answer from their cache, or raise `RequestNeeded`."""

THREADS = "namepin-asking"
"""Name prefix of threads that wait for other machines. The end of the process does not wait for them."""

COMPUTING = "namepin-computing"
"""Name prefix of a server's threads that compute. At its end, nobody waits for what they still do."""


class RequestNeeded(Exception):
    """The answer is not cached, so a request to a server is needed."""
