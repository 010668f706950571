from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.finetuning.train.batches import Row, batch_of_step, pack, split_by_tokens


def row(prompt, answer):
    return Row([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers())
def test_every_epoch_sees_every_row_once(n_rows, batch_size, epochs, seed):
    per_epoch = -(-n_rows // batch_size)
    seen = Counter(
        number
        for step in range(1, epochs * per_epoch + 1)
        for number in batch_of_step(step, n_rows=n_rows, batch_size=batch_size, seed=seed)
    )

    assert seen == dict.fromkeys(range(n_rows), epochs)


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return batch_of_step(epoch + 1, n_rows=50, batch_size=50, seed=seed)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1)


def test_micro_batches_keep_order_and_budget():
    rows = [row([0] * n, [1]) for n in (3, 3, 3, 20, 1)]

    groups = split_by_tokens(rows, 8)

    assert [len(group) for group in groups] == [2, 1, 1, 1]
    assert [one for group in groups for one in group] == rows


def test_shared_beginning_is_laid_out_once():
    rows = [row([1, 2, 3, 4], [9, 5]), row([1, 2, 3, 6, 7], [8])]

    packed = pack(rows)

    assert packed.prefix == 3
    assert packed.token_ids == [1, 2, 3, 4, 9, 5, 6, 7, 8]
    assert packed.positions == [0, 1, 2, 3, 4, 5, 3, 4, 5]
    assert packed.lengths == [3, 3, 3]
    assert packed.targets == [9, 5, 8]
    assert [packed.token_ids[source] for source in packed.sources] == [4, 9, 7]


def test_state_before_the_first_target_is_never_shared():
    packed = pack([row([1, 2, 3], [4]), row([1, 2, 3], [5])])

    assert packed.prefix == 2
    assert packed.token_ids == [1, 2, 3, 4, 3, 5]
    assert packed.targets == [4, 5]


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2), min_size=1, max_size=8),
            st.lists(st.integers(0, 2), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_target_follows_its_source(pairs):
    rows = [row(prompt, answer) for prompt, answer in pairs]
    packed = pack(rows)

    assert packed.targets == [token for _, answer in pairs for token in answer]
    assert sum(packed.lengths) == len(packed.token_ids) == len(packed.positions)
    wanted = [
        (position - 1, one.token_ids[position - 1])
        for one in rows
        for position, is_trained in enumerate(one.trained)
        if is_trained
    ]
    found = [(packed.positions[source], packed.token_ids[source]) for source in packed.sources]
    assert found == wanted
