"""Who may come in, and how often: bearer tokens compared in constant time, a rate for each of them."""

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
"""`alice=TOKEN, bob=TOKEN`: tokens are secrets, so they come from the environment only."""

TOKEN_COOKIE = "namepin_token"
"""A visitor's token, where the page asks for one."""

LOCAL = "local"
"""The owner of everything where no tokens are set, which only a server on the loopback interface may do."""

SHORTEST = 16
_MOST_BUCKETS = 10_000


class Denied(Exception):
    """No token, or one that nobody has."""


class TooMany(Exception):
    """Over the rate, or more waits than may wait; `retry_after` is in seconds."""

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(what)
        self.retry_after = max(1, round(retry_after))


class Access:
    """Tokens and their rates.

    Args:
        tokens: owner -> token; none admits everybody as `local`.
        per_minute: requests an owner may make, as a bucket that holds that many and fills evenly.
        clock: seconds, monotonic.
    """

    def __init__(self, tokens: Mapping[str, str], per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._digests = {owner: _digest(token) for owner, token in tokens.items()}
        self._per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether nobody needs a token."""
        return not self._digests

    def owner_of(self, token: str | None) -> str:
        """Whose token this is. Every token is compared, in constant time, whichever fits.

        Raises:
            Denied: nobody's.
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
            if len(self._buckets) > _MOST_BUCKETS:  # addresses that try tokens: the fullest ones say least
                fullest = sorted(self._buckets, key=lambda name: self._buckets[name], reverse=True)
                self._buckets = {name: self._buckets[name] for name in fullest[_MOST_BUCKETS // 2 :]}


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer TOKEN` header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else None


def tokens_from_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Owner -> token, of NAMEPIN_TOKENS.

    Raises:
        NamepinError: E340 where it is not `name=token, ...` with names of letters and digits and long tokens.
    """
    said = (os.environ if environment is None else environment).get(TOKENS_VARIABLE, "")
    tokens: dict[str, str] = {}
    for number, part in enumerate(filter(None, map(str.strip, said.split(","))), 1):
        owner, _, token = part.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", owner) or owner in tokens or len(token) < SHORTEST:
            what = f"entry {number} is not name=token, a name of its own and {SHORTEST} or more characters of token"
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
