from __future__ import annotations

import pytest

from services.finetuning.auto import base_learning_rate, resolve_auto


@pytest.mark.parametrize(
    ("n_examples", "epochs"),
    [(1, 25), (10, 10), (33, 3), (34, 3), (8000, 3), (9000, 2), (30_000, 1)],
)
def test_epochs_follow_the_cookbook(n_examples, epochs):
    assert resolve_auto(n_examples, 100 * n_examples, {}).n_epochs == epochs


@pytest.mark.parametrize(("n_examples", "batch"), [(10, 4), (4000, 8), (100_000, 32)])
def test_batch_is_a_share_of_the_rows_within_bounds(n_examples, batch):
    assert resolve_auto(n_examples, 1, {}).batch_size == batch


def test_short_runs_get_a_higher_rate():
    assert resolve_auto(160, 1, {"n_epochs": 1, "batch_size": 8}).learning_rate_multiplier == 1.5
    assert resolve_auto(4000, 1, {}).learning_rate_multiplier == 1.0


def test_given_numbers_stay_and_need_no_reason():
    given = {"n_epochs": 2, "batch_size": 16, "learning_rate_multiplier": 0.3}

    resolved = resolve_auto(500, 1, given)

    assert (resolved.n_epochs, resolved.batch_size, resolved.learning_rate_multiplier) == (
        2,
        16,
        0.3,
    )
    assert resolved.reasons == ()


def test_every_auto_has_a_reason():
    resolved = resolve_auto(160, 16_488, {"n_epochs": "auto", "batch_size": None})

    assert [reason.split("=")[0] for reason in resolved.reasons] == [
        "n_epochs",
        "batch_size",
        "learning_rate_multiplier",
    ]
    assert "16488 tokens" in resolved.reasons[0]


def test_larger_bases_learn_at_lower_rates():
    rates = [base_learning_rate(millions * 10**6) for millions in (135, 360, 1700)]

    assert rates == [1e-3, 5e-4, 2e-4]


def test_preferences_have_a_beta_and_a_lower_rate():
    resolved = resolve_auto(160, 16_488, {"beta": "auto"}, "dpo")
    assert resolved.beta == 0.1
    assert any(reason.startswith("beta=0.1 because") for reason in resolved.reasons)
    assert resolve_auto(160, 16_488, {"beta": 0.5}, "dpo").numbers["beta"] == 0.5
    assert "beta" not in resolve_auto(160, 16_488, {}).numbers
    assert base_learning_rate(135 * 10**6, "dpo") < base_learning_rate(135 * 10**6)
