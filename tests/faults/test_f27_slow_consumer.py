"""F-27: nobody serves one queue at full input; the others go on, and the API says when to wait."""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import openai
from openai.types.fine_tuning import FineTuningJob

from infra.local.processes import ProcessSpec
from shared.broker import ROOM_QUEUES, lists_of
from shared.ids import uuid7
from tests.faults.doors import asked, status_of
from tests.faults.layout import RESTART_SECONDS, WORKER, Layout
from tests.faults.load import BASE, Load, Rates
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import until

FAULT = "F-27"
STOPPED = "drift"
CONSUMER = f"worker-{STOPPED}"
# For production's 200,000.
LIMIT = 400
# For production's ten minutes.
STOPPED_SECONDS, SHORT_SECONDS = 10.0, 3.0
# Python and its allocator keep some memory whatever they do.
FLAT_BYTES = 16 << 20
PEACE_SECONDS = 6.0
FEEDBACK = "/api/v1/feedback"
MESSAGES = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
TRAINING = "".join(json.dumps({"messages": MESSAGES}) + "\n" for _ in range(20)).encode()


def worker_of(name: str, *queues: str) -> ProcessSpec:
    command = (sys.executable, str(WORKER), "--queues", ",".join(queues))
    return ProcessSpec(name, command, stop_seconds=15)


LAYOUT = Layout(
    workers=0,
    settings=(("unfinished_deliveries_per_project", LIMIT),),
    further=(
        worker_of(CONSUMER, STOPPED),
        worker_of("worker-others", *(queue for queue in ROOM_QUEUES if queue != STOPPED)),
    ),
)


def test_a_queue_nobody_serves(stack: Stack, trial: Trial):
    """The workers of one queue stopped at full input, until the API tells its project to wait.

    Guarantee: memory and the bus stay flat, other queues are as quick as before, what ends or
    shows work is never refused, and all that was accepted is done when the workers are back.
    """
    again = stack.settings.ring_again_seconds
    each = 0.05
    bound = Bound(
        RESTART_SECONDS + again + 2 * LIMIT * each,
        f"the workers' start {RESTART_SECONDS} s, a ringing again {again} s, and twice the limit, "
        f"{LIMIT}, at {each} s each",
    )
    rates = Rates(probes=1.0, phased=6.0, jobs=0.5, api=0)
    # So little work that the other queues do not queue by themselves.
    with trial.load(rates, hold_seconds=0.02) as load:
        for _ in trial.rounds(full=3):
            job = a_job(stack, load.projects[0])
            peace = time.time()
            time.sleep(PEACE_SECONDS if trial.is_full else SHORT_SECONDS)
            before = seconds_of_others(stack, peace)
            memory, used = stack.memory_bytes(), bus_bytes(stack)
            trial.begins()
            stack.stop(CONSUMER)
            began = time.time()
            trial.expect(flood(stack, trial, load), "the API never said too_much_unfinished")
            keep_stopped(stack, trial, began)
            after = seconds_of_others(stack, began)
            what_goes_on(stack, trial, load, job)
            trial.expect_timely(
                after <= 2 * before, f"other queues: {before:.3f} s, then {after:.3f} s"
            )
            trial.note(
                f"stopped {time.time() - began:.0f} s, others {before * 1000:.0f} ms before and "
                f"{after * 1000:.0f} ms meanwhile; grown by: {growth(stack, trial, memory, used)}"
            )
            stack.start(CONSUMER)
            trial.recovered(load, bound)
            until(lambda: not is_full(stack, load.projects[0]), what="there is room again")
    trial.conclude(load, bound)


def flood(stack: Stack, trial: Trial, load: Load) -> bool:
    """Commands for the stopped queue as fast as they are taken, until the API refuses."""
    project = load.projects[0]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for _ in range(20):
            load.send_probe(trial.chance, str(uuid7()), project)
        if is_full(stack, project):
            return True
    return False


def is_full(stack: Stack, project: str) -> bool:
    body = {"inference_id": "inf_unknown", "success": True}
    status, answer = asked(stack.port, FEEDBACK, stack.key(project), body)
    code = answer["error"]["code"]
    assert (status, code) in ((400, "unknown_inference"), (429, "too_much_unfinished")), answer
    return status == 429


def keep_stopped(stack: Stack, trial: Trial, began: float) -> None:
    seconds = STOPPED_SECONDS if trial.is_full else SHORT_SECONDS
    longest = 0
    while time.time() < began + seconds or longest == 0:
        prefix = stack.settings.broker_prefix
        length = sum(int(stack.bus.llen(f"{prefix}{name}")) for name in lists_of(STOPPED))
        longest = max(longest, length)
        time.sleep(0.2)
    window = stack.settings.ring_window
    trial.expect(longest <= window, f"{longest} ringings in the bus, the window is {window}")
    trial.note(f"at most {longest} ringings in the bus, window {window}")


def what_goes_on(stack: Stack, trial: Trial, load: Load, job: str) -> None:
    """At the limit: reading, cancelling and rolling back, and all that another project asks."""
    full, quiet = stack.key(load.projects[0]), stack.key(load.projects[1])
    trial.expect(is_full(stack, load.projects[0]), "the limit was forgotten")
    trial.expect(status_of(stack.port, "/v1/fine_tuning/jobs", full) == 200, "a read was refused")
    cancelled = client(stack, load.projects[0]).fine_tuning.jobs.cancel(job)
    trial.expect(cancelled.status == "cancelled", f"a cancelled job is {cancelled.status}")
    path = f"/api/v1/releases/rel_{uuid7().hex}/rollback"
    rolled_back = status_of(stack.port, path, full, {"reason": "worse"})
    trial.expect(rolled_back == 404, f"rolling back is answered {rolled_back}")
    made = {"name": f"f27-{uuid7().hex}", "base_model": BASE}
    other = status_of(stack.port, "/api/v1/workloads", quiet, made)
    trial.expect(other == 201, f"another project is answered {other}")


def client(stack: Stack, project: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{stack.gateway_url}/v1", api_key=stack.key(project), max_retries=0
    )


def a_job(stack: Stack, project: str) -> str:
    """A fine-tuning job that waits for a trainer."""
    theirs = client(stack, project)
    file = theirs.files.create(file=("rows.jsonl", TRAINING), purpose="fine-tune")
    made: FineTuningJob = theirs.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    return made.id


def seconds_of_others(stack: Stack, since: float) -> float:
    """Median from acceptance to effect of commands that another queue carries; Postgres' clock."""

    def seconds() -> list[tuple[float]]:
        return stack.rows(
            "SELECT extract(epoch FROM done.at - accepted.at)::float8 "
            "FROM faults.effects AS done JOIN spine.audit_entries AS accepted "
            "ON accepted.subject = done.number AND accepted.action = 'probe.accepted' "
            "WHERE done.kind = 'phased' AND accepted.at > to_timestamp(%s)",
            since,
        )

    return median(each for (each,) in until(seconds, what="another queue's command takes effect"))


def bus_bytes(stack: Stack) -> int:
    return int(stack.bus.info("memory")["used_memory"])


def growth(stack: Stack, trial: Trial, memory: dict[str, int], used: int) -> str:
    """Of what must stay flat, in MiB."""
    now = stack.memory_bytes()
    grown = {name: now[name] - memory[name] for name in ("delivery-1", "gateway")}
    grown["bus"] = bus_bytes(stack) - used
    for name, size in grown.items():
        trial.expect(size <= FLAT_BYTES, f"{name} grew by {size >> 20} MiB")
    return ", ".join(f"{name} {size / (1 << 20):.1f} MiB" for name, size in grown.items())
