"""providers.toml: what an operator may write, and what is said of what they may not."""

from __future__ import annotations

import pytest

from services.finetuning.provider.configuration import read_providers
from shared.errors import Invalid, Unavailable

KEY = "sk-very-secret-0123456789"
GOOD = f'[openai]\nbase_url = "https://api.openai.com/v1"\nkey = "{KEY}"\nmodels = ["gpt-x"]\n'


@pytest.fixture
def write(tmp_path):
    def write(text: str, mode: int = 0o600):
        file = tmp_path / "providers.toml"
        file.write_text(text)
        file.chmod(mode)
        return file

    return write


def test_no_file_means_no_providers(tmp_path):
    assert read_providers(tmp_path / "providers.toml").specs == {}


def test_model_names_its_provider_and_keeps_its_own_slashes(write):
    providers = read_providers(write(GOOD))
    spec, remote = providers.of_model("openai/ft:gpt-x:a/b::1")
    assert (spec.name, remote) == ("openai", "ft:gpt-x:a/b::1")
    for other in ("openai", "openai/", "else/gpt-x", "gpt-x", "/gpt-x"):
        assert providers.of_model(other) is None


def test_key_is_read_from_where_it_is_each_time(write, tmp_path, monkeypatch):
    text = GOOD.replace(f'key = "{KEY}"', 'key_file = "openai_key"')
    spec = read_providers(write(text)).load("openai")
    with pytest.raises(Unavailable, match="cannot be read: FileNotFoundError"):
        spec.read_key()
    key_file = tmp_path / "openai_key"
    for key in ("first", "second"):
        key_file.write_text(f"{key}\n")
        key_file.chmod(0o600)
        assert spec.read_key() == key
    key_file.chmod(0o644)
    with pytest.raises(Unavailable, match="cannot be read"):
        spec.read_key()
    monkeypatch.setenv("THE_KEY", "third")
    text = GOOD.replace(f'key = "{KEY}"', 'key_variable = "THE_KEY"')
    assert read_providers(write(text)).load("openai").read_key() == "third"


def test_key_is_in_no_representation(write):
    assert KEY not in repr(read_providers(write(GOOD)))


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o666])
def test_file_that_others_may_read_is_refused(write, mode):
    with pytest.raises(Invalid, match="mode 0600"):
        read_providers(write(GOOD, mode))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("https://", "ftp://"), "openai.base_url"),
        (("api.openai", "user:pass@api.openai"), "openai.base_url"),
        (('models = ["gpt-x"]', "models = []"), "openai.models"),
        (("models", "modles"), "openai.models"),
        ((f'key = "{KEY}"\n', ""), "exactly one of key"),
        (("[openai]", "[Open AI]"), "no TOML"),
        (("[openai]", '["Open AI"]'), "a provider is a table"),
        (("models = ", f'key_variable = "{KEY}"\nmodels = '), "exactly one of key"),
    ],
)
def test_mistake_is_named_and_nothing_is_quoted(write, change, told):
    with pytest.raises(Invalid, match=told) as refused:
        read_providers(write(GOOD.replace(*change)))
    assert KEY not in refused.value.message


def test_provider_that_was_taken_out_is_waited_for(write):
    with pytest.raises(Unavailable, match="No provider 'else'"):
        read_providers(write(GOOD)).load("else")
