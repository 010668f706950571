"""Events at an address outside: in order, repeated, and believed by OpenAI's client."""

from __future__ import annotations

import time

import openai
import pytest
from sqlalchemy import text

from services.delivery import webhook
from services.delivery.repository import webhooks as rows
from services.delivery.service import webhooks
from services.delivery.service.forgetting import forget
from services.delivery.service.posting import Post, Posting
from services.delivery.service.webhooks import Changes, NewEndpoint
from services.delivery.settings import DeliverySettings
from shared.context import Context
from shared.contracts.batches import BatchCancelled, BatchCompleted, BatchExpired, BatchFailed
from shared.contracts.finetuning import JobCancelled, JobCreated, JobFailed, JobSucceeded
from shared.errors import Invalid, Missing, QuotaExceeded
from shared.ids import Project
from shared.outbound import Outbound
from shared.testing.receiver import SAID, Heard, receiving

A, B = (Context.root(Project(name), "test") for name in "ab")
KEY = "0" * 64
SETTINGS = DeliverySettings(webhook_give_up_seconds=1.0)
CANCELLED = "fine_tuning.job.cancelled"


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


@pytest.fixture
def outbound(receiver):
    return Outbound([receiver.host])


@pytest.fixture
def post(bench, outbound):
    return Post(bench.spine, outbound, KEY, SETTINGS)


def created(bench, url, *, types=(CANCELLED,), context=A, most=5, is_repetition=False):
    with bench.app.open(context) as uow:
        return webhooks.create_endpoint(
            uow, NewEndpoint("mine", url, list(types)), most=most, is_repetition=is_repetition
        )


def post_news(post) -> int:
    """One round, and the end of all it began; how many events were sent."""
    posting = Posting(lambda: post)
    sent = posting.round()
    while posting.under_way:
        time.sleep(0.01)
        sent += posting.round()
    return sent


def cancelled(bench, *jobs, context=A) -> None:
    for job in jobs:
        with bench.app.open(context) as uow:
            uow.emit(JobCancelled(job_id=job))


def unwrapped(heard: Heard, secret: str):
    with openai.OpenAI(api_key="none", webhook_secret=secret) as client:
        return client.webhooks.unwrap(heard.body, heard.headers)


def secret_of(endpoint, version=1) -> str:
    return webhook.secret_of(KEY, endpoint.id, version)


def attempts_of(bench, endpoint):
    with bench.app.open(A) as uow:
        return rows.list_attempts(uow.session, endpoint.id, None, 100)


def found(bench, endpoint):
    with bench.app.open(A) as uow:
        return webhooks.load_endpoint(uow, endpoint.id)


def at_once(bench) -> None:
    """As if the pause before the next attempt were over."""
    with bench.spine.open(A) as uow:
        uow.session.execute(text("UPDATE delivery.webhook_endpoints SET held_until = now()"))


def test_a_receiver_hears_of_its_project_from_then_on_and_believes_it(
    bench, outbound, receiver, post
):
    cancelled(bench, "ftjob-before")
    endpoint = created(bench, receiver.url)
    cancelled(bench, "ftjob-1", "ftjob-2")
    cancelled(bench, "ftjob-other", context=B)
    with bench.app.open(A) as uow:
        uow.emit(JobCreated(job_id="ftjob-3", model="m"))
        uow.emit(JobFailed(job_id="ftjob-3", code="x", message="not asked for"))
    assert post_news(post) == 2
    assert post_news(post) == 0
    events = [unwrapped(heard, secret_of(endpoint)) for heard in receiver.heard]
    assert [(event.type, event.data.id) for event in events] == [
        (CANCELLED, "ftjob-1"),
        (CANCELLED, "ftjob-2"),
    ]
    assert all(abs(event.created_at - time.time()) < 60 for event in events)
    assert [heard.headers["webhook-id"] for heard in receiver.heard] == [e.id for e in events]
    logged = attempts_of(bench, endpoint)
    assert [(each.status, each.event_id) for each in logged] == [
        (200, events[1].id),
        (200, events[0].id),
    ]
    assert logged[0].answer == SAID


def test_the_end_of_a_batch_is_told_by_openais_name(bench, outbound, receiver, post):
    names = ("batch.completed", "batch.failed", "batch.cancelled", "batch.expired")
    endpoint = created(bench, receiver.url, types=names)
    counts = {"total": 3, "completed": 2, "failed": 1}
    with bench.app.open(A) as uow:
        uow.emit(BatchCompleted(batch_id="batch_1", **counts))
        uow.emit(BatchFailed(batch_id="batch_2", code="empty_file", message="It is empty."))
        uow.emit(BatchCancelled(batch_id="batch_3", **counts))
        uow.emit(BatchExpired(batch_id="batch_4", **counts))
    while post_news(post):
        pass
    events = [unwrapped(heard, secret_of(endpoint)) for heard in receiver.heard]
    assert [event.type for event in events] == list(names)
    assert [event.data.id for event in events] == ["batch_1", "batch_2", "batch_3", "batch_4"]


