"""
What the audit log costs: `python -m tests.bench.audit`, on a private Postgres that syncs to disk.

Ratios are of phases that take turns in one run, because absolute rates say more about the machine.
The exit status says whether an entry leaves enough, whether sealing does, and whether a million
entries are verified soon enough.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from pathlib import Path

from sqlalchemy import make_url, text

from infra import database
from infra.local import embedded
from shared.audit.checkpoint import Checkpoint
from shared.audit.export import checkpoint_line, entry_line, header_line
from shared.audit.note import Signer
from shared.audit.proof import prove
from shared.audit.sealing import Sealer
from shared.audit.tree import Edge, hash_leaf
from shared.audit.verification import verify_export
from shared.audit.witness import Witness
from shared.context import Context
from shared.contracts.evaluation import StartEvaluation
from shared.db import UnitOfWork, Units, make_engine
from shared.ids import Project, new_id
from shared.settings import CoreSettings

SIGNER = Signer("perpetune.bench", bytes(32))
CONTEXT = Context.root(Project("bench"), "key:bench")
FACTS = {"base_model": "smollm2-135m", "rows": 160, "suffix": "listings", "seed": 7}

# Of the writing that an entry leaves, and of that with entries what sealing leaves.
LEAST_WITH_ENTRY, LEAST_WHILE_SEALING = 0.7, 0.9
MOST_SECONDS_A_MILLION = 30.0

IDLE, PLAIN, WITH_ENTRY, STOP = range(4)
_PAUSE_SECONDS = 0.3


@dataclass
class Bench:
    """Writer processes that do what `mode` says and count what they commit."""

    mode: Synchronized[int]
    counts: SynchronizedArray[int]

    def rate(self, mode: int, seconds: float) -> float:
        """Transactions per second of all writers in one phase."""
        self.mode.value = mode
        time.sleep(_PAUSE_SECONDS)
        before, begun = sum(self.counts), time.perf_counter()
        time.sleep(seconds)
        after, ended = sum(self.counts), time.perf_counter()
        self.mode.value = IDLE
        time.sleep(_PAUSE_SECONDS)
        return (after - before) / (ended - begun)


def write(url: str, number: int, bench: Bench) -> None:
    """A writer: job and delivery, with or without an entry, one transaction after the other."""
    units = Units(make_engine(url, CoreSettings(), pool=1))
    while (mode := bench.mode.value) != STOP:
        if mode == IDLE:
            time.sleep(0.01)
            continue
        with units.open(CONTEXT) as uow:
            record_job(uow, with_entry=mode == WITH_ENTRY)
        bench.counts[number] += 1


def record_job(uow: UnitOfWork, *, with_entry: bool) -> None:
    job = new_id("ftjob-")
    uow.session.execute(
        text("INSERT INTO bench.jobs (id, project, request) VALUES (:id, :project, :request)"),
        {"id": job, "project": uow.project, "request": json.dumps(FACTS)},
    )
    uow.emit(
        StartEvaluation(cycle_id=job, workload_id="wl", model="m", baseline="b", digest="0" * 64)
    )
    if with_entry:
        uow.audit("job.created", job, reason="asked for by the owner", facts=FACTS)


class Sealing:
    """The chore of the delivery process, switched on and off."""

    def __init__(self, spine: Units, witness: Path) -> None:
        self._sealer = Sealer(spine, SIGNER, Witness(witness))
        self._is_on = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while self._is_on.wait():
            time.sleep(0.2 if self._sealer.seal_all() else 1.0)

    def drain(self) -> int:
        sealed = 0
        while more := self._sealer.seal_all():
            sealed += more
        return sealed

    def during(self, measure: Callable[[], float]) -> float:
        self._is_on.set()
        try:
            return measure()
        finally:
            self._is_on.clear()
            time.sleep(1.2)


def measure_writing(url: str, spine: Units, folder: Path, options: argparse.Namespace) -> bool:
    """Whether an entry, and sealing, leave as much of the writing as they have to."""
    processes = multiprocessing.get_context("fork")
    bench = Bench(processes.Value("i", IDLE), processes.Array("q", options.writers, lock=False))
    writers = [
        processes.Process(target=write, args=(url, number, bench), daemon=True)
        for number in range(options.writers)
    ]
    for writer in writers:
        writer.start()
    sealing = Sealing(spine, folder)
    plain, entry, sealed = list[float](), list[float](), list[float]()
    bench.rate(WITH_ENTRY, options.seconds)
    for _ in range(options.rounds):
        sealing.drain()
        plain.append(bench.rate(PLAIN, options.seconds))
        entry.append(bench.rate(WITH_ENTRY, options.seconds))
        sealing.drain()
        sealed.append(sealing.during(lambda: bench.rate(WITH_ENTRY, options.seconds)))
    bench.mode.value = STOP
    for writer in writers:
        writer.join()
    tell(f"job + delivery, {options.writers} writers", f"{statistics.median(plain):,.0f} tx/s")
    tell("the same + audit entry", f"{statistics.median(entry):,.0f} tx/s")
    left = tell_ratio("ratio: what an entry leaves", entry, plain)
    tell("the same while sealing", f"{statistics.median(sealed):,.0f} tx/s")
    left_by_sealing = tell_ratio("ratio: with and without sealing", sealed, entry)
    return left >= LEAST_WITH_ENTRY and left_by_sealing >= LEAST_WHILE_SEALING


def measure_sealing(spine: Units, owner: Units, folder: Path, entries: int) -> None:
    sealer = Sealer(spine, SIGNER, Witness(folder))
    while sealer.seal_all():
        pass
    with owner.open(CONTEXT) as uow:
        uow.session.execute(
            text("""
                INSERT INTO spine.audit_entries (id, project, actor, action, subject, reason,
                                                 facts, correlation_id, causation_id)
                SELECT gen_random_uuid(), 'bench', 'key:bench', 'job.created', 'ftjob-' || n,
                       'asked for by the owner', CAST(:facts AS jsonb), 'req_' || n, 'req_' || n
                FROM generate_series(1, :entries) AS n
            """),
            {"facts": json.dumps(FACTS), "entries": entries},
        )
    begun, sealed = time.perf_counter(), 0
    while more := sealer.seal_all():
        sealed += more
    tell("rows sealed", f"{sealed / (time.perf_counter() - begun):,.0f} rows/s")


def measure_verifying(folder: Path, entries: int) -> bool:
    """Whether it is as quick as it has to be."""
    file = folder / "export.jsonl"
    write_export(file, entries)
    begun = time.perf_counter()
    with file.open("rb") as lines:
        report = verify_export(lines, SIGNER.verifier)
    verifying = seconds = time.perf_counter() - begun
    if report.fault or report.size != entries:
        sys.exit(f"the export does not verify: {report}")
    tell("size of the export", f"{file.stat().st_size / 2**20:,.0f} MiB")
    tell(f"verify {entries:,} entries", f"{seconds:.1f} s, {entries / seconds:,.0f} entries/s")
    begun = time.perf_counter()
    with file.open("rb") as lines:
        proof = prove(lines, str(entries // 3))
    seconds = time.perf_counter() - begun
    proof.checked(SIGNER.verifier)
    tell("proof of one of them", f"{len(proof.path)} hashes, {len(str(proof)):,} bytes with entry")
    tell("time to make that proof", f"{seconds:.1f} s")
    return verifying / entries * 1_000_000 <= MOST_SECONDS_A_MILLION


def write_export(file: Path, entries: int) -> None:
    """What the command would write for so many entries and a checkpoint every 256."""
    edge, origin = Edge(), f"{SIGNER.verifier.name}/bench"
    with file.open("wb") as output:
        output.write(header_line(origin) + b"\n")
        for seq in range(entries):
            entry = {
                "action": "job.created",
                "actor": "key:bench",
                "at": "2026-11-22T23:13:33.123456Z",
                "causation_id": f"req_{seq:032x}",
                "commitments": {},
                "correlation_id": f"req_{seq:032x}",
                "facts": FACTS,
                "id": f"00000000-0000-7000-8000-{seq:012x}",
                "project": "bench",
                "reason": "asked for by the owner",
                "subject": f"ftjob-{seq:032x}",
            }
            line = entry_line(seq, "0" * 64, entry)
            leaf = hash_leaf(line[len(b'{"entry":') : line.rindex(b',"leaf":"')])
            edge.append(leaf)
            output.write(line.replace(b"0" * 64, leaf.hex().encode()) + b"\n")
            if edge.size % 256 == 0 or edge.size == entries:
                note = SIGNER.signed(Checkpoint(origin, edge.size, edge.root()).text)
                output.write(checkpoint_line(note) + b"\n")


def tell_ratio(what: str, numerators: list[float], denominators: list[float]) -> float:
    """The median over rounds, told with the range."""
    each = [above / below for above, below in zip(numerators, denominators, strict=True)]
    median = statistics.median(each)
    tell(what, f"{median:.2f} ({min(each):.2f} to {max(each):.2f})")
    return median


def tell(what: str, value: str) -> None:
    sys.stdout.write(f"{what:<40} {value}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a phase")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sealed", type=int, default=100_000, help="rows to seal")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries to verify")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="perpetune-") as temporary,
        embedded.private_postgres(is_durable=True) as server,
    ):
        folder = Path(temporary)
        owner_url = make_url(server.url).set(database="bench").render_as_string(False)
        database.prepare(owner_url, dict.fromkeys(database.ROLES, "bench"))
        owner = Units(make_engine(owner_url, CoreSettings(statement_timeout_milliseconds=60_000)))
        with owner.open(CONTEXT) as uow:
            for statement in (
                "CREATE SCHEMA bench",
                "CREATE TABLE bench.jobs (id text PRIMARY KEY, project text, request jsonb)",
                "GRANT ALL ON SCHEMA bench TO app",
                "GRANT ALL ON bench.jobs TO app",
            ):
                uow.session.execute(text(statement))
        url = as_role(owner_url, "app")
        spine = Units(make_engine(as_role(owner_url, "spine"), CoreSettings()))
        holds = not options.writers or measure_writing(url, spine, folder, options)
        if options.sealed:
            measure_sealing(spine, owner, folder, options.sealed)
        if options.entries:
            holds &= measure_verifying(folder, options.entries)
    return int(not holds)


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role, password="bench").render_as_string(hide_password=False)


if __name__ == "__main__":
    sys.exit(main())
