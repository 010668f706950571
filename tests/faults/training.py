"""
Jobs that a project has trained at a provider, which a simulated service plays, while it misbehaves.

Everything of ours is real: the jobs are ordered by the use case of the API, their rows are checked
and their steps done by the workers of the stack.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from services.finetuning.domain.methods import SUPERVISED
from services.finetuning.provider.configuration import read_providers
from services.finetuning.service.create import CreateJob, create_job
from services.finetuning.service.ending import cancel_job
from shared.blobs import make_blob_store
from shared.context import Context
from shared.ids import Project, new_id
from shared.testing.provider import TrainingService
from shared.testing.provider.server import KEY
from tests.faults.layout import Layout
from tests.faults.load import CANARY, Load, Rates
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import until

LONGEST_POLL_SECONDS = 1.0
STEP_SECONDS = 1.5
# From the first message to the last deletion, with all pauses between looks, when nothing is wrong.
JOB_SECONDS = 8.0
AT_ONCE = 3

LAYOUT = Layout(
    settings=(
        ("finetuning_provider_poll_seconds", 0.1),
        ("finetuning_provider_longest_poll_seconds", LONGEST_POLL_SECONDS),
        ("finetuning_provider_step_seconds", STEP_SECONDS),
    )
)


def bound_of_job(more_seconds: float, why: str) -> Bound:
    """A whole job, and what the fault costs beside it."""
    return Bound(JOB_SECONDS + more_seconds, f"a job of its provider {JOB_SECONDS} s, {why}")


@dataclass
class Orders:
    """
    The jobs of one trial.

    Attributes:
        jobs: Ids of all that were ordered.
    """

    stack: Stack
    project: str
    service: TrainingService
    jobs: list[str] = field(default_factory=list)

    def order(self, count: int = AT_ONCE) -> list[str]:
        """Jobs, each of rows of its own, committed; their ids."""
        made = [self._order() for _ in range(count)]
        self.jobs += made
        return made

    def cancel(self, job: str) -> None:
        """As its owner does."""
        with self.stack.app.open(Context.root(Project(self.project), "test")) as uow:
            cancel_job(uow, job)

    def await_end(self, jobs: Sequence[str], *, seconds: float) -> None:
        """Until nothing is left to be done about *jobs*, here or there."""

        def left() -> list[tuple[str, ...]]:
            return self.stack.rows(
                "SELECT id, state, phase, failures FROM finetuning.jobs "
                "LEFT JOIN finetuning.provider_runs ON job_id = id "
                "WHERE id = ANY(%s) AND phase IS DISTINCT FROM 'done'",
                list(jobs),
            )

        until(lambda: not left(), what="the jobs end", seconds=seconds)

    def states(self, jobs: Sequence[str]) -> set[str]:
        found = self.stack.rows("SELECT state FROM finetuning.jobs WHERE id = ANY(%s)", list(jobs))
        return {state for (state,) in found}

    def contradictions(self, *, wanted: str = "succeeded") -> Iterator[str]:
        """What must hold of every job when all have ended."""
        if (states := self.states(self.jobs)) != {wanted}:
            yield f"jobs are {states}, not {wanted}"
        twice = [made for made in self.service.created.values() if made > 1]
        if twice or set(self.service.created) != set(self.jobs):
            yield f"{len(self.service.created)} of {len(self.jobs)} made, {len(twice)} made again"
        if self.service.files:
            yield f"{len(self.service.files)} files were left at the provider"
        facts = self._facts(f"job.{wanted}.v1")
        if sorted(facts) != sorted(self.jobs):
            yield f"{len(facts)} facts tell of the end of {len(self.jobs)} jobs"

    def _facts(self, kind: str) -> list[str]:
        rows = self.stack.rows(
            "SELECT envelope->'data'->>'job_id' FROM spine.events WHERE project = %s AND type = %s",
            self.project,
            kind,
        )
        return [job for (job,) in rows]

    def _order(self) -> str:
        command = CreateJob(
            model="sim/base-1",
            training_file=self._file(),
            validation_file=None,
            suffix=None,
            seed=None,
            method=SUPERVISED,
            hyperparameters={},
            metadata=None,
            request_digest=new_id("req"),
            is_repetition=False,
        )
        providers = read_providers(_configuration(self.stack))
        with self.stack.app.open(Context.root(Project(self.project), "test")) as uow:
            return create_job(uow, command, providers=providers, retry_window_seconds=0).id

    def _file(self) -> str:
        file_id = new_id("file-")
        rows = [
            {"role": role, "content": f"{CANARY} {file_id} {number}"}
            for number in range(10)
            for role in ("user", "assistant")
        ]
        lines = [json.dumps({"messages": rows[n : n + 2]}) for n in range(0, 20, 2)]
        store = make_blob_store(self.stack.settings.blobs_url)
        digest = store.put(Project(self.project), "\n".join(lines).encode())
        self.stack.rows(
            "INSERT INTO ingestion.files (id, project, purpose, filename, bytes, digest, status) "
            "VALUES (%s, %s, 'fine-tune', 'rows.jsonl', 1, %s, 'processed')",
            file_id,
            self.project,
            digest,
        )
        return file_id


@contextlib.contextmanager
def training(stack: Stack, trial: Trial) -> Iterator[tuple[Load, TrainingService, Orders]]:
    """A provider, and a small load of the spine beside the jobs."""
    _configure(stack)
    with (
        trial.load(Rates(probes=2, phased=0, jobs=0, api=0), projects=1) as load,
        TrainingService(port=_port(stack)) as service,
    ):
        yield load, service, Orders(stack, load.projects[0], service)


def over(trial: Trial, load: Load, orders: Orders, jobs: Sequence[str], bound: Bound) -> None:
    """The fault of a round has ended: until its jobs have, and the spine goes on."""
    began = time.time()
    orders.await_end(jobs, seconds=3 * bound.seconds + 60)
    seconds = time.time() - began
    trial.recovered(load, bound)
    trial.recoveries[-1] = max(trial.recoveries[-1], seconds)


def conclude(
    trial: Trial, load: Load, orders: Orders, bound: Bound, figures: str, *, wanted: str
) -> None:
    """As `Trial.conclude`, with what holds for every job."""
    trial.note(
        f"{len(orders.jobs)} jobs at a simulated provider, {len(orders.service.calls())} calls; "
        f"{figures}"
    )
    trial.contradictions += orders.contradictions(wanted=wanted)
    trial.conclude(load, bound)


def _configure(stack: Stack) -> None:
    url = f"http://127.0.0.1:{_port(stack)}/v1"
    text = f'[sim]\nbase_url = "{url}"\nkey_file = "sim_key"\nmodels = ["base-1"]\n'
    for file, content in ((_configuration(stack), text), (stack.home.secrets / "sim_key", KEY)):
        file.touch(mode=0o600)
        file.write_text(content)


def _configuration(stack: Stack) -> Path:
    return stack.home.secrets / "providers.toml"


def _port(stack: Stack) -> int:
    """Where the stack has its model server, which these trials do not need."""
    return int(make_url(stack.settings.serving_url).port or 0)
