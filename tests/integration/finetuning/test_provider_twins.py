"""Creations that take effect late, twice, or for somebody who is gone: one job, while wanted."""

from __future__ import annotations

import time

import pytest
from finetuning_room import PROJECT
from provider_room import JOBS, ROWS
from sqlalchemy import text

from shared.contracts.finetuning import ContinueJob
from shared.testing import upstream as acts


def _late(exchange):
    """Takes effect when nobody waits any more: a step has a second here."""
    time.sleep(1.6)
    exchange.perform()
    exchange.reset()


def _statuses(service):
    return [job["status"] for job in service.jobs.values()]


def _make_twin(service, job_id, status):
    body = {
        "model": "base-1",
        "training_file": next(iter(service.files)),
        "method": {"type": "supervised"},
        "metadata": {"perpetune_job": job_id},
    }
    service._create(body)
    twin = list(service.jobs.values())[-1]
    service._enter(twin, status)


def test_creation_is_marked_as_one_however_often_it_is_tried(home, service):
    service.once(acts.refuse(503), on="create")
    job_id = home.create()
    home.step_until(job_id, "done")
    assert [call.key for call in service.calls("create")] == [job_id, job_id]


def test_job_that_was_made_after_we_gave_its_creation_up_is_cancelled(home, service):
    service.stages = ("running",)
    service.once(_late, on="create")
    job_id = home.create()
    home.step_until(job_id, "following")
    time.sleep(1.0)
    assert len(service.jobs) == 2
    ours = home.run(job_id).remote_job
    service._stages[ours].append("succeeded")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"
    assert service.jobs.pop(ours)["status"] == "succeeded"
    assert _statuses(service) == ["cancelled"]


def test_job_that_is_made_late_for_a_cancelled_one_is_stopped(home, service):
    service.stages = ("running",)
    service.once(_late, on="create")
    job_id = home.create()
    home.step_until(job_id, "creating")
    home.step()
    home.client.post(f"{JOBS}/{job_id}/cancel")
    home.step()
    (step,) = home.due("finetuning.continue_job")
    assert step.due > 1.5
    time.sleep(1.0)
    home.step_until(job_id, "done")
    assert _statuses(service) == ["cancelled"]


def test_job_that_the_next_step_finds_is_not_taken_back(home, service):
    """A worker slept through its step, and the creation of the one that did it meanwhile failed."""
    job_id = home.create()
    home.step_until(job_id, "creating")
    (step,) = home.due("finetuning.continue_job")

    def overtaken(exchange):
        service.behave()
        home.rows("UPDATE finetuning.provider_runs SET position = position + 1")
        with home.spine.open(PROJECT) as uow:
            uow.session.execute(text("DELETE FROM spine.deliveries WHERE id = :i"), {"i": step.id})
        with home.units.open(PROJECT) as uow:
            uow.emit(ContinueJob(job_id=job_id, position=home.run(job_id).position))
        acts.answer(exchange)

    service.always(overtaken, on="create")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"
    assert _statuses(service) == ["succeeded"]


@pytest.mark.parametrize("ended", ["cancelled", "failed"])
def test_twin_that_lives_is_gone_on_with(home, service, ended):
    job_id = home.create()
    home.step_until(job_id, "creating")
    _make_twin(service, job_id, "running")
    _make_twin(service, job_id, ended)
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"
    assert _statuses(service) == ["succeeded", ended]


def test_job_that_was_cancelled_is_made_anew(home, service):
    job_id = home.create()
    home.step_until(job_id, "creating")
    _make_twin(service, job_id, "cancelled")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"


def test_file_that_cannot_be_removed_does_not_save_the_other(home, service):
    job_id = home.create(validation_file=home.upload(ROWS[:3]))
    home.step_until(job_id, "following")
    first, _ = sorted(service.files)
    service.always(acts.refuse(403), on="delete_file", model=first)
    home.step_until(job_id, "done")
    assert list(service.files) == [first]
    assert "may be left at the provider" in home.messages(job_id)[-1]
