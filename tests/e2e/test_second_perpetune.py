"""A job that one project has trained by another Perpetune, over HTTP, by real training."""

from __future__ import annotations

from dataclasses import dataclass

import openai
import pytest

from infra.local import processes
from infra.local.settings import LocalSettings, free_ports
from infra.local.stack import Stack
from shared.db import Units, make_engine
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings
from tests.conformance.samples import BASE, ended, jsonl, reached, rows, upload
from tests.keys import make_key

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

PROVIDER = "neighbour"
ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Homes:
    """
    Two projects: one orders, the other one trains for it.

    Attributes:
        here: Client of the one that orders.
        there: Client of the provider's own side, to look at what it has.
    """

    here: openai.OpenAI
    there: openai.OpenAI


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """One stack: its gateway is asked by its own worker, as that of another would be."""
    home = tmp_path_factory.mktemp("second") / "home"
    settings = LocalSettings(home=home, **free_ports())
    secrets = home / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    url = f"{settings.gateway_url}/v1"
    configured = secrets / "providers.toml"
    configured.write_text(
        f'[{PROVIDER}]\nbase_url = "{url}"\nkey_file = "neighbour_key"\nmodels = ["{BASE}"]\n'
    )
    configured.chmod(0o600)
    with Stack(settings).running(lambda _: None) as stack:
        database = processes.environment(stack.settings, stack.home)["PERPETUNE_DATABASE_APP_URL"]
        units = Units(make_engine(database, CoreSettings()))
        pepper = RotatingSecret.at(secrets / "api_key_pepper").values.current
        key = make_key(units, ELSEWHERE, pepper)
        (secrets / "neighbour_key").touch(mode=0o600)
        (secrets / "neighbour_key").write_text(key)
        with (
            openai.OpenAI(
                base_url=url, api_key=stack.home.secret("api_key"), _strict_response_validation=True
            ) as here,
            openai.OpenAI(base_url=url, api_key=key) as there,
        ):
            yield Homes(here, there)


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
    assert model.startswith(f"ft:{BASE}:{ELSEWHERE}:codes:")
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
