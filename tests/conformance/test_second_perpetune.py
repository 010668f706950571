"""A job that is trained by a second Perpetune, over HTTP, by real training."""

from __future__ import annotations

from dataclasses import dataclass

import openai
import pytest

from infra.local.home import Home
from infra.local.settings import LocalSettings, free_ports
from infra.local.stack import Stack
from tests.conformance.samples import BASE, ended, jsonl, reached, rows, upload

pytestmark = pytest.mark.slow

PROVIDER = "neighbour"


@dataclass(frozen=True)
class Homes:
    """
    Two installations: one orders, the other one trains for it.

    Attributes:
        here: Client of the one that orders.
        there: Client of the provider's own side, to look at what it has.
    """

    here: openai.OpenAI
    there: openai.OpenAI


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    there = LocalSettings(home=tmp_path_factory.mktemp("there") / "home", **free_ports())
    here = LocalSettings(home=tmp_path_factory.mktemp("here") / "home", **free_ports())
    with Stack(there).running(lambda _: None):
        _configure(here, there)
        with (
            Stack(here).running(lambda _: None),
            _client(here, strict=True) as ordering,
            _client(there) as training,
        ):
            yield Homes(ordering, training)


def _configure(here: LocalSettings, there: LocalSettings) -> None:
    """What an operator writes: the provider, and its key in a file of its own."""
    secrets = here.home / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    lines = [
        f"[{PROVIDER}]",
        f'base_url = "{there.gateway_url}/v1"',
        'key_file = "neighbour_key"',
        f'models = ["{BASE}"]',
    ]
    for name, content in (
        ("providers.toml", "\n".join(lines)),
        ("neighbour_key", Home.at(there.home).secret("api_key")),
    ):
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(content)


def _client(settings: LocalSettings, *, strict: bool = False) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{settings.gateway_url}/v1",
        api_key=Home.at(settings.home).secret("api_key"),
        _strict_response_validation=strict,
    )


@pytest.fixture(scope="module")
def trained(homes):
    """A job of three epochs over sixteen rows, with a validation file."""
    here = homes.here
    made = here.fine_tuning.jobs.create(
        model=f"{PROVIDER}/{BASE}",
        training_file=upload(here, jsonl(rows())).id,
        validation_file=upload(here, jsonl(rows(20)[16:]), "validation.jsonl").id,
        seed=7,
        suffix="codes",
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4}},
        },
    )
    return ended(here, made.id)


def test_job_succeeds_with_a_model_that_is_there(homes, trained):
    assert trained.status == "succeeded", trained.error
    assert trained.organization_id == "default"
    model = trained.fine_tuned_model.removeprefix(f"{PROVIDER}/")
    assert model.startswith(f"ft:{BASE}:default:codes:")
    assert homes.there.models.retrieve(model).id == model
    answer = homes.there.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Code of amber chair?"}],
        max_tokens=8,
        temperature=0,
    )
    assert answer.choices[0].message.content


def test_job_shows_what_the_other_one_chose_and_counted(homes, trained):
    (remote,) = homes.there.fine_tuning.jobs.list(metadata={"perpetune_job": trained.id}).data
    assert remote.model == BASE
    assert remote.seed == trained.seed == 7
    assert trained.trained_tokens == remote.trained_tokens > 0
    assert trained.hyperparameters == remote.hyperparameters
    assert trained.hyperparameters.learning_rate_multiplier != "auto"


def test_every_step_and_checkpoint_is_shown_once(homes, trained):
    def metrics(client, job_id):
        events = list(client.fine_tuning.jobs.list_events(job_id, limit=50))[::-1]
        return [event.data for event in events if event.type == "metrics"]

    (remote,) = homes.there.fine_tuning.jobs.list(metadata={"perpetune_job": trained.id}).data
    told = metrics(homes.here, trained.id)
    assert [data["step"] for data in told] == list(range(1, 13))
    assert told == metrics(homes.there, remote.id)
    here = homes.here.fine_tuning.jobs.checkpoints.list(trained.id).data
    there = homes.there.fine_tuning.jobs.checkpoints.list(remote.id).data
    assert [each.fine_tuned_model_checkpoint for each in here] == [
        f"{PROVIDER}/{each.fine_tuned_model_checkpoint}" for each in there
    ]
    assert here


def test_result_file_is_the_same_and_the_rows_are_gone(homes, trained):
    (remote,) = homes.there.fine_tuning.jobs.list(metadata={"perpetune_job": trained.id}).data
    ours = homes.here.files.content(trained.result_files[0]).read()
    assert ours == homes.there.files.content(remote.result_files[0]).read()
    assert ours.startswith(b"step,train_loss")


def test_cancellation_ends_the_training_there(homes):
    here = homes.here
    made = here.fine_tuning.jobs.create(
        model=f"{PROVIDER}/{BASE}",
        training_file=upload(here, jsonl(rows(32))).id,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 50, "batch_size": 1}},
        },
    )
    reached(here, made.id, "running")
    assert here.fine_tuning.jobs.cancel(made.id).status == "cancelled"
    (remote,) = homes.there.fine_tuning.jobs.list(metadata={"perpetune_job": made.id}).data
    assert ended(homes.there, remote.id, seconds=60).status == "cancelled"


def test_models_made_there_are_trained_further_there_and_asked_nowhere_here(homes, trained):
    here = homes.here
    with pytest.raises(openai.NotFoundError):
        here.models.retrieve(trained.fine_tuned_model)
    made = here.fine_tuning.jobs.create(
        model=trained.fine_tuned_model,
        training_file=upload(here, jsonl(rows())).id,
        hyperparameters={"n_epochs": 1, "batch_size": 16},
    )
    further = ended(here, made.id)
    assert further.status == "succeeded", further.error
    (remote,) = homes.there.fine_tuning.jobs.list(metadata={"perpetune_job": made.id}).data
    assert f"{PROVIDER}/{remote.model}" == trained.fine_tuned_model
