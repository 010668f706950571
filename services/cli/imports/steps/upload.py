"""Files of an import, uploaded once."""

from __future__ import annotations

import hashlib
from typing import Literal

from services.cli.imports.work import Import


def upload(
    work: Import, part: str, content: bytes, *, purpose: Literal["fine-tune", "evals"]
) -> str:
    """
    Id of a file with this content; it is uploaded if this import has not done so.

    The name of the file carries the import and the content, so it is found again.
    """
    digest = hashlib.sha256(content).hexdigest()[:16]
    name = f"{work.token}-{part}-{digest}.jsonl"
    files = work.connection.openai.files
    for file in files.list(purpose=purpose):
        if file.filename == name:
            return file.id
    return files.create(file=(name, content), purpose=purpose).id
