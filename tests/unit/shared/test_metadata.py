"""Metadata of OpenAI's objects: bounds, and how a list is searched by it."""

from __future__ import annotations

import pytest

from shared.errors import Invalid
from shared.metadata import check_metadata, read_filter


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "" for number in range(17)},
        {"k" * 65: "v"},
        {"": "v"},
        {"k": "v" * 513},
        {"k\0": "v"},
        {"k": "v\0"},
        {"k": "\ud800"},
    ],
)
def test_metadata_out_of_bounds_is_refused(metadata):
    with pytest.raises(Invalid) as refused:
        check_metadata(metadata)
    assert refused.value.param is not None
    assert refused.value.param.startswith("metadata")


@pytest.mark.parametrize(
    "metadata", [None, {}, {f"{number:064}": "v" * 512 for number in range(16)}, {"k": "🙂"}]
)
def test_metadata_within_its_bounds_is_accepted(metadata):
    check_metadata(metadata)


def test_filter_is_read_from_the_query():
    assert read_filter({"limit": "2"}) is None
    assert read_filter({"metadata": "null"}) == {}
    given = {"metadata[team]": "a", "metadata[a[b]]": "c", "after": "x"}
    assert read_filter(given) == {"team": "a", "a[b]": "c"}
