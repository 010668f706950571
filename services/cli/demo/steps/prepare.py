"""Step 1: a workload, its data, and what the checks say about them."""

from __future__ import annotations

import itertools
from typing import Any

from services.cli.connection import Connection
from services.cli.demo.demonstration import BASE_MODEL, POLICY, WORKLOAD, Demonstration
from services.cli.demo.material import jsonl
from services.cli.demo.summary import StepRecord
from services.cli.following import checked_file

NAME = "data"
TITLE = "a workload and its data"


def run(demo: Demonstration, record: StepRecord) -> None:
    demo.workload = demo.summary.workload = _create_workload(demo.connection)
    demo.screen.say(f"workload {demo.workload}, answered by its base {BASE_MODEL} from now on")
    demo.screen.say(f"data: {demo.material.source}")
    parts = {
        "training": demo.material.training,
        "validation": demo.material.validation,
        "held_out": demo.material.held_out,
    }
    rows = []
    for name, cases in parts.items():
        uploaded = demo.connection.openai.files.create(
            file=(f"{name}.jsonl", jsonl(cases)), purpose="fine-tune"
        )
        demo.files[name] = uploaded.id
        report = checked_file(demo.connection, uploaded.id)
        rows.append((name, uploaded.id, str(len(cases)), report["gate"], _found(report)))
    demo.screen.table(("file", "id", "rows", "checks", "findings"), rows)
    record.facts["training_rows"] = len(demo.material.training)


def _create_workload(connection: Connection) -> str:
    taken = {row["name"] for row in connection.pages("workloads")}
    names = itertools.chain([WORKLOAD], (f"{WORKLOAD}-{n}" for n in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    connection.post("workloads", body={"name": name, "base_model": BASE_MODEL, "policy": POLICY})
    return name


def _found(report: dict[str, Any]) -> str:
    counts: dict[str, int] = report["counts"]
    return ", ".join(f"{count} x {rule}" for rule, count in counts.items()) or "none"
