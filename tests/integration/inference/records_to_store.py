"""Records for the tests of spool and shipper."""

from __future__ import annotations

from typing import Any

from services.inference.records import Record
from shared.ids import uuid7


def make_record(**changes: Any) -> Record:
    request = uuid7().hex
    values: dict[str, Any] = {
        "project": "acme",
        "request": request,
        "inference_id": f"inf_{request}",
        "workload_id": "wl_1",
        "assigned_release": None,
        "arm": "none",
        "model": "m",
        "status": "ok",
        "error_code": None,
        "fallback": False,
        "cached": False,
        "latency_ms": 1.5,
        "input_tokens": 3,
        "output_tokens": 2,
        "unit_hash": "00",
        "door": "http",
    }
    return Record(**(values | changes))
