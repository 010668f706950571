from __future__ import annotations

import pytest

from services.finetuning.domain import names, request
from shared.errors import Invalid

PATH = "method.supervised.hyperparameters"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_epochs", 1),
        ("n_epochs", 50),
        ("n_epochs", "auto"),
        ("batch_size", 1),
        ("batch_size", 256),
        ("learning_rate_multiplier", 1e-6),
        ("learning_rate_multiplier", 3),
        ("learning_rate_multiplier", "auto"),
    ],
)
def test_value_within_bounds_is_kept(field, value):
    assert getattr(request.read_hyperparameters({field: value}, PATH), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_epochs", 0),
        ("n_epochs", 51),
        ("n_epochs", 1.5),
        ("n_epochs", True),
        ("n_epochs", "3"),
        ("n_epochs", []),
        ("batch_size", 0),
        ("batch_size", 257),
        ("learning_rate_multiplier", 0),
        ("learning_rate_multiplier", -1.0),
        ("learning_rate_multiplier", float("inf")),
        ("learning_rate_multiplier", float("nan")),
        ("learning_rate_multiplier", False),
        ("learning_rate_multiplier", "fast"),
    ],
)
def test_value_out_of_bounds_is_refused_by_its_path(field, value):
    with pytest.raises(Invalid) as refused:
        request.read_hyperparameters({field: value}, PATH)
    assert refused.value.param == f"{PATH}.{field}"


@pytest.mark.parametrize("given", [{}, {"n_epochs": None}])
def test_absent_value_is_auto(given):
    chosen = request.read_hyperparameters(given, PATH)
    assert set(chosen.model_dump().values()) == {"auto"}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("reinforcement", "unsupported_method"),
        ("magic", "invalid_method"),
    ],
)
def test_other_method_than_supervised_is_refused(kind, code):
    with pytest.raises(Invalid) as refused:
        request.check_method(kind)
    assert (refused.value.code, refused.value.param) == (code, "method.type")


@pytest.mark.parametrize("suffix", [None, "a", "listing-extractor_2", "x" * 64])
def test_suffix_within_bounds_is_accepted(suffix):
    names.check_suffix(suffix)


@pytest.mark.parametrize("suffix", ["", "x" * 65, "Upper", "a b", "a:b", "ä", "a\n"])
def test_suffix_out_of_bounds_is_refused(suffix):
    with pytest.raises(Invalid) as refused:
        names.check_suffix(suffix)
    assert refused.value.param == "suffix"


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_seed_out_of_bounds_is_refused(seed):
    with pytest.raises(Invalid):
        request.check_seed(seed)


def test_seed_at_its_bounds_is_accepted():
    for seed in (None, 0, 2**31 - 1):
        request.check_seed(seed)


def test_models_are_named_as_openai_names_them():
    assert names.name_model("base", "acme", "mine", "Ab3dEf9h") == "ft:base:acme:mine:Ab3dEf9h"
    assert names.name_model("base", "acme", None, "Ab3dEf9h") == "ft:base:acme::Ab3dEf9h"
    checkpoint = names.name_checkpoint("base", "acme", "mine", "Ab3dEf9h", 40)
    assert checkpoint == "ft:base:acme:mine:Ab3dEf9h:ckpt-step-40"


@pytest.mark.parametrize("name", ["Listing Extractor", "träge", "x" * 100, "a:b"])
def test_suffix_made_from_any_name_is_valid(name):
    names.check_suffix(names.suffix_from(name))


@pytest.mark.parametrize("beta", [0, -0.1, 2.1, 10**400, "much", True])
def test_beta_beyond_its_bounds_is_refused_by_its_path(beta):
    with pytest.raises(Invalid) as refused:
        request.read_beta({"beta": beta}, "method.dpo.hyperparameters")
    assert refused.value.param == "method.dpo.hyperparameters.beta"


@pytest.mark.parametrize(
    ("given", "read"), [(None, "auto"), ("auto", "auto"), (2, 2.0), (0.1, 0.1)]
)
def test_beta_within_its_bounds_is_read(given, read):
    assert request.read_beta({"beta": given}, "hyperparameters") == read
