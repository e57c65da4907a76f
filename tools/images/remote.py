"""Downloads pictures from addresses: off by default; only from public servers, over TLS and within bounds.

A post by a stranger may name a server that only this machine can reach (SSRF). So the name is resolved once, and all
its addresses must be public. The connection goes to the checked address, not to the name, which could resolve to
another address a moment later. Each redirect is checked in the same way.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from namepin.tools.errors import NamepinError

MAX_BYTES = 32 * 2**20
TIMEOUT_S = 15.0
_REDIRECTS = 3
_PIECE = 65536

Resolve = Callable[[str, int], list[str]]


def fetch(
    address: str,
    *,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
    resolve: Resolve | None = None,
    is_allowed: Callable[[str], bool] | None = None,
    tls: ssl.SSLContext | None = None,
) -> bytes:
    """The bytes at an https address.

    Args:
        address: `https://host/path`, without user and password, on port 443.
        max_bytes: largest size of the response's body.
        timeout_s: wall-clock limit of the whole download, redirects included.
        resolve: host and port to IP addresses; None asks the system.
        is_allowed: whether an IP address may be connected to; None is `is_public`.
        tls: the TLS settings; None verifies against the system's certificate authorities.

    Raises:
        NamepinError: E126 for a refused address, E127 when its server does not deliver.
    """
    deadline = time.monotonic() + timeout_s
    tls = tls or ssl.create_default_context()
    for _ in range(_REDIRECTS + 1):
        host, port, path = _parts(address, any_port=is_allowed is not None)
        ip = _checked_ip(host, port, resolve or _system_resolve, is_allowed or is_public)
        try:
            body, location = _get(host, port, path, ip, tls, deadline, max_bytes)
        except (OSError, http.client.HTTPException) as error:
            what = f"the server did not deliver the picture ({type(error).__name__})"
            raise NamepinError("E127", what, where=host, mend="check the address, or give the file") from error
        if location is None:
            return body
        address = urljoin(address, location)
    raise NamepinError("E127", f"more than {_REDIRECTS} redirects", where=host, mend="give the last address")


def is_public(ip: str) -> bool:
    """Whether an IP address belongs to a machine on the public internet, also for IPv4 addresses in IPv6 form.

    It must be global by Python's tables, and outside the blocks below, since the tables of older versions lack some.
    """
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address not in _UNICAST:  # fec0::/10, IPv4-compatible and translated addresses, and unassigned blocks
            return False
    if any(address in block for block in _SPECIAL if block.version == address.version):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


_UNICAST = ipaddress.ip_network("2000::/3")
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA's registries of special-purpose addresses, as of 2026-11 (RFC 6890).
            "0.0.0.0/8",
            "100.64.0.0/10",
            "192.0.0.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "240.0.0.0/4",
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "2620:4f:8000::/48",
            "3fff::/20",
            # Metadata of clouds on addresses that are global: Azure's (168.63.129.16). The others are 169.254.169.254,
            # 169.254.170.2, 100.100.100.200, 192.0.0.192 and fd00:ec2::254, in blocks that are refused in any case.
            "168.63.129.16/32",
        ),
    )
)


def _parts(address: str, *, any_port: bool) -> tuple[str, int, str]:
    try:
        url = urlsplit(address)
        port = url.port or 443
    except ValueError:
        raise _refusal("it is not an address") from None
    if url.scheme != "https":
        raise _refusal("only https addresses are read")
    if not url.hostname or url.username is not None or url.password is not None:
        raise _refusal("it needs a host, and no user or password")
    if port != 443 and not any_port:
        raise _refusal("only port 443 is read")
    if not address.isascii() or any(ord(character) < 33 for character in address):
        raise _refusal("it holds blanks or characters beyond ASCII")
    return url.hostname, port, (url.path or "/") + (f"?{url.query}" if url.query else "")


def _checked_ip(host: str, port: int, resolve: Resolve, is_allowed: Callable[[str], bool]) -> str:
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise NamepinError("E127", "the host's name does not resolve", where=host, mend="check the address") from error
    if not found or not all(map(is_allowed, found)):
        raise _refusal("its host is not on the public internet")
    return found[0]


def _system_resolve(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _get(
    host: str, port: int, path: str, ip: str, tls: ssl.SSLContext, deadline: float, max_bytes: int
) -> tuple[bytes, str | None]:
    """The body, or the target of a redirect."""
    connection = _PinnedConnection(host, port, ip, tls, _left(deadline))
    try:
        connection.request("GET", path, headers={"user-agent": "namepin", "accept": "image/*"})
        with connection.getresponse() as answer:
            if answer.status in (301, 302, 303, 307, 308) and (location := answer.getheader("location")):
                return b"", location
            if answer.status != 200:
                raise NamepinError("E127", f"the server answers {answer.status}", where=host, mend="check the address")
            body = bytearray()
            while piece := answer.read1(_PIECE):
                body += piece
                if len(body) > max_bytes:
                    raise NamepinError("E125", f"more than {max_bytes / 2**20:g} MiB", where=host, mend="scale it down")
                connection.wire.settimeout(_left(deadline))
            return bytes(body), None
    finally:
        connection.close()


class _PinnedConnection(http.client.HTTPSConnection):
    """A TLS connection to an IP address that was checked, for the host whose certificate it must show."""

    wire: ssl.SSLSocket
    """A second reference to `sock`, which `http.client` drops when the answer ends with the connection."""

    def __init__(self, host: str, port: int, ip: str, tls: ssl.SSLContext, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s, context=tls)
        self._ip, self._tls = ip, tls

    def connect(self) -> None:
        """Connect to the checked address, and verify the host's name."""
        raw = socket.create_connection((self._ip, self.port), self.timeout)
        try:
            self.sock = self.wire = self._tls.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the picture took too long")
    return left


def _refusal(why: str) -> NamepinError:
    # The address itself is not repeated: it may hold a secret.
    return NamepinError("E126", f"the picture's address is refused: {why}", mend="give the picture's file")
