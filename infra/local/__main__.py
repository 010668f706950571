"""`python -m infra.local up | down | status`: the local stack without the client."""

from __future__ import annotations

import contextlib
import sys

from infra.local.settings import LocalSettings
from infra.local.stack import Stack
from shared.errors import PerpetuneError


def main(arguments: list[str]) -> int:
    stack = Stack(LocalSettings())
    try:
        match arguments:
            case ["up"]:
                up(stack)
            case ["down"]:
                stack.stop()
            case ["status"]:
                return status(stack)
            case _:
                say(__doc__ or "")
                return 2
    except PerpetuneError as error:
        say(error.message)
        return 1
    return 0


def up(stack: Stack) -> None:
    with contextlib.suppress(KeyboardInterrupt), stack.running(say):
        say(f"Ready on {stack.settings.gateway_url}; Ctrl-C stops it")
        stack.wait()


def status(stack: Stack) -> int:
    states = stack.status()
    for state in states:
        say(f"{state.name:<10} {state.state:<9} pid {state.pid:<8} {state.seconds} s")
    if not states:
        say("The stack is not running")
    return 0 if states else 1


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
