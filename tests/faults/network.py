"""A second host made of a network namespace, with a cable that can be pulled; for root on Linux."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

# Set aside for tests of network devices (RFC 2544), so nobody is addressed by mistake.
_NETWORK = "198.18"
_ADDRESSES = ("DATABASE_APP_URL", "DATABASE_SPINE_URL", "BUS_URL", "CACHE_URL")


@dataclass(frozen=True)
class OtherHost:
    """
    Attributes:
        namespace: Its name.
        cable: Our end of what connects us.
        ours: Our address on the cable.
        theirs: The other end's address.
    """

    namespace: str
    cable: str
    ours: str
    theirs: str

    @classmethod
    def of_this_process(cls) -> OtherHost:
        number = os.getpid() % (1 << 14)
        base = f"{_NETWORK}.{number >> 6}.{(number & 63) * 4}"
        network, last = base.rsplit(".", 1)
        return cls(
            namespace=f"perpetune-{os.getpid()}",
            cable=f"ppt{os.getpid()}",
            ours=f"{network}.{int(last) + 1}",
            theirs=f"{network}.{int(last) + 2}",
        )

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a command there; what is on loopback here, it finds at our address."""
        there = " ".join(
            f'export PERPETUNE_{name}="${{PERPETUNE_{name}/127.0.0.1/{self.ours}}}";'
            for name in _ADDRESSES
        )
        enter = ("ip", "netns", "exec", self.namespace)
        return (*enter, "bash", "-c", f'{there} exec "$@"', "there")

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """
        Made for the length of a block.

        Raises:
            OSError: It cannot be had here.
        """
        far = f"{self.cable}x"
        try:
            _run("ip", "netns", "add", self.namespace)
            _run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", far)
            _run("ip", "link", "set", far, "netns", self.namespace)
            _run("ip", "addr", "add", f"{self.ours}/30", "dev", self.cable)
            _run("ip", "link", "set", self.cable, "up")
            for command in (
                ("addr", "add", f"{self.theirs}/30", "dev", far),
                ("link", "set", far, "up"),
                ("link", "set", "lo", "up"),
            ):
                _run("ip", "-n", self.namespace, *command)
            yield
        finally:
            with contextlib.suppress(OSError):
                _run("ip", "link", "del", self.cable)
            with contextlib.suppress(OSError):
                _run("ip", "netns", "del", self.namespace)

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """The cable pulled for the length of a block: packets vanish, nobody is told."""
        _run("ip", "-n", self.namespace, "link", "set", f"{self.cable}x", "down")
        try:
            yield
        finally:
            _run("ip", "-n", self.namespace, "link", "set", f"{self.cable}x", "up")


def why_not() -> str:
    """Why there can be no other host here; empty if there can."""
    host = OtherHost.of_this_process()
    try:
        with host.connected():
            return ""
    except OSError as error:
        return f"no network namespace can be made here: {error}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
