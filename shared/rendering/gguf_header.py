"""
Head of a GGUF file: its keys and where its tensors lie.

The reader of the `gguf` package wraps every string and tensor in numpy views and needs about three
seconds for a small model; every process that counts tokens would pay them. This one needs 0.1 s.

Source: the GGUF specification, version 3 (ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STRING, _ARRAY = 8, 9
_SCALARS = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_U32, _U64 = _SCALARS[4], _SCALARS[10]


class _Cursor:
    """Decodes values one after the other from a mapped file."""

    def __init__(self, data: mmap.mmap, offset: int) -> None:
        self._data = data
        self.offset = offset

    def scalar(self, layout: struct.Struct) -> Any:  # noqa: ANN401 - the file names the type
        (value,) = layout.unpack_from(self._data, self.offset)
        self.offset += layout.size
        return value

    def string(self) -> str:
        start = self.offset + _U64.size
        self.offset = start + self.scalar(_U64)
        return self._data[start : self.offset].decode("utf-8")

    def value(self, kind: int) -> Any:  # noqa: ANN401 - the file names the type
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            element, length = self.scalar(_U32), self.scalar(_U64)
            return [self.value(element) for _ in range(length)]
        return self.scalar(_SCALARS[kind])


@dataclass(frozen=True)
class StoredTensor:
    """
    A tensor inside the file.

    Attributes:
        shape: Slowest dimension first, as numpy and torch count.
        kind: Number of the storage type (`gguf.GGMLQuantizationType`).
        offset: Of its first byte, from the start of the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """Keys (architecture, vocabulary, merges, chat template) and tensors of a GGUF file."""

    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]


def read_header(path: Path) -> Header:
    """
    Everything in front of the weights.

    Raises:
        ValueError: The file is no little-endian GGUF of version 2 or 3.
        OSError: The file cannot be read.

    Cost: O(size of the vocabulary).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data, 4)
        if data[:4] != b"GGUF" or cursor.scalar(_U32) not in {2, 3}:
            raise ValueError(f"{path} is not a GGUF file of version 2 or 3.")
        n_tensors, n_keys = cursor.scalar(_U64), cursor.scalar(_U64)
        metadata = {cursor.string(): cursor.value(cursor.scalar(_U32)) for _ in range(n_keys)}
        relative = dict(_tensor(cursor) for _ in range(n_tensors))
        alignment = metadata.get("general.alignment", 32)
        start = math.ceil(cursor.offset / alignment) * alignment
    return Header(
        metadata,
        {
            name: StoredTensor(stored.shape, stored.kind, start + stored.offset)
            for name, stored in relative.items()
        },
    )


def _tensor(cursor: _Cursor) -> tuple[str, StoredTensor]:
    name = cursor.string()
    shape = tuple(cursor.scalar(_U64) for _ in range(cursor.scalar(_U32)))
    kind, offset = cursor.scalar(_U32), cursor.scalar(_U64)
    return name, StoredTensor(shape[::-1], kind, offset)
