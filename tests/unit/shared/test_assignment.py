from __future__ import annotations

from shared.assignment import BUCKETS, Arm, arm, bucket


def test_bucket_is_the_same_in_every_process_and_release_of_the_code():
    # Changing the hash would move users between the arms of running canaries.
    assert [bucket("salt", "user-1"), bucket("salt", "user-2"), bucket("other", "user-1")] == [
        2683,
        3455,
        6256,
    ]


def test_buckets_are_spread_evenly():
    counts = [0] * 20
    for i in range(20_000):
        counts[bucket("experiment", f"user-{i}") * 20 // BUCKETS] += 1
    chi_square = sum((count - 1000) ** 2 / 1000 for count in counts)
    assert chi_square < 43.8  # 99.9 % quantile with 19 degrees of freedom


def test_salts_are_independent():
    both = sum(
        bucket("a", f"user-{i}") < 1000 and bucket("b", f"user-{i}") < 1000 for i in range(20_000)
    )
    assert 150 < both < 250  # 200 expected, standard deviation 14


def test_raising_the_share_never_moves_a_unit_out_of_the_canary():
    for number in range(BUCKETS):
        arms = [arm(number, share / 100) for share in range(101)]
        assert arms == sorted(arms, reverse=True)  # control first, then canary for ever


def test_share_gets_exactly_its_buckets():
    for share in (0, 0.0001, 0.05, 0.25, 0.29, 0.5, 1):
        canaries = sum(arm(number, share) is Arm.CANARY for number in range(BUCKETS))
        assert canaries == round(share * BUCKETS)
