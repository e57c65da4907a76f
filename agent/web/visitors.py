"""The page's visitors: cookies identify a browser, and signed addresses give access to its data.

The session's cookie is a secret of 256 bits. The server does not store it and keeps the session's data under its hash.
On a server with tokens, a second cookie holds the visitor's token, checked like the token of a REST request.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig

from namepin.agent.checkpointer import thread_of
from namepin.agent.server.access import TOKEN_COOKIE, Access, Denied

SESSION_COOKIE = "namepin_session"
_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Visitor:
    """One browser of one owner.

    Attributes:
        owner: the token's owner; `local` on a server without tokens.
        key: name of this browser's data; it reveals nothing about the cookie.
        own_jobs: whether jobs are separate per browser, because every visitor is `local`.
    """

    owner: str
    key: str
    own_jobs: bool

    @property
    def thread(self) -> RunnableConfig:
        """The browser's conversation."""
        return thread_of(f"web-{self.owner}", self.key)

    @property
    def jobs_owner(self) -> str:
        """The owner of its jobs; a token has the same jobs as over REST."""
        return f"web-{self.key}" if self.own_jobs else self.owner


class Visitors:
    """Identifies visitors, and signs addresses for them."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._secret = secrets.token_bytes(32)

    def of(self, cookies: Mapping[str, str]) -> Visitor | None:
        """The visitor of these cookies; None without a session.

        Raises:
            Denied: the server has tokens, and the cookies hold none of them.
        """
        owner = self.access.owner_of(cookies.get(TOKEN_COOKIE))
        session = cookies.get(SESSION_COOKIE, "")
        if not _SESSION.fullmatch(session):
            return None
        key = hashlib.sha256(f"{owner}/{session}".encode()).hexdigest()[:32]
        return Visitor(owner, key, self.access.open)

    def require_known(self, cookies: Mapping[str, str]) -> Visitor:
        """As `of`, but a visitor without a session is also denied."""
        visitor = self.of(cookies)
        if visitor is None:
            raise Denied
        return visitor

    def sign(self, visitor: Visitor, value: str) -> str:
        """`VALUE.SIGNATURE`: proves that this process gave the value to this visitor."""
        return f"{value}.{self._signature(visitor, value)}"

    def check(self, visitor: Visitor, signed: str) -> str | None:
        """The value signed for this visitor; None for any other text."""
        value, _, signature = signed.rpartition(".")
        fits = hmac.compare_digest(self._signature(visitor, value).encode(), signature.encode("utf-8", "replace"))
        return value if fits else None

    def _signature(self, visitor: Visitor, value: str) -> str:
        payload = f"{visitor.key}/{value}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, payload, hashlib.sha256).hexdigest()[:32]


def new_session() -> str:
    """A session's cookie."""
    return secrets.token_urlsafe(32)
