"""A guide in Markdown, done as a reader does it: block by block, in one folder, nothing left out.

The word behind the language of a block says how it is done: `terminal` runs on in a terminal of its
own, `yours` holds what each reader fills in. Other languages than console and Python are not run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from markdown_it import MarkdownIt

_RUN = frozenset({"console", "python"})
_ASSIGNED = re.compile(r"^(?:export )?(\w+)=", re.MULTILINE)
_READY_SECONDS = 120
_STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Block:
    """
    Attributes:
        line: Where it begins in the guide, from 1.
        language: `console`, `python`, or what is not run.
        mark: `terminal`, `yours` or nothing.
    """

    line: int
    language: str
    mark: str
    text: str

    @property
    def assigned(self) -> set[str]:
        """Variables that are set in it."""
        return set(_ASSIGNED.findall(self.text))


def read_blocks(guide: Path) -> list[Block]:
    """All blocks of the guide, in order."""
    found = []
    for token in MarkdownIt().parse(guide.read_text()):
        if token.type == "fence":
            assert token.map is not None
            language, _, mark = token.info.strip().partition(" ")
            found.append(Block(token.map[0] + 1, language, mark, token.content))
    return found


def copy_checkout(target: Path) -> None:
    """What a clone of this tree has, with the environment that runs the tests."""
    root = Path(__file__).parents[2]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


class Reader:
    """Types what the guide says. Variables live on from block to block, as in a terminal."""

    def __init__(self, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        """
        Args:
            folder: Where everything is typed.
            environment: Of all terminals.
            log: What was typed and what came out.
        """
        self._folder = folder
        self._environment = dict(environment)
        self._log = log
        self._variables = log.with_suffix(".variables")
        self._variables.touch()
        self._terminals = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ctrl-C in every terminal that is still open."""
        self._terminals.close()

    def do(self, block: Block, text: str, *, seconds: float) -> str:
        """
        What a block printed.

        Args:
            block: Says where *text* stands and how it is meant.
            text: What is typed: the block with what this reader fills in.
            seconds: It may take.

        Raises:
            AssertionError: It failed; the message names its line.
        """
        if block.language not in _RUN:
            return ""
        if block.mark == "terminal":
            self._terminals.enter_context(self._terminal(text))
            return ""
        script = text if block.language == "console" else f"python - <<'END'\n{text}END\n"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._with_variables(script)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        said = f"line {block.line}:\n{text}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}\n"
        with self._log.open("a") as log:
            log.write(said)
        assert done.returncode == 0, f"status {done.returncode}, {said}"
        return done.stdout

    @contextmanager
    def _terminal(self, text: str) -> Iterator[None]:
        output = self._log.with_suffix(".terminal")
        with output.open("wb") as file:
            running = subprocess.Popen(
                ["bash", "-c", self._with_variables(text)],
                cwd=self._folder,
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_hear_interrupts,  # noqa: PLW1509 - it takes no lock
            )
        try:
            _await_ready(running, output)
            yield
        finally:
            os.killpg(running.pid, signal.SIGINT)
            running.wait(_STOP_SECONDS)

    def _with_variables(self, script: str) -> str:
        return f"set -a; source '{self._variables}'; {script}\nexport -p > '{self._variables}'"


def _hear_interrupts() -> None:
    """Where tests run in the background of a shell, their children would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _await_ready(running: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while b"Ready on" not in output.read_bytes():
        assert running.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
