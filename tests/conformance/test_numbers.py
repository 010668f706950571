"""The list is whole: every check has a test, or a reason why it is not taken on."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.checks import EXCLUDED, number_of


def test_every_check_has_a_test_or_a_reason():
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    numbers = {number_of(name) for name in re.findall(r"^def (test_check_\w+)", text, re.MULTILINE)}
    assert numbers | EXCLUDED.keys() == set(range(1, 68))
    assert not numbers & EXCLUDED.keys()
