"""Checks 13 to 27: creating jobs."""

from __future__ import annotations

import contextlib
from typing import Any

import openai
import pytest

from tests.conformance.checks import in_both_modes
from tests.conformance.samples import BASE, ended, reached, upload


@pytest.fixture
def file(client) -> str:
    return upload(client).id


@pytest.fixture
def jobs(client):
    """Creates jobs; they are cancelled at the end, as nobody needs their models."""
    made = []
    create = client.fine_tuning.jobs.create

    def remembered(**fields: Any):
        job = create(**fields)
        made.append(job.id)
        return job

    yield remembered
    for job in made:
        # It may have ended.
        with contextlib.suppress(openai.BadRequestError):
            client.fine_tuning.jobs.cancel(job)


def supervised(**numbers: object) -> dict[str, object]:
    return {"type": "supervised", "supervised": {"hyperparameters": numbers}}


@in_both_modes
def test_check_13_the_least_a_job_needs(jobs, file):
    """A model and a file are enough, and the answer is a whole job."""
    job = jobs(model=BASE, training_file=file)
    assert job.status in {"validating_files", "queued", "running"}
    assert job.fine_tuned_model is None
    assert isinstance(job.seed, int)
    assert job.method.type == "supervised"


def test_check_14_the_older_place_of_hyperparameters_counts(jobs, file):
    """Hyperparameters at the top take effect and are shown under `method` as well."""
    job = jobs(model=BASE, training_file=file, hyperparameters={"n_epochs": 2, "batch_size": 3})
    for shown in (job.hyperparameters, job.method.supervised.hyperparameters):
        assert (shown.n_epochs, shown.batch_size) == (2, 3)


def test_check_15_explicit_numbers_are_echoed(jobs, file):
    """Explicit numbers of a supervised job are echoed."""
    numbers = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
    job = jobs(model=BASE, training_file=file, method=supervised(**numbers))
    assert job.method.supervised.hyperparameters.model_dump() == numbers


def test_check_15_explicit_numbers_of_dpo_are_echoed(jobs, file):
    """Explicit numbers of a dpo job are echoed."""
    numbers = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5, "beta": 0.2}
    method = {"type": "dpo", "dpo": {"hyperparameters": numbers}}
    job = jobs(model=BASE, training_file=file, method=method)
    assert job.method.dpo.hyperparameters.model_dump() == numbers


@pytest.mark.slow
def test_check_16_auto_becomes_numbers(client, jobs, file):
    """`auto` is echoed first, and is numbers with reasons once the job runs."""
    job = jobs(model=BASE, training_file=file)
    assert job.hyperparameters.n_epochs == "auto"
    running = reached(client, job.id, "running")
    shown = running.method.supervised.hyperparameters
    assert shown.n_epochs >= 1
    assert shown.batch_size >= 1
    assert shown.learning_rate_multiplier > 0
    told = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert any("n_epochs=" in text and "because" in text for text in told), told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_epochs", 0),
        ("n_epochs", 51),
        ("batch_size", 0),
        ("batch_size", 257),
        ("learning_rate_multiplier", 0),
        ("n_epochs", "many"),
    ],
)
def test_check_17_each_bound_is_kept(client, file, name, value):
    """A hyperparameter beyond its bound is refused by its path."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(
            model=BASE, training_file=file, method=supervised(**{name: value})
        )
    assert refused.value.param == f"method.supervised.hyperparameters.{name}"


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_check_17_the_seed_is_bounded(client, file, seed):
    """A seed that is no number of 31 bits is refused by its name."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model=BASE, training_file=file, seed=seed)
    assert refused.value.param == "seed"


@pytest.mark.parametrize("beta", [0, 2.1])
def test_check_17_beta_is_bounded(client, file, beta):
    """A beta beyond its bound is refused by its path."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(
            model=BASE,
            training_file=file,
            method={"type": "dpo", "dpo": {"hyperparameters": {"beta": beta}}},
        )
    assert refused.value.param == "method.dpo.hyperparameters.beta"


@pytest.mark.parametrize("kind", ["magic", "reinforcement"])
def test_check_18_other_methods_are_refused(client, file, kind):
    """An unknown method, and reinforcement, are refused and never become another one."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(
            model=BASE, training_file=file, method={"type": kind, kind: {}}
        )
    assert refused.value.param == "method.type"


