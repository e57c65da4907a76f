"""Who looks at the page: a browser is known by its cookies, and what is its own by signed addresses.

The session's cookie is a secret of 256 bits that the server does not store: what belongs to the session is kept under
its hash. Where the server has tokens, a second cookie holds the visitor's, compared like that of every REST request.
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
        owner: whose token it is; `local` where the server has none.
        key: names what is this browser's; it tells nothing about the cookie.
        own_jobs: whether jobs are kept apart by browser, because everybody is `local`.
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
        """Under whose name its jobs are kept: those of a token are the same as over REST."""
        return f"web-{self.key}" if self.own_jobs else self.owner


class Visitors:
    """Tells visitors apart, and signs what one of them was given."""

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

    def known(self, cookies: Mapping[str, str]) -> Visitor:
        """As `of`; a visitor without a session is denied, too."""
        visitor = self.of(cookies)
        if visitor is None:
            raise Denied
        return visitor

    def sign(self, visitor: Visitor, value: str) -> str:
        """`VALUE.SIGNATURE`: says that this visitor was given the value by this process."""
        return f"{value}.{self._signature(visitor, value)}"

    def check(self, visitor: Visitor, signed: str) -> str | None:
        """The value that was signed for this visitor; None for anything else."""
        value, _, signature = signed.rpartition(".")
        fits = hmac.compare_digest(self._signature(visitor, value).encode(), signature.encode("utf-8", "replace"))
        return value if fits else None

    def _signature(self, visitor: Visitor, value: str) -> str:
        said = f"{visitor.key}/{value}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, said, hashlib.sha256).hexdigest()[:32]


def new_session() -> str:
    """A session's cookie."""
    return secrets.token_urlsafe(32)
