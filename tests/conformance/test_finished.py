"""Checks 46 to 50: what a job leaves behind."""

from __future__ import annotations

import csv
import io
import re
import time

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.conformance.checks import in_both_modes
from tests.conformance.samples import BASE, upload

pytestmark = pytest.mark.slow

COLUMNS = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
NAME = re.compile(r"ft:[^:]+:[^:]+:[^:]*:[0-9A-Za-z]{8}")
HELLO = [{"role": "user", "content": "Hello"}]


def until_gone(client: openai.OpenAI, model: str) -> None:
    """Wait until a model is not found; what is decided is known everywhere within a second."""
    deadline = time.monotonic() + 5
    while True:
        try:
            client.chat.completions.create(model=model, messages=HELLO, max_tokens=1)
        except openai.NotFoundError as gone:
            assert gone.code == "model_not_found"  # noqa: PT017 - it may answer for a moment
            return
        assert time.monotonic() < deadline, f"{model} answers"
        time.sleep(0.1)


def until_answered(client: openai.OpenAI, model: str) -> ChatCompletion:
    """The answer of a model, as soon as it is found."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return client.chat.completions.create(model=model, messages=HELLO, max_tokens=4)
        except openai.NotFoundError:
            assert time.monotonic() < deadline, f"{model} does not answer"
            time.sleep(0.1)


@in_both_modes
def test_check_46_finished_jobs_name_their_model(client, tuned):
    """A finished job has a model's name, trained tokens, and an end after its beginning."""
    job = client.fine_tuning.jobs.retrieve(tuned.id)
    assert NAME.fullmatch(job.fine_tuned_model)
    assert job.finished_at >= job.created_at
    assert job.trained_tokens > 0
    assert job.trained_tokens % 3 == 0


def test_check_47_result_files_are_tables(client, tuned):
    """The result file is a CSV with OpenAI's columns first, and a line for each step."""
    (file_id,) = client.fine_tuning.jobs.retrieve(tuned.id).result_files
    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    table = list(csv.reader(io.StringIO(client.files.content(file_id).text)))
    assert table[0][:5] == COLUMNS
    assert [int(line[0]) for line in table[1:]] == list(range(1, 13))


@in_both_modes
def test_check_48_models_are_listed(client, tuned):
    """Bases and tuned models are listed and retrieved by name."""
    names = {model.id for model in client.models.list()}
    assert {BASE, tuned.model} <= names
    assert client.models.retrieve(tuned.model).id == tuned.model
    assert client.models.retrieve(BASE).owned_by


def test_check_48_models_are_deleted(client, second_tuned):
    """A tuned model is deleted and answers no more; a base cannot be deleted."""
    checkpoint = client.fine_tuning.jobs.checkpoints.list(second_tuned.id).data[-1]
    model = checkpoint.fine_tuned_model_checkpoint
    assert client.models.delete(model).deleted is True
    until_gone(client, model)
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete(BASE)


def test_check_48_names_with_slashes_are_retrieved(client, live):
    """A model whose name has a slash is retrieved by it."""
    client.post(
        f"{live.url}/api/v1/workloads",
        cast_to=object,
        body={"name": "slashes", "base_model": BASE, "aliases": ["org/name"]},
    )
    deadline = time.monotonic() + 10
    while "org/name" not in {model.id for model in client.models.list()}:
        assert time.monotonic() < deadline, "the alias is not listed"
        time.sleep(0.1)
    assert client.models.retrieve("org/name").id == "org/name"
    assert client.chat.completions.create(model="org/name", messages=HELLO, max_tokens=1).choices


def test_check_49_permissions_are_given_and_taken(client, other, tuned):
    """A checkpoint is shown to another project, listed page by page, and hidden again."""
    permissions = client.fine_tuning.checkpoints.permissions
    with pytest.raises(openai.NotFoundError):
        other.chat.completions.create(model=tuned.model, messages=HELLO, max_tokens=1)
    made = list(permissions.create(tuned.model, project_ids=["other", "third"]))
    assert [p.id for p in permissions.list(tuned.model, limit=1)] == [p.id for p in made][::-1]
    assert until_answered(other, tuned.model).model == tuned.model
    for permission in made:
        gone = permissions.delete(permission.id, fine_tuned_model_checkpoint=tuned.model)
        assert gone.deleted is True
    assert list(permissions.list(tuned.model)) == []
    until_gone(other, tuned.model)


def test_check_50_webhooks_verify(client, receiver):
    """Of a job's end its receiver hears, signed so that the client believes it."""
    made = client.webhooks.create(
        name="check", url=receiver.url, event_types=["fine_tuning.job.cancelled"]
    )
    assert client.webhooks.test(made.id, event_type="fine_tuning.job.cancelled").status_code == 200
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id)
    client.fine_tuning.jobs.cancel(job.id)
    told = receiver.await_event(lambda event: event["data"]["id"] == job.id)
    event = client.webhooks.unwrap(told.body, told.headers, secret=made.signing_secret)
    assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job.id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(told.body + b" ", told.headers, secret=made.signing_secret)
    assert made.id in {endpoint.id for endpoint in client.webhooks.list(limit=1)}
    assert client.webhooks.delete(made.id).deleted is True
