"""A gate with bad weather in a process of its own: `python -m tests.bench.bus_gate PORT SECONDS`.

Prints the port it listens on. Beside the senders it would share their interpreter's lock.
"""

from __future__ import annotations

import signal
import sys

from shared.testing.gate import Weather, open_gate


def main() -> None:
    port, seconds = sys.argv[1:]
    with open_gate("127.0.0.1", int(port)) as gate:
        gate.set(Weather(delay_seconds=float(seconds)))
        print(gate.port, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
