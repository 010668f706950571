"""
Messages outlive releases: what an older release stored, and what a newer one will send, is read.

`messages/` holds an envelope of every type as a release stored it, `schemas/` what each type
promised then. A change that breaks a promise is a new type, `<name>.v<N+1>`, beside the old one.
After adding a message or an optional field: `python -m tests.contract.test_stored_messages`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.catalogue import BY_TYPE
from shared.contracts.envelope import Envelope, Message

MESSAGES = Path(__file__).with_name("messages")
SCHEMAS = Path(__file__).with_name("schemas")

Schema = dict[str, Any]

# Test suites add messages of their own to the catalogue.
TYPES = {
    name: kind for name, kind in BY_TYPE.items() if kind.__module__.startswith("shared.contracts.")
}
of_every_type = pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)


def stored_envelopes() -> dict[str, dict[str, Any]]:
    """The stored envelope of each type."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(MESSAGES.glob("*.json"))}


def with_strangers(document: Any) -> Any:
    """The document with a field nobody knows in each of its objects, as a newer release sends."""
    if isinstance(document, list):
        return [with_strangers(item) for item in document]
    if not isinstance(document, dict):
        return document
    stranger = {"nested": [1, None, {"deep": "ünknown"}]}
    return {name: with_strangers(value) for name, value in document.items()} | {
        "from_the_future": stranger
    }


def schema_of(kind: type[Message]) -> Schema:
    return _bare(kind.model_json_schema())


def broken_promises(old: Schema, new: Schema) -> Iterator[str]:
    """Why a reader of *old* cannot read what *new* sends, or the other way round."""
    before, after = dict(_objects(old)), dict(_objects(new))
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            yield f"{name} is gone"
        elif "properties" not in was:
            if was != now:
                yield f"{name} was {was} and is {now}"
        else:
            yield from _broken_fields(name, was, now)


def _broken_fields(name: str, was: Schema, now: Schema) -> Iterator[str]:
    fields = now.get("properties", {})
    for field, meaning in was["properties"].items():
        if field not in fields:
            yield f"{name}.{field} is gone; an older reader may need it"
        elif fields[field] != meaning:
            yield f"{name}.{field} was {meaning} and is {fields[field]}"
    needed, still_needed = set(was.get("required", ())), set(now.get("required", ()))
    for field in sorted(still_needed - needed):
        yield f"{name}.{field} is needed now; an older sender does not send it"
    for field in sorted((needed - still_needed) & set(fields)):
        yield f"{name}.{field} is optional now; an older reader needs it"


def _objects(schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield "message", {name: value for name, value in schema.items() if name != "$defs"}
    yield from schema.get("$defs", {}).items()


def _bare(schema: Any) -> Any:
    """Without what is for people only."""
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {field: _bare(value) for field, value in inner.items()}
        if name in ("properties", "$defs")
        else _bare(inner)
        for name, inner in schema.items()
        if name not in ("title", "description")
    }


def test_every_type_is_stored_and_no_other():
    assert set(stored_envelopes()) == set(TYPES)
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(TYPES)


@of_every_type
def test_a_stored_message_says_what_it_said(kind):
    """Guarantee: nothing that an older release stored is read as something else."""
    stored = stored_envelopes()[kind.type]
    envelope = Envelope.read(stored)
    message = kind.read(envelope.data)
    assert json.loads(message.model_dump_json(include=set(stored["data"]))) == stored["data"]
    assert message.subject == stored["subject"]


@of_every_type
def test_a_message_with_unknown_fields_says_the_same(kind):
    """Guarantee: a field that a newer release adds does not disturb this one."""
    stored = stored_envelopes()[kind.type]
    newer = Envelope.read(with_strangers(stored))
    assert newer == Envelope.read(stored).model_copy(update={"data": newer.data})
    assert kind.read(newer.data) == kind.read(stored["data"])


@of_every_type
def test_a_message_without_its_optional_fields_is_read(kind):
    """Guarantee: a field that came later is not asked of older messages."""
    stored = stored_envelopes()[kind.type]
    optional = {name for name, field in kind.model_fields.items() if not field.is_required()}
    older = {name: value for name, value in stored["data"].items() if name not in optional}
    assert kind.read(older).subject == stored["subject"]


@of_every_type
def test_a_type_keeps_what_it_promised(kind):
    """Guarantee: a message means the same to the readers of two releases side by side."""
    stored = json.loads((SCHEMAS / f"{kind.type}.json").read_text())
    broken = list(broken_promises(stored, schema_of(kind)))
    assert not broken, f"{kind.type} needs a new version: {'; '.join(broken)}"
    assert stored == schema_of(kind), "store the new field: see the head of this module"


class _Item(Message):
    a: str
    b: int | None = None


class _Changed:
    """What `_Item` could become."""

    class Lost(Message):
        b: int | None = None

    class Retyped(Message):
        a: int
        b: int | None = None

    class Needed(Message):
        a: str
        b: int | None

    class Optional(Message):
        a: str = ""
        b: int | None = None

    class More(Message):
        a: str
        b: int | None = None
        c: str

    class MoreOptional(Message):
        a: str
        b: int | None = None
        c: str | None = None


@pytest.mark.parametrize(
    ("kind", "is_broken"),
    [
        (_Item, False),
        (_Changed.Lost, True),
        (_Changed.Retyped, True),
        (_Changed.Needed, True),
        (_Changed.Optional, True),
        (_Changed.More, True),
        (_Changed.MoreOptional, False),
    ],
)
def test_a_broken_promise_is_noticed(kind, is_broken):
    assert bool(list(broken_promises(schema_of(_Item), schema_of(kind)))) is is_broken


def store() -> None:
    """Write the schemas of today; a broken promise stays what it was."""
    SCHEMAS.mkdir(exist_ok=True)
    for kind in TYPES.values():
        file = SCHEMAS / f"{kind.type}.json"
        if file.exists() and list(broken_promises(json.loads(file.read_text()), schema_of(kind))):
            continue
        file.write_text(json.dumps(schema_of(kind), indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    store()
