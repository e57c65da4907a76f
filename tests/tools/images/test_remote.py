"""Addresses of pictures: what is refused before any connection, and a real TLS server on loopback for the rest."""

import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trustme

from namepin.tools.errors import NamepinError
from namepin.tools.images.remote import fetch, is_public
from support.loopback import serving


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/a.jpg",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "https://",
        "https://user:secret@example.com/a",
        "https://example.com:8443/a",
        "https://exa mple.com/a",
        "https://example.com/a\r\nx: y",
        "https://[::1",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://0/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://100.64.0.1/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
    ],
)
def test_fetch_of_disallowed_address_raises_e126_or_e127(address: str) -> None:
    with pytest.raises(NamepinError) as caught:
        fetch(address, timeout_s=2)
    assert caught.value.code in ("E126", "E127")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("ip", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
        ("fec0::1", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("100.100.100.200", False),
        ("169.254.170.2", False),
        ("192.88.99.1", False),
        ("2001::1", False),
        ("2001:20::1", False),
        ("2001:db8::1", False),
        ("2002:5db8:d822::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("::1.2.3.4", False),
        ("::ffff:168.63.129.16", False),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
    ],
)
def test_is_public_is_true_for_global_addresses_only(ip: str, public: bool) -> None:
    assert is_public(ip) is public


def test_fetch_with_one_private_address_of_host_is_refused() -> None:
    with pytest.raises(NamepinError, match="public internet"):
        fetch("https://example.com/a", resolve=lambda host, port: ["93.184.216.34", "127.0.0.1"])


def test_fetch_connects_to_address_checked_at_first_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another machine a moment later (DNS rebinding) means nothing."""
    answers, connected = iter([["93.184.216.34"], ["127.0.0.1"]]), list[tuple[str, int]]()

    def connect(address: tuple[str, int], timeout: float) -> Any:
        connected.append(address)
        raise OSError("nobody there")

    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(NamepinError, match="E127"):
        fetch("https://rebinds.example/a.jpg", resolve=lambda host, port: next(answers))
    assert connected == [("93.184.216.34", 443)] and next(answers) == ["127.0.0.1"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/picture":
            self._answer(b"x" * 1000)
        elif self.path == "/large":
            self._answer(b"x" * 100_000)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:  # it never ends by itself
                    self.wfile.write(b"x")
                    time.sleep(0.1)
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/"))
            self.end_headers()
        else:
            self.send_error(404)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread; a client that hangs up is no error of the test's."""

    tls: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self.tls.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            pass


@pytest.fixture(scope="module")
def site() -> Iterator[dict[str, Any]]:
    """A TLS server as `pictures.test`, and the options that let `fetch` reach it."""
    authority = trustme.CA()
    server_tls, client_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("pictures.test").configure_cert(server_tls)
    authority.configure_trust(client_tls)
    server = Server(("127.0.0.1", 0), Handler)
    server.tls = server_tls
    with serving(server):
        yield {
            "base": f"https://pictures.test:{server.server_port}",
            "options": {
                "resolve": lambda host, port: ["127.0.0.1"] if host == "pictures.test" else ["10.0.0.1"],
                "is_allowed": lambda ip: ip == "127.0.0.1",
                "tls": client_tls,
            },
        }


def test_fetch_follows_redirect_and_returns_picture_bytes(site: dict[str, Any]) -> None:
    assert fetch(site["base"] + "/picture", **site["options"]) == b"x" * 1000
    assert fetch(site["base"] + "/to//picture", **site["options"]) == b"x" * 1000


@pytest.mark.parametrize(
    ("path", "code", "options"),
    [
        ("/large", "E125", {"max_bytes": 50_000}),
        ("/slow", "E127", {"timeout_s": 0.5}),
        ("/missing", "E127", {}),
        ("/to/https://elsewhere.test/", "E126", {}),
        ("/to/http://pictures.test/", "E126", {}),
        ("/to/file:///etc/passwd", "E126", {}),
    ],
)
def test_fetch_beyond_bounds_raises_coded_error(site: dict[str, Any], path: str, code: str, options: Any) -> None:
    with pytest.raises(NamepinError) as caught:
        fetch(site["base"] + path, **site["options"], **options)
    assert caught.value.code == code


def test_fetch_with_endless_redirects_raises(site: dict[str, Any]) -> None:
    with pytest.raises(NamepinError, match="redirects"):
        fetch(site["base"] + "/to/" * 9 + "x", **site["options"])


def test_fetch_with_certificate_of_other_host_raises_e127(site: dict[str, Any]) -> None:
    options = {**site["options"], "resolve": lambda host, port: ["127.0.0.1"]}
    with pytest.raises(NamepinError, match="E127"):
        fetch(site["base"].replace("pictures.test", "other.test") + "/picture", **options)
