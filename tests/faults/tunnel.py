"""TLS in front of a Postgres that was built without: what deployments have a server or proxy do."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# What libpq has to be told: TLS from the first byte, and nothing without it.
CLIENT_OPTIONS = {"sslmode": "require", "sslnegotiation": "direct"}


@contextlib.contextmanager
def tunnel_to(host: str, port: int) -> Iterator[int]:
    """The port where TLS is spoken for a server that does not."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tunnel", daemon=True)
    thread.start()

    async def serve() -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                answers, server = await asyncio.open_connection(host, port)
                await asyncio.gather(_pump(reader, server), _pump(answers, writer))

        return await asyncio.start_server(accept, "127.0.0.1", 0, ssl=_context())

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(timeout=10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until either end is gone; what TLS finds changed on the way ends it as well."""
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()


def _context() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Direct negotiation insists on this name.
    context.set_alpn_protocols(["postgresql"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "both.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(file)
    return context
