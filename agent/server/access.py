"""Access control: bearer tokens, compared in constant time, and a request rate per token."""

import hashlib
import hmac
import ipaddress
import os
import re
import threading
import time
from collections.abc import Callable, Mapping

from namepin.tools.errors import NamepinError

TOKENS_VARIABLE = "NAMEPIN_TOKENS"
"""Holds `alice=TOKEN, bob=TOKEN`. Tokens are secrets, so they come from the environment only."""

TOKEN_COOKIE = "namepin_token"
"""Cookie with a visitor's token, if the page asks for one."""

LOCAL = "local"
"""The owner of everything on a server without tokens, which must listen on the loopback interface."""

SHORTEST = 16
_MOST_BUCKETS = 10_000


class Denied(Exception):
    """The token is missing or unknown."""


class TooMany(Exception):
    """The rate is exceeded or a queue is full; `retry_after` is in seconds."""

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(what)
        self.retry_after = max(1, round(retry_after))


class ClientGone(Exception):
    """The client has closed its connection while its post waited."""


class Access:
    """Tokens and their rates.

    Args:
        tokens: owner -> token; without tokens, every client is `local`.
        per_minute: largest number of requests per owner and minute, as a token bucket of this size.
        clock: function that returns monotonic seconds.
    """

    def __init__(self, tokens: Mapping[str, str], per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._digests = {owner: _digest(token) for owner, token in tokens.items()}
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether the server needs no token."""
        return not self._digests

    def owner_of(self, token: str | None) -> str:
        """The owner of a token. All tokens are compared, each in constant time.

        Raises:
            Denied: the token is unknown.
        """
        if self.open:
            return LOCAL
        given, found = _digest(token or ""), None
        for owner, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = owner
        if found is None:
            raise Denied
        return found

    def count(self, owner: str) -> None:
        """Count one request.

        Raises:
            TooMany: the owner's bucket is empty.
        """
        with self._lock:
            now = self._clock()
            level, filled = self._buckets.get(owner, (float(self._per_minute), now))
            level = min(self._per_minute, level + (now - filled) * self._per_minute / 60)
            if level < 1:
                self._buckets[owner] = (level, now)
                raise TooMany(f"more than {self._per_minute} requests a minute", (1 - level) * 60 / self._per_minute)
            self._buckets[owner] = (level - 1, now)
            if len(self._buckets) > _MOST_BUCKETS:  # addresses that try tokens; full buckets may be dropped first
                fullest = sorted(self._buckets, key=lambda name: self._buckets[name], reverse=True)
                self._buckets = {name: self._buckets[name] for name in fullest[_MOST_BUCKETS // 2 :]}


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer TOKEN` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else None


def tokens_from_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Owner -> token, from NAMEPIN_TOKENS.

    Raises:
        NamepinError: E340 if it is not `name=token, ...` with names of letters and digits and long tokens.
    """
    entries = (os.environ if environment is None else environment).get(TOKENS_VARIABLE, "")
    tokens: dict[str, str] = {}
    for number, part in enumerate(filter(None, map(str.strip, entries.split(","))), 1):
        owner, _, token = part.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", owner) or owner in tokens or len(token) < SHORTEST:
            what = f"entry {number} is not name=token with a unique name and a token of {SHORTEST} or more characters"
            mend = 'make one: python -c "import secrets; print(secrets.token_urlsafe())"'
            raise NamepinError("E340", what, where=TOKENS_VARIABLE, mend=mend)
        tokens[owner] = token
    return tokens


def check_host(host: str, tokens: Mapping[str, str]) -> None:
    """Refuse to listen beyond this machine without tokens.

    Raises:
        NamepinError: E341.
    """
    if not tokens and not is_loopback(host):
        what = f"{host} can be reached from other machines, and no tokens are set"
        raise NamepinError("E341", what, where="--host", mend=f"set {TOKENS_VARIABLE}=name=token, or use 127.0.0.1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
