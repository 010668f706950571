"""A TCP gate between a client and a server, which does to their bytes what networks do.

It runs an event loop in a thread of its own, so that a test directs it with plain calls. After
the idea of userver's `TcpGate`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_CHUNK_BYTES = 65_536
_LINGER_NOT = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Weather:
    """
    What happens to bytes on their way, in both directions.

    Attributes:
        delay_seconds: Added to every chunk; chunks follow each other as closely as before.
        slice_bytes: Chunks are cut into pieces of this size, each sent alone.
        corrupt_share: Share of pieces in which one byte is changed.
        is_held: Nothing moves until the weather changes; then it goes on as if nothing had been.
        is_dropping: Bytes vanish while both sides believe that the connection stands.
        is_refusing: New connections are reset at once.
        cut_after: Of bytes from the client: they still reach the server, then both ends are
            reset before an answer gets back.
        stall_before: Of bytes from the client: neither they nor anything after them passes in
            either direction, so that the client waits in the middle of what it does.
        stall_after: As *stall_before*, but these bytes still reach the server.
    """

    delay_seconds: float = 0.0
    slice_bytes: int | None = None
    corrupt_share: float = 0.0
    is_held: bool = False
    is_dropping: bool = False
    is_refusing: bool = False
    cut_after: bytes | None = None
    stall_before: bytes | None = None
    stall_after: bytes | None = None


FAIR = Weather()


@dataclass(eq=False)
class _Connection:
    """One client and the server's side of it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_stalled: bool = False

    def end(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset:
                raw: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    # Discards what is unsent and answers with RST instead of FIN.
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                writer.transport.abort()
            else:
                writer.close()


class Gate:
    """
    Forwards connections to one server.

    Attributes:
        port: Where it listens.
        connections: How many stand at the moment.
        cuts: How many connections `cut_after` has ended.
        stalled: Ports of the clients that `stall_before` and `stall_after` have stalled.
    """

    def __init__(
        self, host: str, port: int, *, listen: str = "127.0.0.1", seed: int | None = None
    ) -> None:
        """
        Args:
            host: Of the server.
            port: Of the server.
            listen: Address to listen on; the port is chosen by the system.
            seed: Of the bytes that get corrupted.
        """
        self._upstream = (host, port)
        self._listen = listen
        self._chance = random.Random(seed)
        self._weather = FAIR
        self._changed = asyncio.Event()
        self._open: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)
        self.port = 0
        self.cuts = 0
        self.stalled: list[int] = []

    @property
    def connections(self) -> int:
        return len(self._open)

    def start(self) -> None:
        self._thread.start()
        future = asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        self.port = future.result(timeout=10)

    def stop(self) -> None:
        self._call(self._server.close)
        self.set(FAIR)
        self.reset()
        asyncio.run_coroutine_threadsafe(self._ended(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def set(self, weather: Weather) -> None:
        """Let *weather* hold from now on, for connections that stand as well."""

        def change() -> None:
            self._weather = weather
            self._changed.set()
            self._changed = asyncio.Event()

        self._call(change)

    @contextlib.contextmanager
    def during(self, weather: Weather) -> Iterator[None]:
        """*weather* for the length of a block, fair afterwards."""
        self.set(weather)
        try:
            yield
        finally:
            self.set(FAIR)

    def reset(self) -> None:
        """End every connection with RST, as a host does that has forgotten them."""
        self._call(lambda: self._end_all(reset=True))

    def close(self) -> None:
        """End every connection with FIN, as a server does that stops."""
        self._call(lambda: self._end_all(reset=False))

    def _call(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(timeout=10)

    def _end_all(self, *, reset: bool) -> None:
        for connection in self._open:
            connection.end(reset=reset)

    async def _ended(self) -> None:
        """Until what bad weather held up has noticed that its connection is gone."""
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _serve(self) -> int:
        self._server = await asyncio.start_server(self._accept, self._listen, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            if self._weather.is_refusing:
                raise ConnectionRefusedError
            answers, server = await asyncio.open_connection(*self._upstream)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client, server)
        self._open.add(connection)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(connection, reader, server, is_request=True))
                pumps.create_task(self._pump(connection, answers, client, is_request=False))
        finally:
            self._open.discard(connection)

    async def _pump(
        self,
        connection: _Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        """Reads and writes are two tasks, so that a delay does not become a bandwidth."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = self._loop.create_task(self._write(connection, line, sink, is_request=is_request))
        try:
            while data := await source.read(_CHUNK_BYTES):
                line.put_nowait((self._loop.time(), data))
        except OSError:
            pass
        line.put_nowait((self._loop.time(), b""))
        await writing

    async def _write(
        self,
        connection: _Connection,
        line: asyncio.Queue[tuple[float, bytes]],
        sink: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                read_at, data = await line.get()
                weather = await self._admitted(read_at)
                if not data:
                    break
                if is_request and _has(data, weather.stall_before):
                    self._stall(connection)
                if weather.is_dropping or connection.is_stalled:
                    continue
                if is_request and _has(data, weather.stall_after):
                    # Marked first, so that no answer is faster.
                    self._stall(connection)
                for piece in _pieces(data, weather.slice_bytes):
                    sink.write(self._spoilt(piece, weather.corrupt_share))
                    await sink.drain()
                if is_request and _has(data, weather.cut_after):
                    self.cuts += 1
                    connection.end(reset=True)
                    return
        if not self._weather.is_dropping:
            sink.close()

    async def _admitted(self, read_at: float) -> Weather:
        """Wait until what was read at *read_at* may go on; the weather it goes on in."""
        while True:
            changed, weather = self._changed, self._weather
            if weather.is_held:
                await changed.wait()
                continue
            left = read_at + weather.delay_seconds - self._loop.time()
            if left > 0:
                await asyncio.sleep(left)
                continue
            return weather

    def _stall(self, connection: _Connection) -> None:
        if not connection.is_stalled:
            connection.is_stalled = True
            self.stalled.append(connection.client.get_extra_info("peername")[1])

    def _spoilt(self, piece: bytes, share: float) -> bytes:
        if not share or self._chance.random() >= share:
            return piece
        at = self._chance.randrange(len(piece))
        return piece[:at] + bytes([piece[at] ^ (1 + self._chance.randrange(255))]) + piece[at + 1 :]


def _has(data: bytes, wanted: bytes | None) -> bool:
    return wanted is not None and wanted in data


def _pieces(data: bytes, size: int | None) -> Iterator[bytes]:
    for start in range(0, len(data), size or len(data)):
        yield data[start : start + (size or len(data))]


@contextlib.contextmanager
def open_gate(
    host: str, port: int, *, listen: str = "127.0.0.1", seed: int | None = None
) -> Iterator[Gate]:
    """A gate for the length of a block; see `Gate`."""
    gate = Gate(host, port, listen=listen, seed=seed)
    gate.start()
    try:
        yield gate
    finally:
        gate.stop()
