"""Tuned models that nobody trained, and releases of them: what makes a worker load a model."""

from __future__ import annotations

from collections.abc import Callable

from shared.blobs import make_blob_store
from shared.ids import Project, uuid7
from tests.faults.load import BASE, Load
from tests.faults.stack import Stack
from tests.faults.watching import until


def register(stack: Stack, project: str, name: str) -> str:
    """A tuned model of *project* with an adapter of its own; its id."""
    model = f"ft:{BASE}:{project}:{name}"
    digest = make_blob_store(stack.settings.blobs_url).put(Project(project), model.encode())
    stack.rows(
        "INSERT INTO releases.models (project, model_id, kind, base, parent, gguf_digest, "
        "peft_digest, job_id, dataset_id) VALUES (%s, %s, 'fine_tuned', %s, %s, %s, %s, %s, %s)",
        project,
        model,
        BASE,
        BASE,
        digest,
        digest,
        f"job-{name}",
        f"dataset-{name}",
    )
    return model


def make_workload(stack: Stack, load: Load, **policy: object) -> str:
    """A workload whose base is live; its name."""
    body = {"name": "chats", "base_model": BASE, "policy": policy}
    made = load.ask("/api/v1/workloads", body, str(uuid7()), load.projects[0])
    assert made, "the workload could not be made"
    live = "SELECT 1 FROM releases.releases WHERE workload_id = %s AND state = 'live'"
    until(lambda: stack.rows(live, made["id"]), what="the base is live")
    return str(made["name"])


def workload_on(stack: Stack) -> Callable[[Load, object], str]:
    """For chats that ask a workload: makes it before the first."""
    return lambda load, _upstream: make_workload(stack, load)


def release_of(workload: str, model: str) -> dict[str, object]:
    """The body that puts *model* before a workload."""
    return {"workload": workload, "model": model, "override": {"reason": "a trial of faults"}}


def state_of(stack: Stack, model: str) -> str:
    """Of the one release of *model*."""
    ((state,),) = stack.rows("SELECT state FROM releases.releases WHERE model = %s", model)
    return str(state)


def await_start(stack: Stack, model: str, *, seconds: float) -> None:
    """Until *model* is before its traffic."""
    until(lambda: state_of(stack, model) == "canary", what=f"{model} is a canary", seconds=seconds)


def times_started(stack: Stack, model: str) -> int:
    """How often *model* was put before its traffic."""
    ((count,),) = stack.rows(
        "SELECT count(*) FROM releases.decisions JOIN releases.releases USING (project, "
        "release_id) WHERE model = %s AND verdict = 'started'",
        model,
    )
    return int(count)


def take_back(stack: Stack, load: Load, model: str) -> None:
    """Roll the release of *model* back, so that the workload takes another."""
    ((release,),) = stack.rows("SELECT release_id FROM releases.releases WHERE model = %s", model)
    path = f"/api/v1/releases/{release}/rollback"
    done = load.ask(path, {"reason": "the round is over"}, str(uuid7()), load.projects[0])
    assert done, f"{model} could not be rolled back"
