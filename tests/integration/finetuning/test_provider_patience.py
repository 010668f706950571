"""How long a failing provider is waited for, and what is kept of a job when it is not any more."""

from __future__ import annotations

from provider_room import JOBS

from services.finetuning import bootstrap
from shared.testing import upstream as acts


def _following(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    home.step()
    return job_id


def _paused(home, service):
    job_id = _following(home, service)
    home.client.post(f"{JOBS}/{job_id}/pause")
    home.step(2)
    assert home.job(job_id)["status"] == "paused"
    return job_id


def _remote_status(service):
    (remote,) = service.jobs.values()
    return remote["status"]


def test_paused_job_fails_as_its_provider_says(home, service):
    job_id = _paused(home, service)
    service.go_on("failed")
    home.step_until(job_id, "done")
    assert home.job(job_id)["error"]["message"] == "diverged"


def test_paused_job_that_is_refused_fails_and_is_stopped(home, service):
    job_id = _paused(home, service)
    service.once(acts.refuse(403), on="retrieve")
    home.step()
    assert home.job(job_id)["status"] == "failed"
    home.step_until(job_id, "done")
    assert _remote_status(service) == "cancelled"


def test_unfit_configuration_of_a_worker_is_waited_for(home, service, tmp_path):
    job_id = _following(home, service)
    file = tmp_path / "secrets" / "providers.toml"
    file.chmod(0o644)
    bootstrap.process_providers.cache_clear()
    home.step(3)
    assert home.job(job_id)["status"] == "running"
    told = home.messages(job_id)[-1]
    assert "operator has to mend providers.toml" in told
    assert str(tmp_path) not in told
    file.chmod(0o600)
    service.go_on("succeeded")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"