def test_another_secret_is_not_believed(bench, outbound, receiver, post):
    endpoint = created(bench, receiver.url)
    cancelled(bench, "ftjob-1")
    post_news(post)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(receiver.heard[0], secret_of(endpoint, version=2))


def test_what_is_not_taken_is_sent_again_later_under_its_id_and_in_order(
    bench, outbound, receiver, post
):
    endpoint = created(bench, receiver.url)
    receiver.status = 500
    cancelled(bench, "ftjob-1", "ftjob-2")
    assert post_news(post) == 0
    assert post_news(post) == 0, "it is put off"
    assert found(bench, endpoint).failures == 1
    receiver.status = 204
    at_once(bench)
    assert post_news(post) == 2
    ids = [heard.headers["webhook-id"] for heard in receiver.heard]
    assert ids[0] == ids[1] != ids[2]
    assert (found(bench, endpoint).failures, found(bench, endpoint).failing_since) == (0, None)
    assert [each.status for each in attempts_of(bench, endpoint)] == [204, 204, 500]


def test_a_crash_before_it_is_noted_repeats_an_event(bench, outbound, receiver, post, monkeypatch):
    created(bench, receiver.url)
    cancelled(bench, "ftjob-1")
    with monkeypatch.context() as crash:
        crash.setattr(rows, "advance", lambda *_: (_ for _ in ()).throw(RuntimeError))
        with pytest.raises(RuntimeError):
            post_news(post)
    assert post_news(post) == 0, "it is still held"
    at_once(bench)
    assert post_news(post) == 1
    assert receiver.heard[0].headers["webhook-id"] == receiver.heard[1].headers["webhook-id"]


def test_who_fails_for_too_long_is_disabled_until_it_is_changed(bench, outbound, receiver, post):
    endpoint = created(bench, receiver.url)
    receiver.status = 302
    cancelled(bench, "ftjob-1")
    post_news(post)
    with bench.spine.open(A) as uow:
        uow.session.execute(
            text(
                "UPDATE delivery.webhook_endpoints"
                " SET failing_since = now() - interval '1 minute', held_until = now()"
            )
        )
    post_news(post)
    assert found(bench, endpoint).disabled_at is not None
    at_once(bench)
    assert post_news(post) == 0
    assert len(receiver.heard) == 2
    with bench.app.open(A) as uow:
        actions = uow.session.execute(text("SELECT action FROM spine.audit_entries")).scalars()
        assert list(actions) == ["webhook.created", "webhook.disabled"]
    receiver.status = 200
    with bench.app.open(A) as uow:
        webhooks.update_endpoint(uow, endpoint.id, Changes(url=receiver.url))
    assert post_news(post) == 1


def test_slow_receivers_hold_up_neither_others_nor_later_events(bench, receiver):
    with receiving() as slow:
        slow.seconds = 3.0
        both = Outbound([receiver.host, slow.host])
        for _ in range(6):
            created(bench, slow.url, most=10)
        created(bench, receiver.url, context=B)
        posting = Posting(lambda: Post(bench.spine, both, KEY, SETTINGS))
        cancelled(bench, "ftjob-1")
        for number in range(3):
            cancelled(bench, f"ftjob-other-{number}", context=B)
            deadline = time.monotonic() + 1.0
            while len(receiver.heard) <= number:
                assert time.monotonic() < deadline
                posting.round()
                time.sleep(0.01)
        assert len(slow.heard) == 4, "no more of one project at once"
        deadline = time.monotonic() + 20
        while len(slow.heard) < 6 or posting.under_way:
            assert time.monotonic() < deadline
            posting.round()
            time.sleep(0.05)


def test_success_is_told_when_its_model_can_be_asked(bench, outbound, receiver, post):
    created(bench, receiver.url, types=["fine_tuning.job.succeeded"])
    with bench.app.open(A) as uow:
        uow.emit(JobSucceeded(job_id="ftjob-1", model_id="ft:m:a::1", dataset_id="ds_1"))
    assert post_news(post) == 0
    assert receiver.heard == []
    with bench.app.open(A) as uow:
        uow.session.execute(
            text(
                "INSERT INTO releases.models (project, model_id, kind, base, parent, gguf_digest,"
                " peft_digest, job_id, dataset_id) VALUES"
                " ('a', 'ft:m:a::1', 'fine_tuned', 'm', 'm', 'g', 'p', 'ftjob-1', 'ds_1')"
            )
        )
    at_once(bench)
    assert post_news(post) == 1


