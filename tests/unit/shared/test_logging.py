"""What a log tells of an error."""

from __future__ import annotations

import sys

from shared.errors import Corrupt
from shared.logging import tell_error

SECRET = "what the customer wrote"


def _crash() -> None:
    try:
        int(SECRET)
    except ValueError as error:
        raise KeyError(SECRET) from error


def test_a_bug_is_told_by_types_and_places_of_all_its_causes():
    """Guarantee: what a customer wrote reaches no log by way of a traceback."""
    try:
        _crash()
    except KeyError:
        told = tell_error(sys.exc_info())
    assert SECRET not in told
    assert told.index("ValueError") < told.index("KeyError")
    assert "in _crash" in told


def test_what_our_own_errors_and_the_system_say_is_told():
    try:
        try:
            raise FileNotFoundError(2, "No such file")
        except OSError:
            raise Corrupt("The row cannot be read.", code="row_unreadable") from None
    except Corrupt:
        assert tell_error(sys.exc_info()).endswith("Corrupt: The row cannot be read.")


def test_causes_that_go_in_a_circle_end():
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert tell_error((ValueError, first, None)).count("ValueError") == 2
