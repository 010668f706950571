"""How sequences share forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def split_batches(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """
    Indices in batches of like length, each of at most *most_tokens* once padded.

    A sequence longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > most_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