def test_a_rotated_secret_is_believed_beside_the_old_one_for_a_day(bench, outbound, receiver, post):
    endpoint = created(bench, receiver.url)
    with bench.app.open(A) as uow:
        webhooks.rotate_secret(uow, endpoint.id, keep_old=True)
    cancelled(bench, "ftjob-1")
    post_news(post)
    for version in (1, 2):
        assert unwrapped(receiver.heard[0], secret_of(endpoint, version)).data.id == "ftjob-1"
    with bench.app.open(A) as uow:
        webhooks.rotate_secret(uow, endpoint.id, keep_old=False)
    cancelled(bench, "ftjob-2")
    post_news(post)
    assert unwrapped(receiver.heard[1], secret_of(endpoint, 3)).data.id == "ftjob-2"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(receiver.heard[1], secret_of(endpoint, 2))


def test_an_address_that_became_private_is_not_called(bench, receiver, post):
    """The name led elsewhere when the endpoint was made."""
    endpoint = created(bench, "https://example.com/hook")
    cancelled(bench, "ftjob-1")
    rebound = Outbound(resolver=lambda *_: ["127.0.0.1"])
    assert post_news(Post(post.units, rebound, KEY, SETTINGS)) == 0
    (attempt,) = attempts_of(bench, endpoint)
    assert attempt.status is None
    assert "not public" in attempt.error


def test_an_endpoint_that_is_changed_while_it_is_served_is_left_to_the_next(bench, receiver, post):
    endpoint = created(bench, receiver.url)
    receiver.seconds, receiver.status = 0.5, 500
    cancelled(bench, "ftjob-1")
    posting = Posting(lambda: post)
    posting.round()
    while not receiver.heard:
        time.sleep(0.01)
    with bench.app.open(A) as uow:
        webhooks.update_endpoint(uow, endpoint.id, Changes(name="renamed"))
    while not attempts_of(bench, endpoint):
        time.sleep(0.01)
    receiver.status = 200
    while posting.under_way:
        time.sleep(0.01)
        posting.round()
    assert found(bench, endpoint).failures == 0
    assert [each.status for each in attempts_of(bench, endpoint)] == [200, 500]


def test_repeated_requests_have_one_effect(bench, receiver):
    endpoint = created(bench, receiver.url)
    assert created(bench, receiver.url, is_repetition=True).id == endpoint.id
    assert created(bench, receiver.url).id != endpoint.id
    with bench.app.open(A) as uow:
        webhooks.rotate_secret(uow, endpoint.id, keep_old=True)
    with bench.app.open(A) as uow:
        again = webhooks.rotate_secret(uow, endpoint.id, keep_old=True, is_repetition=True)
    assert again.secret_version == 2
    with bench.app.open(A) as uow:
        same = webhooks.update_endpoint(uow, endpoint.id, Changes(name="mine"))
    assert same.updated_at == again.updated_at


def test_endpoints_are_checked_counted_and_of_one_project(bench, receiver):
    with pytest.raises(Invalid) as kind:
        created(bench, receiver.url, types=["response.completed"])
    assert kind.value.param == "event_types"
    endpoint = created(bench, receiver.url, most=1)
    with pytest.raises(QuotaExceeded):
        created(bench, receiver.url, most=1)
    with bench.app.open(B) as uow, pytest.raises(Missing):
        webhooks.load_endpoint(uow, endpoint.id)
    with bench.app.open(A) as uow:
        webhooks.delete_endpoint(uow, endpoint.id)
    with bench.app.open(A) as uow, pytest.raises(Missing):
        webhooks.delete_endpoint(uow, endpoint.id)


def test_a_sample_is_sent_at_once_and_its_answer_told(bench):
    with receiving() as receiver:
        outbound = Outbound([receiver.host])
        endpoint = created(bench, receiver.url)
        receiver.status = 418
        assert webhooks.send_sample(outbound, endpoint, KEY, CANCELLED) == 418
        assert unwrapped(receiver.heard[0], secret_of(endpoint)).type == CANCELLED
    with pytest.raises(Invalid, match="did not answer"):
        webhooks.send_sample(outbound, endpoint, KEY, CANCELLED)


def test_old_attempts_are_forgotten(bench, outbound, receiver, post):
    endpoint = created(bench, receiver.url)
    cancelled(bench, "ftjob-1", "ftjob-2")
    post_news(post)
    with bench.spine.open(A) as uow:
        assert rows.forget_attempts(uow.session, 1, 10) == 0
    latest, _ = attempts_of(bench, endpoint)
    with bench.spine.open(A) as uow:
        assert rows.forget_attempts(uow.session, 0, 1) == 1
    assert [each.seq for each in attempts_of(bench, endpoint)] == [latest.seq]
    assert forget(bench.spine, SETTINGS) == 0
