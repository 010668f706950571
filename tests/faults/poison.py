"""Strings that no ringer of ours sends, by what is wrong with them."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from shared.broker import make_celery
from shared.ids import uuid7
from tests.faults.stack import Stack

TEN_MIB = 10 * 1024 * 1024
FAR_FUTURE = "2126-01-01T00:00:00+00:00"
# More than a worker may hold of messages for later.
MANY = 120

Ringing = dict[str, Any]

RAW: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"garbage{",
    "no UTF-8": b"\xff\xfe\x00{",
    "null bytes": b"\x00" * 64,
    "nested without end": b"[" * 100_000,
    "nested deeply": b"[" * 900 + b"]" * 900,
    "a number of 5,000 digits": b"9" * 5_000,
    "no number": b"NaN",
    "a list": b'[{"body": 1}]',
    "a string": b'"text"',
    "null": b"null",
    "an empty object": b"{}",
    "10 MiB of text": b"x" * TEN_MIB,
    "10 MiB of JSON": json.dumps(["x" * 1000] * (TEN_MIB // 1000)).encode(),
}

# Each gets a true ringing of a delivery that does not exist, and spoils it.
SPOILERS: dict[str, Callable[[Ringing], object]] = {
    "nothing but an unknown delivery": lambda r: r,
    "an id that is none": lambda r: _args(r, ["no-uuid"]),
    "an id with a null byte": lambda r: _args(r, ["\x00"]),
    "an id with half a character": lambda r: _args(r, ["\ud800"]),
    "no id": lambda r: _args(r, []),
    "an object for an id": lambda r: _args(r, [{}]),
    "arguments by name": lambda r: _body(r, [[str(uuid7())], {"other": 1}, {}]),
    "a body of another shape": lambda r: _body(r, {"task": "drift.probe"}),
    "a body that is no base64": lambda r: r.update(body="?"),
    "no body": lambda r: r.pop("body"),
    "pickle": lambda r: r.update({"content-type": "application/x-python-serialize"}),
    "another encoding": lambda r: r.update({"content-encoding": "utf-16"}),
    "an encoding that does not exist": lambda r: r.update({"content-encoding": "no-such"}),
    "compression": lambda r: r["headers"].update(compression="application/x-gzip"),
    "an unknown task": lambda r: r["headers"].update(task="drift.no_such_task"),
    "a task of Celery's own": lambda r: r["headers"].update(task="celery.accumulate"),
    "no headers": lambda r: r.update(headers=None),
    "headers of other types": lambda r: r["headers"].update(
        argsrepr=[1], kwargsrepr={}, origin=5, root_id=[], parent_id={}, group=1, retries="x"
    ),
    "a header of 10 MiB": lambda r: r["headers"].update(argsrepr="x" * TEN_MIB),
    "stamps of another shape": lambda r: r["headers"].update(stamped_headers=5, stamps=[1]),
    "time limits that are none": lambda r: r["headers"].update(timelimit=["a", {}]),
    "a time that is none": lambda r: r["headers"].update(eta="yesterday"),
    "an expiry that is none": lambda r: r["headers"].update(expires="never"),
    "an expiry long ago": lambda r: r["headers"].update(expires="2001-01-01T00:00:00+00:00"),
    "no delivery tag": lambda r: r["properties"].pop("delivery_tag"),
    "a priority that is none": lambda r: r["properties"].update(priority="high"),
    "an exchange that is none": lambda r: r["properties"].update(delivery_info={"exchange": 1}),
    "calls back": lambda r: _body(
        r, [[str(uuid7())], {}, {"callbacks": [{"task": "x"}], "chord": 1, "chain": "x"}]
    ),
}

KINDS = (*RAW, *SPOILERS, "a far future, many times")


def poison(stack: Stack, kind: str) -> Iterator[bytes]:
    """One string of a kind, or several where one does no harm."""
    if kind in RAW:
        yield RAW[kind]
    elif kind in SPOILERS:
        ringing = a_ringing(stack)
        SPOILERS[kind](ringing)
        yield json.dumps(ringing).encode()
    else:
        model = a_ringing(stack)
        for _ in range(MANY):
            ringing = copy.deepcopy(model)
            ringing["headers"].update(eta=FAR_FUTURE, id=str(uuid7()))
            ringing["properties"]["delivery_tag"] = str(uuid7())
            yield json.dumps(ringing).encode()


def a_ringing(stack: Stack) -> Ringing:
    """As our Celery publishes it, of a delivery that does not exist."""
    prefix = "perpetune:poison:"
    celery = make_celery(stack.settings.model_copy(update={"broker_prefix": prefix}))
    with celery:
        celery.send_task("drift.probe", args=[str(uuid7())], queue="drift")
    ringing: Ringing = json.loads(stack.bus.rpop(f"{prefix}drift"))
    return ringing


def _args(ringing: Ringing, args: list[Any]) -> None:
    _body(ringing, [args, {}, {}])


def _body(ringing: Ringing, content: object) -> None:
    ringing["body"] = base64.b64encode(json.dumps(content).encode()).decode()
