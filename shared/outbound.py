"""Calls to addresses that a customer gave: webhooks, and base URLs of providers.

Such an address may be chosen to make us reach what only we can reach. So every address a name
resolves to has to be public, and the connection is made to the address that was looked at.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

import anyio
import httpx2

from shared.errors import Invalid, Unavailable

Resolve = Callable[[str, int], Sequence[str]]

_TIMEOUT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 64 << 10
_MAX_URL_CHARACTERS = 2_048
# What a stranger's server makes the libraries raise; TLS that breaks off comes as it is.
_SILENCE = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    OSError,
    TimeoutError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
_USUAL_PORTS = {"http": 80, "https": 443}
# Its last 32 bits are an IPv4 address behind a translator; it may be a private one.
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """
    Attributes:
        url: As it was given.
        address: One of those its name resolves to; all of them were looked at.
        port: Of the service.
    """

    url: SplitResult
    address: str
    port: int

    @property
    def host(self) -> str:
        return str(self.url.hostname)

    @property
    def host_header(self) -> str:
        """The name as the receiver expects it, with the port if that is not the usual one."""
        is_usual = self.port == _USUAL_PORTS[self.url.scheme]
        return _bracketed(self.host) if is_usual else f"{_bracketed(self.host)}:{self.port}"

    @property
    def connect_url(self) -> str:
        """The same URL with the address in place of the name."""
        return urlunsplit(self.url._replace(netloc=f"{_bracketed(self.address)}:{self.port}"))


@dataclass(frozen=True, slots=True)
class Reply:
    """
    Attributes:
        status: Of HTTP; a redirect is not followed.
        body: Its first 64 KiB.
    """

    status: int
    body: bytes


def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of *host*, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the internet may reach."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return (
        parsed.is_global
        and not parsed.is_multicast
        and not parsed.is_reserved
        and not getattr(parsed, "is_site_local", False)
        and not _hides_another(parsed)
    )


def _hides_another(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """One of four ways to write an IPv4 address in IPv6, none of which a receiver needs."""
    return isinstance(address, ipaddress.IPv6Address) and bool(
        address in _TRANSLATED or address.ipv4_mapped or address.sixtofour or address.teredo
    )


class Outbound:
    """Sends to public addresses, and to those hosts besides that the operator allows."""

    def __init__(
        self,
        allowed_hosts: Collection[str] = (),
        *,
        resolver: Resolve = resolve,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        """
        Args:
            allowed_hosts: `host:port` that may be private, and may be spoken to without TLS.
            resolver: Looks a name up.
            timeout_seconds: For a whole exchange, however slowly it trickles.
        """
        self._allowed = frozenset(allowed_hosts)
        self._resolve = resolver
        self._timeout_seconds = timeout_seconds

    def look_up(self, url: str) -> Target:
        """
        Where a URL leads, if we may go there.

        Raises:
            Invalid: It is no https URL, or leads somewhere that is not public.
            Unavailable: Its name cannot be looked up now.
        """
        parts = _parsed(url)
        host, port = str(parts.hostname), parts.port or _USUAL_PORTS[parts.scheme]
        is_allowed = f"{host}:{port}" in self._allowed
        if parts.scheme != "https" and not is_allowed:
            raise _refused("Give an https URL.")
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Unavailable(
                f"The host '{host}' cannot be looked up.", code="host_not_found"
            ) from error
        if not addresses or not (is_allowed or all(is_public(each) for each in addresses)):
            raise _refused(f"The host '{host}' leads to an address that is not public.")
        return Target(parts, addresses[0], port)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """
        Send one request; the name is looked up anew, and the connection goes to what was found.

        Raises:
            Invalid: See `look_up`.
            Unavailable: Nobody answered in time.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(url, body, headers)
        except _SILENCE as error:
            raise Unavailable(
                f"The receiver did not answer: {type(error).__name__}.", code="host_silent"
            ) from error

    async def _exchange(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        target = await asyncio.to_thread(self.look_up, url)
        async with (
            # No proxy of the environment: it would look the name up again.
            httpx2.AsyncClient(trust_env=False, timeout=self._timeout_seconds) as client,
            client.stream(
                "POST",
                target.connect_url,
                content=body,
                headers={**headers, "host": target.host_header},
                extensions={"sni_hostname": target.host},
            ) as answer,
        ):
            return Reply(answer.status_code, await _beginning(answer))


async def _beginning(answer: httpx2.Response) -> bytes:
    """Its first bytes as they came; what follows is not read, and nothing is unpacked."""
    read = b""
    async for chunk in answer.aiter_raw():
        read += chunk
        if len(read) >= _MAX_ANSWER_BYTES:
            break
    return read[:_MAX_ANSWER_BYTES]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parsed(url: str) -> SplitResult:
    if len(url) > _MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable():
        raise _refused(f"Give a URL of at most {_MAX_URL_CHARACTERS} printable ASCII characters.")
    if "\\" in url or " " in url:
        raise _refused("Write the URL without backslashes and spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(f"This is no URL: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise _refused("Give an https URL with a host.")
    if parts.username is not None or parts.password is not None:
        raise _refused("Write the URL without a user; a webhook is signed instead.")
    return parts


def _refused(message: str) -> Invalid:
    return Invalid(message, code="invalid_url", param="url")
