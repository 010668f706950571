"""Starting a layout: servers, database, settings and supervised processes, and ending them."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from infra import database
from infra.local import embedded
from infra.local.embedded import EmbeddedServer
from infra.local.home import Home
from infra.local.settings import free_port
from infra.local.supervisor import Supervisor
from shared.settings import CoreSettings
from shared.testing.gate import Gate
from tests.faults.layout import SCALED, SEAL_MILLISECONDS, Layout, specs
from tests.faults.orders import Shop
from tests.faults.stack import ROOT, Stack
from tests.faults.tunnel import CLIENT_OPTIONS, tunnel_to

# Tables of the harness beside the product's: what happened, without a constraint that would hide
# a second effect.
_LEDGER = """
CREATE SCHEMA faults;
CREATE TABLE faults.effects (
    seq bigint GENERATED ALWAYS AS IDENTITY, number text NOT NULL, kind text NOT NULL,
    project text, by text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX effects_number ON faults.effects (number);
CREATE TABLE faults.reservations (number text PRIMARY KEY);
CREATE TABLE faults.steps (
    seq bigint GENERATED ALWAYS AS IDENTITY, number text NOT NULL, step int NOT NULL,
    fence bigint NOT NULL);
CREATE TABLE faults.refusals (number text NOT NULL, fence bigint NOT NULL);
CREATE TABLE faults.antidotes (number text PRIMARY KEY);
GRANT USAGE ON SCHEMA faults TO app, spine;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA faults TO app, spine;
"""


@contextlib.contextmanager
def running(layout: Layout) -> Iterator[Stack]:
    """A stack for the length of a block."""
    with contextlib.ExitStack() as parts:
        folder = parts.enter_context(tempfile.TemporaryDirectory(prefix="perpetune-"))
        home = Home.at(Path(folder) / "home")
        home.create()
        postgres = parts.enter_context(embedded.private_postgres(is_durable=True))
        bus = parts.enter_context(embedded.private_valkey("bus"))
        bus.command = [*bus.command, *layout.bus_options]
        if layout.bus_options:
            bus.kill()
            bus.restart()
        stack = _make(layout, home, postgres, bus, parts)
        parts.callback(stack.supervisor.stop, timeout_seconds=75)
        parts.callback(_thaw_all, stack)
        stack.supervisor.start(specs(layout), _environment(stack))
        stack.supervisor.start_group("services")
        stack.await_ready()
        yield stack


def _make(
    layout: Layout,
    home: Home,
    postgres: EmbeddedServer,
    bus: EmbeddedServer,
    parts: contextlib.ExitStack,
) -> Stack:
    owner_url = make_url(postgres.url).set(database="perpetune").render_as_string(False)
    passwords = {role: home.secret(f"{role}_password") for role in database.ROLES}
    database.prepare(owner_url, passwords)
    gates = [
        _gate_to(server.url, parts) if layout.has_gates else None for server in (postgres, bus)
    ]
    if layout.has_tls:
        gates[0] = _gate_to_tls(postgres.url, parts)
    settings = _settings(layout, home, owner_url, bus.url, gates, passwords)
    shop = parts.enter_context(Shop().open())
    stack = Stack(
        layout=layout,
        home=home,
        postgres=postgres,
        bus_server=bus,
        postgres_gate=gates[0],
        bus_gate=gates[1],
        shop=shop,
        port=free_port(),
        settings=settings,
        owner_url=owner_url,
        supervisor=Supervisor(home),
    )
    parts.callback(stack.close)
    stack.rows(_LEDGER)
    return stack


def _gate_to_tls(url: str, parts: contextlib.ExitStack) -> Gate:
    address = make_url(url)
    port = parts.enter_context(tunnel_to(str(address.host), int(address.port or 0)))
    return _gate_to(address.set(port=port).render_as_string(hide_password=False), parts)


def _gate_to(url: str, parts: contextlib.ExitStack) -> Gate:
    address = make_url(url)
    gate = Gate(str(address.host), int(address.port or 0))
    gate.start()
    parts.callback(gate.stop)
    return gate


def _settings(
    layout: Layout,
    home: Home,
    owner_url: str,
    bus_url: str,
    gates: Sequence[Gate | None],
    passwords: dict[str, str],
) -> CoreSettings:
    postgres_gate, bus_gate = gates

    def at(url: str, gate: Gate | None, **changes: Any) -> str:
        port = {"port": gate.port} if gate else {}
        return make_url(url).set(**changes, **port).render_as_string(hide_password=False)

    def postgres_as(role: str) -> str:
        options = CLIENT_OPTIONS if layout.has_tls else {}
        return at(owner_url, postgres_gate, username=role, password=passwords[role], query=options)

    known = CoreSettings.model_fields
    ours = {
        "home": home.root,
        "database_app_url": postgres_as("app"),
        "database_spine_url": postgres_as("spine"),
        "bus_url": at(bus_url, bus_gate),
        "cache_url": at(bus_url, bus_gate),
        "blobs_url": str(home.blobs),
        "secrets_dir": home.secrets,
        "broker_prefix": "perpetune:faults:",
        # Nobody listens there, unless a test does.
        "serving_url": f"http://127.0.0.1:{free_port()}",
        "snapshot_milliseconds": 200,
        **SCALED,
        **{name: value for name, value in layout.settings if name in known},
    }
    return CoreSettings(**ours)  # type: ignore[arg-type]  # names and types are the fields'


def _environment(stack: Stack) -> dict[str, str]:
    core = {name: getattr(stack.settings, name) for name in stack.settings.model_fields_set}
    rest = {
        "port": stack.port,
        "seal_milliseconds": SEAL_MILLISECONDS,
        **{name: value for name, value in stack.layout.settings if name not in core},
    }
    return {
        **{f"PERPETUNE_{name.upper()}": str(value) for name, value in {**core, **rest}.items()},
        "PYTHONPATH": str(ROOT),
        "FAULTS_ORDERS_URL": stack.shop.url,
    }


def _thaw_all(stack: Stack) -> None:
    """A frozen process cannot end in order."""
    for state in stack.states():
        if state.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(state.pid, signal.SIGCONT)
