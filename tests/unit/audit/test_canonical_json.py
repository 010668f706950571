"""RFC 8785: its own examples, and that reading back gives the same value."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.canonical import canonical, interoperable, reread
from shared.audit.commitments import Opening

# Appendix B of RFC 8785: the bits of a double and how it is written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items())
def test_numbers_are_written_as_the_appendix_says(bits, written):
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value).decode() == written


def test_the_example_of_section_3_2_2():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u002f",
        "literals": [None, True, False],
    }
    assert canonical(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16_code_units():
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\xf6"]
    ordered = ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]
    written = canonical(dict.fromkeys(names, 0)).decode()
    assert list(json.loads(written)) == ordered


@given(VALUES)
def test_reading_back_gives_the_same_value_and_the_same_bytes(value):
    written = canonical(value)
    again = reread(written.decode())
    assert again == value
    assert canonical(again) == written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53 + 1, 10**400, "\ud800"])
def test_what_another_reader_would_see_differently_is_refused(value):
    with pytest.raises(ValueError, match=r"."):
        canonical([value])


def test_what_is_no_json_is_refused():
    with pytest.raises(TypeError, match="set"):
        canonical({"a": {1}})


def test_an_integer_that_doubles_do_not_hold_is_read_as_text():
    document = '{"seed": 9007199254740993, "small": -3}'
    value = interoperable(document)
    assert value == {"seed": "9007199254740993", "small": -3}
    assert canonical(value) == b'{"seed":"9007199254740993","small":-3}'


def test_a_commitment_depends_on_salt_and_value_and_hides_equal_values():
    first, second = Opening.of("anna@example.com"), Opening.of("anna@example.com")
    assert first.commitment != second.commitment
    assert Opening(first.salt, "anna@example.com").commitment == first.commitment
    assert Opening(first.salt, "otto@example.com").commitment != first.commitment
