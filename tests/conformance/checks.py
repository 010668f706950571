"""How a check says in which modes the client runs it; which ones are not taken on."""

from __future__ import annotations

import re

import pytest

MODES = ("normal", "strict")

# Each once as everybody uses the client, and once refusing every field that is not as documented.
in_both_modes = pytest.mark.parametrize("client", MODES, indirect=True)

_NUMBER = re.compile(r"test_check_(\d\d)_")

# Numbers of the list that this server does not take on.
EXCLUDED = {
    64: "evals are offered later",
    65: "graders are offered later",
    66: "paths of Azure are not offered",
}


def number_of(name: str) -> int | None:
    """Number of the check a test function is named for."""
    found = _NUMBER.match(name)
    return int(found.group(1)) if found else None
