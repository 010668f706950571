from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.serving.scoring.batches import split_batches


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_batches_hold_every_sequence_once_within_the_budget(lengths, most_tokens):
    batches = list(split_batches(lengths, most_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = max(lengths[index] for index in batch) * len(batch)
        assert padded <= most_tokens or len(batch) == 1