def test_check_19_unknown_models_are_not_found(client, file):
    """An unknown model is `model_not_found`."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.fine_tuning.jobs.create(model="gpt-9", training_file=file)
    assert unknown.value.code == "model_not_found"


def test_check_19_what_cannot_be_tuned_has_a_code_of_its_own(client, live, file):
    """A name that answers and is no model to train is refused as such."""
    client.post(
        f"{live.url}/api/v1/workloads",
        cast_to=object,
        body={"name": "untunable", "base_model": BASE},
    )
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model="untunable", training_file=file)
    assert refused.value.code == "model_not_tunable"


def test_an_alias_is_trained_as_the_model_that_is_live(client, live, jobs, file):
    """The id of an older fine-tune, made an alias, can be trained further by its name."""
    old = "ft:gpt-4o-mini-2024-07-18:acme::AbCd1234"
    client.post(
        f"{live.url}/api/v1/workloads",
        cast_to=object,
        body={"name": "replaced", "base_model": BASE, "aliases": [old]},
    )
    assert jobs(model=old, training_file=file).model == BASE


def test_check_20_files_must_be_there_and_for_training(client):
    """An unknown file, and one with another purpose, are refused by the field's name."""
    notes = client.files.create(file=("notes.txt", b"text"), purpose="user_data")
    for file in ("file-none", notes.id):
        with pytest.raises(openai.BadRequestError) as refused:
            client.fine_tuning.jobs.create(model=BASE, training_file=file)
        assert refused.value.param == "training_file"


def test_check_21_suffixes_are_bounded(client, jobs, file):
    """A suffix has at most 64 characters, of those that are documented."""
    assert jobs(model=BASE, training_file=file, suffix="s" * 64).user_provided_suffix == "s" * 64
    for suffix in ("s" * 65, "Über uns"):
        with pytest.raises(openai.BadRequestError) as refused:
            client.fine_tuning.jobs.create(model=BASE, training_file=file, suffix=suffix)
        assert refused.value.param == "suffix"


def test_check_22_metadata_is_kept_and_bounded(client, jobs, file):
    """Metadata within the bounds comes back everywhere; beyond them it is refused."""
    most = {f"{n:02d}".ljust(64, "k"): "v" * 512 for n in range(16)}
    job = jobs(model=BASE, training_file=file, metadata=most)
    assert client.fine_tuning.jobs.retrieve(job.id).metadata == most
    assert client.fine_tuning.jobs.list(limit=1).data[0].metadata == most
    for bad in ({**most, "17": "v"}, {"k" * 65: "v"}, {"k": "v" * 513}):
        with pytest.raises(openai.BadRequestError):
            client.fine_tuning.jobs.create(model=BASE, training_file=file, metadata=bad)


def test_check_23_validation_files_are_echoed(client, jobs, file):
    """The validation file is echoed; the training file in its place is warned of."""
    job = jobs(model=BASE, training_file=file, validation_file=file)
    assert job.validation_file == file
    warned = [e.message for e in client.fine_tuning.jobs.list_events(job.id) if e.level == "warn"]
    assert any("validation file is the training file" in text for text in warned)


@pytest.mark.slow
@pytest.mark.parametrize("from_checkpoint", [False, True], ids=["model", "checkpoint"])
def test_check_24_models_are_trained_further(client, jobs, tuned, from_checkpoint):
    """A job on an own model, or on a checkpoint, starts from its weights."""
    parent = losses(client, tuned.id)
    checkpoints = client.fine_tuning.jobs.checkpoints.list(tuned.id).data
    model = checkpoints[0].fine_tuned_model_checkpoint if from_checkpoint else tuned.model
    job = jobs(
        model=model, training_file=tuned.file, seed=7, method=supervised(n_epochs=1, batch_size=4)
    )
    ended(client, job.id)
    first = losses(client, job.id)[1]
    assert abs(first - parent[max(parent)]) < abs(first - parent[1])


@pytest.mark.slow
def test_check_25_the_same_seed_has_the_same_losses(client, jobs, tuned):
    """The same seed and rows give the same losses, to one part in a thousand."""
    job = jobs(
        model=BASE, training_file=tuned.file, seed=7, method=supervised(n_epochs=3, batch_size=4)
    )
    ended(client, job.id)
    before, again = losses(client, tuned.id), losses(client, job.id)
    assert again == pytest.approx(before, rel=1e-3)


def test_check_26_a_repeated_request_makes_one_job(client, jobs, file):
    """A request that the client marks as repeated gets the job it made before."""
    first = jobs(model=BASE, training_file=file, metadata={"check": "26"})
    again = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file,
        metadata={"check": "26"},
        extra_headers={"x-stainless-retry-count": "1"},
    )
    assert again.id == first.id
    assert len(list(client.fine_tuning.jobs.list(metadata={"check": "26"}))) == 1


def test_check_27_raw_answers_name_the_request(client):
    """The headers name the request and say how long it took."""
    raw = client.fine_tuning.jobs.with_raw_response.list()
    assert raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0


def losses(client: openai.OpenAI, job_id: str) -> dict[int, float]:
    """Training loss by step."""
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    return {e.data["step"]: e.data["train_loss"] for e in events if e.type == "metrics"}
