"""
Key-value section of a GGUF file, read without touching its tensors.

The reader of the `gguf` package wraps every string and tensor in numpy views and needs about three
seconds for a small model; every process that counts tokens would pay them. This one needs 0.1 s.

Source: the GGUF specification, version 3 (ggml-org/ggml, docs/gguf.md).
"""

from __future__ import annotations

import mmap
import struct
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
        self._offset = offset

    def scalar(self, layout: struct.Struct) -> Any:  # noqa: ANN401 - the file names the type
        (value,) = layout.unpack_from(self._data, self._offset)
        self._offset += layout.size
        return value

    def string(self) -> str:
        start = self._offset + _U64.size
        self._offset = start + self.scalar(_U64)
        return self._data[start : self._offset].decode("utf-8")

    def value(self, kind: int) -> Any:  # noqa: ANN401 - the file names the type
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            element, length = self.scalar(_U32), self.scalar(_U64)
            return [self.value(element) for _ in range(length)]
        return self.scalar(_SCALARS[kind])


def read_metadata(path: Path) -> dict[str, Any]:
    """
    All keys of a GGUF file: architecture, vocabulary, merges, chat template.

    Raises:
        ValueError: The file is no little-endian GGUF of version 2 or 3.
        OSError: The file cannot be read.

    Cost: O(size of the vocabulary).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data, 4)
        if data[:4] != b"GGUF" or cursor.scalar(_U32) not in {2, 3}:
            raise ValueError(f"{path} is not a GGUF file of version 2 or 3.")
        cursor.scalar(_U64)  # number of tensors
        count = cursor.scalar(_U64)
        return {cursor.string(): cursor.value(cursor.scalar(_U32)) for _ in range(count)}
