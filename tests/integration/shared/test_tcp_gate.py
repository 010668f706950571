"""The TCP gate does to a connection what it is told to."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time

import pytest

from shared.testing.gate import Weather, open_gate


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65_536):
                self.server.heard.append(data)
                self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.heard: list[bytes] = []


@pytest.fixture
def server():
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def gate(server):
    with open_gate(*server.server_address, seed=1) as gate:
        yield gate


@pytest.fixture
def client(gate):
    with socket.create_connection(("127.0.0.1", gate.port), timeout=5) as client:
        yield client


def _asked(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    answer = b""
    while len(answer) < len(data):
        answer += client.recv(65_536)
    return answer


def test_fair_weather_passes_everything_through(gate, client):
    data = bytes(range(256)) * 4096
    assert _asked(client, data) == data
    assert gate.connections == 1
    client.close()
    _until(lambda: gate.connections == 0)


def test_a_delay_is_added_in_both_directions_and_is_no_bandwidth(gate, client):
    with gate.during(Weather(delay_seconds=0.1)):
        began = time.monotonic()
        for _ in range(10):
            client.sendall(b"x" * 1000)
            time.sleep(0.005)
        received = 0
        while received < 10_000:
            received += len(client.recv(65_536))
        seconds = time.monotonic() - began
    assert 0.2 <= seconds < 1.0


def test_what_is_held_goes_on_afterwards(gate, client):
    client.settimeout(0.3)
    with gate.during(Weather(is_held=True)):
        client.sendall(b"late")
        with pytest.raises(TimeoutError):
            client.recv(10)
    assert client.recv(10) == b"late"


def test_what_is_dropped_never_arrives(gate, client, server):
    client.settimeout(0.3)
    with gate.during(Weather(is_dropping=True)):
        client.sendall(b"lost")
        with pytest.raises(TimeoutError):
            client.recv(10)
    assert _asked(client, b"kept") == b"kept"
    assert b"".join(server.heard) == b"kept"


def test_slices_arrive_in_order(gate, client):
    with gate.during(Weather(slice_bytes=2)):
        assert _asked(client, b"abcdefg") == b"abcdefg"


def test_corruption_changes_bytes_and_not_their_number(gate, client):
    with gate.during(Weather(corrupt_share=1.0)):
        answer = _asked(client, b"a" * 100)
    assert len(answer) == 100
    assert answer != b"a" * 100


def test_reset_ends_standing_connections(gate, client):
    _asked(client, b"x")
    gate.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(10)


def test_close_ends_standing_connections_in_order(gate, client):
    _asked(client, b"x")
    gate.close()
    assert client.recv(10) == b""


def test_refused_connections_end_at_once(gate):
    gate.set(Weather(is_refusing=True))
    client = socket.create_connection(("127.0.0.1", gate.port), timeout=5)
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(10) == b""


def test_a_cut_lets_the_request_through_and_the_answer_not(gate, client, server):
    with gate.during(Weather(cut_after=b"COMMIT")):
        client.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    _until(lambda: server.heard == [b"COMMIT"])
    assert gate.cuts == 1


@pytest.mark.parametrize(("kind", "heard"), [("stall_before", []), ("stall_after", [b"ACK"])])
def test_a_stalled_client_waits_and_is_named(gate, client, server, kind, heard):
    client.settimeout(0.3)
    assert _asked(client, b"x") == b"x"
    with gate.during(Weather(**{kind: b"ACK"})):
        client.sendall(b"ACK")
        with pytest.raises(TimeoutError):
            client.recv(10)
    # It stays stalled in fair weather; others are served.
    client.sendall(b"more")
    with pytest.raises(TimeoutError):
        client.recv(10)
    assert server.heard == [b"x", *heard]
    assert gate.stalled == [client.getsockname()[1]]
    client.close()
    _until(lambda: gate.connections == 0)


def _until(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
