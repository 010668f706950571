"""Where we go on behalf of a customer, and where we do not."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing

import pytest

from shared.errors import Invalid, Unavailable
from shared.outbound import Outbound, is_public

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.1"


def looking_up(*addresses: str):
    return Outbound(resolver=lambda _host, _port: addresses)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::10",
        "ff02::1",
        "::ffff:10.0.0.1",
        # An IPv4 address has a form of its own; whoever writes it so has something in mind.
        "::ffff:93.184.216.34",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "2001:db8::1",
    ],
)
def test_addresses_that_only_we_reach_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1"])
def test_addresses_that_anybody_reaches_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com/hook",
        "https:///hook",
        "https://user@example.com/hook",
        "https://user:word@example.com/hook",
        "https://example.com\\@10.0.0.1/",
        "https://example.com/a b",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://exämple.com/",
        "https://[::1/",
        "https://example.com/\n",
        "hook",
        "",
        "https://example.com/" + "x" * 2_048,
    ],
)
def test_what_is_no_plain_https_url_is_refused(url):
    with pytest.raises(Invalid) as refused:
        looking_up(PUBLIC).look_up(url)
    assert refused.value.param == "url"


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0177.0.0.1", "0x7f.1", "[::ffff:10.0.0.1]", "localhost"]
)
def test_other_spellings_of_private_addresses_are_refused(host):
    with pytest.raises((Invalid, Unavailable)):
        Outbound().look_up(f"https://{host}/hook")


def test_one_private_address_among_public_ones_is_enough_to_refuse():
    with pytest.raises(Invalid, match="not public"):
        looking_up(PUBLIC, PRIVATE).look_up("https://example.com/hook")


def test_a_name_that_nobody_knows_may_be_asked_for_again():
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror

    with pytest.raises(Unavailable):
        Outbound(resolver=unknown).look_up("https://example.com/hook")


def test_the_connection_goes_to_the_address_that_was_looked_at():
    target = looking_up(PUBLIC).look_up("https://example.com:8443/hook?a=1")
    assert target.connect_url == f"https://{PUBLIC}:8443/hook?a=1"
    assert target.host == "example.com"
    assert looking_up("2606:2800:220:1::1").look_up("https://example.com/").connect_url == (
        "https://[2606:2800:220:1::1]:443/"
    )


def test_a_name_that_changes_between_two_calls_is_refused_at_the_second():
    """A resolver that first says what pleases us, and then where it wants us to go."""
    answers = iter([[PUBLIC], [PRIVATE]])
    rebound = Outbound(resolver=lambda _host, _port: next(answers))
    rebound.look_up("https://example.com/hook")
    with pytest.raises(Invalid, match="not public"):
        asyncio.run(rebound.post("https://example.com/hook", b"", {}))


class Server:
    """Answers every connection with the same bytes, slowly if it is told to."""

    def __init__(self, answer: bytes, *, pause_seconds: float = 0.0) -> None:
        self._answer, self._pause = answer, pause_seconds
        self.seen = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://hooks.example:{self.port}/hook"

    def _serve(self) -> None:
        with closing(self._listening), self._listening.accept()[0] as connection:
            self.seen = connection.recv(65_536)
            try:
                for byte in self._answer if self._pause else [self._answer]:
                    connection.sendall(bytes([byte]) if self._pause else byte)
                    threading.Event().wait(self._pause)
            except OSError:
                return

    def outbound(self, **options) -> Outbound:
        host = f"hooks.example:{self.port}"
        return Outbound([host], resolver=lambda _host, _port: ["127.0.0.1"], **options)


def test_a_host_that_the_operator_allows_may_be_private_and_without_tls():
    server = Server(b"HTTP/1.1 204 No Content\r\n\r\n")
    reply = asyncio.run(server.outbound().post(server.url, b"body", {"x-name": "value"}))
    assert reply.status == 204
    head = server.seen.lower()
    assert b"post /hook " in head
    assert f"host: hooks.example:{server.port}".encode() in head
    assert b"x-name: value" in head


def test_a_redirect_is_an_answer_and_not_followed():
    server = Server(
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
    )
    assert asyncio.run(server.outbound().post(server.url, b"", {})).status == 302


def test_of_a_long_answer_the_beginning_is_read():
    body = b"x" * (1 << 20)
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n" + body)
    assert len(asyncio.run(server.outbound().post(server.url, b"", {})).body) == 64 << 10


def test_a_packed_answer_is_not_unpacked():
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnone")
    assert asyncio.run(server.outbound().post(server.url, b"", {})).body == b"none"


def test_a_server_that_speaks_no_http_did_not_answer():
    with pytest.raises(Unavailable, match="did not answer"):
        server = Server(b"\x15\x03\x03 no http\r\n\r\n")
        asyncio.run(server.outbound().post(server.url, b"", {}))


def test_a_server_that_speaks_no_tls_did_not_answer():
    server = Server(b"HTTP/1.1 200 OK\r\n\r\n")
    url = server.url.replace("http://", "https://")
    with pytest.raises(Unavailable, match="did not answer"):
        asyncio.run(server.outbound().post(url, b"", {}))


def test_an_answer_that_trickles_is_given_up_in_time():
    server = Server(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100, pause_seconds=0.05)
    with pytest.raises(Unavailable, match="did not answer"):
        asyncio.run(server.outbound(timeout_seconds=0.5).post(server.url, b"", {}))
