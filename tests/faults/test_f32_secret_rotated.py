"""F-32: the pepper of API keys and the key of receipts replaced while everything runs."""

from __future__ import annotations

import secrets
import time

from infra.local.settings import free_port
from shared.ids import Project, uuid7
from shared.receipts import Receipt
from tests.faults.doors import Doors, further_gateway, metric, status_of
from tests.faults.layout import Layout
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import until

FAULT = "F-32"
SECOND = "gateway-second"
_PORT = free_port()
LAYOUT = Layout(further=(further_gateway(SECOND, _PORT),))
ROTATED = ("api_key_pepper", "receipt_key")
# A file is looked at once a second, and read when it has been left alone for a fifth of one.
SEEN_SECONDS = 1.2


def test_secrets_rotated(stack: Stack, trial: Trial):
    """Pepper and receipt key replaced in place, gateways restarted in between.

    Guarantee: no request is refused during the overlap, nothing has to be restarted, and at every
    door the old values end with their lines.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(
        SEEN_SECONDS + again,
        f"a changed file is in force after {SEEN_SECONDS} s; nothing waits longer than for one "
        f"ringing again, {again} s",
    )
    doors = Doors(stack, {"gateway": stack.port, SECOND: _PORT})
    doors.await_ready()
    values = []
    try:
        with trial.load() as load:
            others = {name: stack.pid(name) for name in stack.names("worker")}
            for number in trial.rounds():
                values += [stack.home.secret(name) for name in ROTATED]
                rotate(doors, trial, is_restarting=number % 2 == 0)
                trial.recovered(load, bound)
            trial.expect(
                others == {name: stack.pid(name) for name in others}, "a worker was restarted"
            )
    finally:
        stack.port = doors.ports["gateway"]
    logs = stack.logs()
    trial.expect(not any(value in logs for value in values), "I8: an old secret is in a log")
    trial.note(
        f"{load.answers.total()} answers 2xx; every old value refused by both doors "
        f"{SEEN_SECONDS} s after its line was gone"
    )
    trial.conclude(load, bound)


def rotate(doors: Doors, trial: Trial, *, is_restarting: bool) -> None:
    """New values, an overlap, and its end; what only the old ones vouch for ends with it."""
    stack = doors.stack
    project = f"f32-{uuid7().hex}"
    used, unused = stack.key(project), stack.key(f"{project}-unused")
    old = receipt(stack, project)
    for name in ROTATED:
        begin_overlap(stack, name)
    trial.pause()
    if is_restarting:
        doors.restart(trial.chance.choice(list(doors.ports)))
    await_new_values_in_use(doors)
    new = receipt(stack, project)
    trial.expect(
        statuses(doors, used, old) == [200, 200], "an old receipt was refused in the overlap"
    )
    trial.expect(
        statuses(doors, used, new) == [200, 200], "a new receipt was refused in the overlap"
    )
    until(lambda: outdated(doors) == [1, 1], what="all keys in use have the new pepper")
    for name in ROTATED:
        end_overlap(stack, name)
    time.sleep(SEEN_SECONDS)
    trial.expect(statuses(doors, used, old) == [400, 400], "an old receipt outlived its key")
    trial.expect(statuses(doors, used, new) == [200, 200], "a new receipt was refused")
    trial.expect(statuses(doors, unused, new) == [401, 401], "an old key outlived its pepper")
    # What nobody uses any more would count as outdated from the next rotation on.
    stack.rows("DELETE FROM gateway.keys WHERE starts_with(project, %s)", project)


def receipt(stack: Stack, project: str) -> str:
    """Of an answer of a pinned model, signed as a process of ours would now."""
    one = Receipt(uuid7(), Project(project), None, None, "none")
    return one.sign(stack.secret("receipt_key").encode())


def begin_overlap(stack: Stack, name: str) -> None:
    """As SECURITY.md says: into the file, the new value before the old one."""
    file = stack.home.secrets / name
    file.write_text(f"{secrets.token_hex(32)}\n{file.read_text()}\n")


def end_overlap(stack: Stack, name: str) -> None:
    file = stack.home.secrets / name
    file.write_text(file.read_text().split()[0])


def await_new_values_in_use(doors: Doors) -> None:
    """The suite signs for the load; it has to stop using the old value before that may end."""
    stack = doors.stack

    def are_seen() -> bool:
        return all(
            stack.secret(name) == (stack.home.secrets / name).read_text().split()[0]
            for name in ROTATED
        )

    until(are_seen, what="the new values are in use")


def statuses(doors: Doors, key: str, inference_id: str) -> list[int]:
    """What each door answers to feedback."""
    body = {"inference_id": inference_id, "success": True}
    return [status_of(port, "/api/v1/feedback", key, body) for port in doors.ports.values()]


def outdated(doors: Doors) -> list[float]:
    return [metric(port, "gateway_keys_outdated") for port in doors.ports.values()]
