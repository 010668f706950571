"""One supervisor owns all processes of the local stack: what dies comes back, what stops, stops."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from infra.local.home import Home
from infra.local.processes import ProcessSpec
from shared.errors import Unavailable

# The pause before each further try grows by a second and ends once the process has stayed up, so
# this many tries last for days.
_START_RETRIES = 1000
_LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class ProcessState:
    """
    What the supervisor says of one process.

    Attributes:
        name: As in `ProcessSpec`.
        state: `RUNNING`, `STARTING`, `BACKOFF`, `STOPPED`, `EXITED` or `FATAL`.
        pid: 0 while it does not run.
        seconds: Since its last start; 0 while it does not run.
    """

    name: str
    state: str
    pid: int
    seconds: int


@dataclass
class Supervisor:
    """Starts supervisord for one home and talks to it over its socket."""

    home: Home
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def is_ours(self) -> bool:
        """Whether this object started it."""
        return self._process is not None

    def start(self, specs: Sequence[ProcessSpec], environment: Mapping[str, str]) -> None:
        """
        Start supervisord; programs of the group `servers` begin at once.

        Raises:
            Unavailable: It ended at once or does not answer; the message names its log.
        """
        configuration = self.home.run / "supervisord.conf"
        configuration.write_text(render(specs, self.home))
        log = self.home.logs / "supervisor.out"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
                # Ctrl-C in the terminal reaches us alone; we then stop everything in order.
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        deadline = time.monotonic() + 15
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(
                    f"The supervisor did not start; {log} says why.", code="supervisor_failed"
                )
            time.sleep(0.05)

    def answers(self) -> bool:
        return self._call("getPID") is not None

    def start_group(self, group: str) -> None:
        with self._remote() as remote:
            remote.startProcessGroup(group, False)

    def states(self) -> list[ProcessState]:
        """All processes, or none when the supervisor is not running."""
        return [
            ProcessState(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                seconds=info["now"] - info["start"] if info["pid"] else 0,
            )
            for info in self._call("getAllProcessInfo") or []
        ]

    def stop(self, *, timeout_seconds: float) -> None:
        """
        Stop all processes, servers last, and the supervisor itself.

        Raises:
            Unavailable: It is still there after *timeout_seconds*.
        """
        pid = self._call("getPID")
        if pid is None:
            return
        # The signal does what the remote shutdown does, and also works while a start is under way.
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_seconds
        while self._is_alive(pid):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"The supervisor (process {pid}) has not stopped after {timeout_seconds:.0f} s;"
                    f" {self.home.logs} says what it waits for.",
                    code="stop_timed_out",
                )
            time.sleep(0.05)
        self._process = None

    def _is_alive(self, pid: int) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _call(self, method: str) -> Any:  # noqa: ANN401 - the remote interface has no types
        """The answer of a remote method, or None when no supervisor listens."""
        if not self.home.supervisor_socket.exists():
            return None
        with contextlib.suppress(OSError, http.client.HTTPException), self._remote() as remote:
            return getattr(remote, method)()
        return None

    @contextlib.contextmanager
    def _remote(self) -> Any:  # noqa: ANN401 - see above
        transport = SupervisorTransport(None, None, f"unix://{self.home.supervisor_socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            yield proxy.supervisor


def render(specs: Iterable[ProcessSpec], home: Home) -> str:
    """The configuration file of supervisord for *specs*."""
    specs = list(specs)
    sections = [_supervisor_section(home)]
    for priority, group in ((10, "servers"), (20, "services")):
        members = [spec for spec in specs if spec.group == group]
        if not members:
            continue
        names = ",".join(spec.name for spec in members)
        sections.append(f"[group:{group}]\nprograms={names}\npriority={priority}\n")
        sections += [_program_section(spec, home.logs) for spec in members]
    return "\n".join(sections)


def _supervisor_section(home: Home) -> str:
    return f"""\
[unix_http_server]
file={_escaped(home.supervisor_socket)}
chmod=0600

[supervisord]
logfile={_escaped(home.logs / "supervisor.log")}
logfile_maxbytes={_LOG_BYTES}
logfile_backups=1
pidfile={_escaped(home.run / "supervisor.pid")}
childlogdir={_escaped(home.logs)}
nocleanup=true

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""


def _program_section(spec: ProcessSpec, logs: Path) -> str:
    # Services wait for the migration, so the stack starts their group itself.
    autostart = "true" if spec.group == "servers" else "false"
    return f"""\
[program:{spec.name}]
command={_escaped(shlex.join(spec.command_line))}
autostart={autostart}
autorestart=true
startsecs=1
startretries={_START_RETRIES}
stopsignal={spec.stop_signal}
stopwaitsecs={spec.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(logs / f"{spec.name}.log")}
stdout_logfile_maxbytes={_LOG_BYTES}
stdout_logfile_backups=3
"""


def _escaped(value: object) -> str:
    """The format expands percent signs."""
    return str(value).replace("%", "%%")
