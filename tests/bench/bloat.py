"""
What a million messages do to the table they go through: does claiming one stay as cheap?

`python -m tests.bench.bloat [--messages 1000000]`

Rows are emitted in bulk, marked in rounds as the ringer does, and taken one by one as workers do,
each in its own transaction, as fast as one process can and with a backlog ahead; autovacuum runs
as shipped. Every tenth part is a line: the median of a round (list_due and mark_rung) and of a
take, and what the table holds.
The first part warms up: an empty table has no dead entries to step over. The exit status says
whether the last part takes longer than the second, beyond noise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field

from sqlalchemy import make_url, text

from infra import database as databases
from infra.local import embedded
from services.delivery.domain import choose_fairly, share_out
from services.delivery.repository import deliveries as rows
from shared.broker import MOST_RUNG_TOGETHER
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.db import UnitOfWork, Units, make_engine
from shared.ids import Project
from shared.settings import CoreSettings
from shared.spine import deliveries
from tests.bench.bus_worker import QUEUE, SPINE_TASK, BenchCommand

PARTS = 10
# So many are due at most, and half as many at least.
BACKLOG = 2_000
WINDOW = 64
AGAIN_SECONDS = 30.0
PASSWORD = "perpetune-bench"
# A neighbour on the machine may cost so much; a table that is not kept clean costs more each part.
NOISE = 1.3

NOBODY = Context.root(Project(""), "bench")

# What `emit` inserts, of five projects, with a lane in every fourth row.
EMIT = text("""
    INSERT INTO spine.deliveries (id, project, queue, task, envelope, lane)
    SELECT uuidv7(), 'p' || n % 5, :queue, :task, CAST(:envelope AS jsonb),
           CASE WHEN n % 4 = 0 THEN 'lane' || n % 1009 END
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
""")
HOLDS = text("""
    SELECT s.n_dead_tup, s.autovacuum_count, pg_relation_size(s.relid), pg_indexes_size(s.relid)
    FROM pg_stat_all_tables AS s WHERE s.relid = CAST('spine.deliveries' AS regclass)
""")


@dataclass
class Part:
    """Seconds of every round and of every take in one part of the run."""

    rounds: list[float] = field(default_factory=list)
    takes: list[float] = field(default_factory=list)

    @property
    def round_ms(self) -> float:
        return statistics.median(self.rounds) * 1_000

    @property
    def take_ms(self) -> float:
        return statistics.median(self.takes) * 1_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    options = parser.parse_args()
    with embedded.private_postgres() as postgres:
        spine, app = prepared(postgres.url)
        emit(spine, 1, BACKLOG)
        print(
            f"{'messages':>9} {'round ms':>8} {'take ms':>8} {'dead rows':>9} {'vacuums':>7} "
            f"{'table MiB':>9} {'index MiB':>9}"
        )
        size = options.messages // PARTS
        parts = []
        for number in range(1, PARTS + 1):
            part = run_part(spine, app, size)
            parts.append(part)
            with spine.open(NOBODY) as uow:
                dead, vacuums, table, index = uow.session.execute(HOLDS).one()
            print(
                f"{number * size:>9} {part.round_ms:>8.3f} {part.take_ms:>8.3f} {dead:>9} "
                f"{vacuums:>7} {table / 2**20:>9.1f} {index / 2**20:>9.1f}",
                flush=True,
            )
    rounds, takes = (
        getattr(parts[-1], name) / getattr(parts[1], name) for name in ("round_ms", "take_ms")
    )
    print(f"last / second: round {rounds:.2f}, take {takes:.2f}; at most {NOISE} is noise")
    return int(max(rounds, takes) > NOISE)


def run_part(spine: Units, app: Units, messages: int) -> Part:
    """So many messages from emission to effect, with the backlog as it is."""
    part = Part()
    done = emitted = 0
    while done < messages:
        began = time.perf_counter()
        with spine.open(NOBODY) as uow:
            marked = mark(uow)
        part.rounds.append(time.perf_counter() - began)
        for due in marked:
            began = time.perf_counter()
            with app.open(NOBODY) as uow:
                taken = deliveries.claim(uow.session, due, (), AGAIN_SECONDS)
            part.takes.append(time.perf_counter() - began)
            assert taken, due
            assert taken.is_taken, due
        done += len(marked)
        if done - emitted >= BACKLOG // 2 or done >= messages:
            emit(spine, emitted, done - 1)
            emitted = done
    return part


def mark(uow: UnitOfWork) -> list[str]:
    """What one round of the ringer does in Postgres."""
    assert rows.is_ringer(uow.session)
    in_flight = rows.count_in_flight(uow.session, AGAIN_SECONDS)
    places = {QUEUE: WINDOW}
    due = rows.list_due(uow.session, places, again_seconds=AGAIN_SECONDS, attempts=8)
    chosen = choose_fairly(due, in_flight, places)
    messages = share_out(chosen, in_flight, {}, MOST_RUNG_TOGETHER)
    return [one.id for message in rows.mark_rung(uow.session, messages) for one in message]


def emit(spine: Units, first: int, last: int) -> None:
    with spine.open(NOBODY) as uow:
        envelope = Envelope.seal(BenchCommand(number="1"), NOBODY, uow.now).model_dump_json()
        uow.session.execute(
            EMIT,
            {
                "queue": QUEUE,
                "task": SPINE_TASK,
                "envelope": envelope,
                "first": first,
                "last": last,
            },
        )


def prepared(url: str) -> tuple[Units, Units]:
    """A migrated database on the server at *url*, as the ringer and as workers see it."""
    owner = make_url(url).set(database="bloat")
    address = owner.render_as_string(hide_password=False)
    databases.prepare(address, dict.fromkeys(databases.ROLES, PASSWORD))
    spine, app = (
        owner.set(username=role, password=PASSWORD).render_as_string(hide_password=False)
        for role in ("spine", "app")
    )
    settings = CoreSettings()
    return Units(make_engine(spine, settings)), Units(make_engine(app, settings))


if __name__ == "__main__":
    sys.exit(main())
