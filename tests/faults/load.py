"""One continuous load of accepted commands, and what became of each of them.

*Accepted* is what the product calls accepted: the sender's transaction was committed, or HTTP
answered 2xx. A sender whose commit had no answer does not know; it says so and goes on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.context import Context
from shared.errors import Unavailable
from shared.ids import Project, uuid7
from shared.receipts import Receipt
from shared.spine import leases
from tests.faults.holder import KIND as JOB
from tests.faults.probes import PhasedProbe, Probe
from tests.faults.stack import Stack
from tests.faults.watching import until

BASE = "smollm2-135m-instruct"
API_PATIENCE_SECONDS = 30.0
SUCCESS_SHARE = 0.9

# What a customer writes; it may be in Postgres and nowhere else.
CANARY = "canary-that-no-log-may-show"

# When each command had its effects: of probes in our ledger, of the API's in the product's tables.
_EFFECTS = """
    SELECT number, extract(epoch FROM at)::float8 FROM faults.effects
    UNION ALL
    SELECT comment, extract(epoch FROM created_at)::float8 FROM feedback.entries
    WHERE comment IS NOT NULL
"""


@dataclass(frozen=True)
class Rates:
    """Commands a second by kind; 0 sends none."""

    probes: float = 8.0
    phased: float = 2.0
    jobs: float = 0.7
    api: float = 2.0

    @property
    def total(self) -> float:
        return self.probes + self.phased + self.jobs + self.api


@dataclass(frozen=True)
class Command:
    """
    Attributes:
        number: Its id, the same in every ledger.
        accepted_at: Unix time when the sender knew it was accepted.
    """

    number: str
    kind: str
    project: str
    accepted_at: float


@dataclass(frozen=True)
class Exchange:
    """
    One HTTP request and its answer.

    Attributes:
        at: Unix time of the answer.
        seconds: How long it took.
        status: 0 is no answer at all.
        retry_after: The header.
    """

    at: float
    seconds: float
    status: int
    retry_after: str | None


@dataclass
class Load:
    """
    Senders of one module's projects.

    Attributes:
        accepted: By number.
        unknown: Numbers whose outcome the sender was not told.
        refused: Numbers the sender was told had no effect.
        answers: HTTP answers of the API by status; 0 is none at all.
        api_seconds: Unix time of each HTTP answer, and how many seconds it took.
        exchanges: The same, each with its status.
        cut_off: Attempts at a command that faults may have cut off.
    """

    stack: Stack
    projects: Sequence[str]
    rates: Rates
    seed: int
    hold_seconds: float = 0.05
    accepted: dict[str, Command] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    api_seconds: list[tuple[float, float]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    cut_off: int = 0
    _workloads: dict[str, str] = field(default_factory=dict)
    _broken: list[BaseException] = field(default_factory=list)
    _releases: dict[str, str] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        """Sends for the length of a block."""
        kinds: dict[str, Callable[[random.Random, str, str], None]] = {
            "probes": self.send_probe,
            "phased": self.send_phased,
            "jobs": self.send_job,
            "api": self.send_api,
        }
        for project in self.projects:
            self.stack.key(project)
            if self.rates.api:
                self._workloads[project] = self._made_workload(project)
                self._releases[project] = self._live_release(self._workloads[project])
        senders = [
            threading.Thread(target=self._send_on, args=(kind, rate, send), daemon=True)
            for kind, send in kinds.items()
            if (rate := getattr(self.rates, kind))
        ]
        for sender in senders:
            sender.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for sender in senders:
                sender.join(timeout=API_PATIENCE_SECONDS + 15)
                assert not sender.is_alive(), "a sender hangs"
            until(self._stop_schedules, what="the load's schedules end")
        if self._broken:
            raise self._broken[0]

    def _made_workload(self, project: str) -> str:
        made = self.ask(
            "/api/v1/workloads", {"name": "faults", "base_model": BASE}, str(uuid7()), project
        )
        assert made, "the workload of the load could not be made"
        return str(made["id"])

    def _live_release(self, workload: str) -> str:
        """The release that labels speak of, watched by the drift monitors."""
        watched = (
            "SELECT release_id FROM drift.monitors WHERE workload_id = %s AND state <> 'closed'"
        )
        ((release,), *_) = until(
            lambda: self.stack.rows(watched, workload), what="the first release is watched"
        )
        # Nobody asks the release for answers here, so two of three folds would find nothing.
        self.stack.rows(
            "DELETE FROM spine.schedules WHERE subject IN (SELECT monitor_id FROM drift.monitors "
            "WHERE workload_id = %s AND metric <> 'failure')",
            workload,
        )
        return str(release)

    def _stop_schedules(self) -> bool:
        """A stack that goes on does not fold for projects of the past."""
        self.stack.rows("DELETE FROM spine.schedules WHERE project = ANY(%s)", list(self.projects))
        return True

    def _send_on(
        self, kind: str, rate: float, send: Callable[[random.Random, str, str], None]
    ) -> None:
        chance = random.Random(f"{self.seed} {kind}")
        try:
            while not self._stopping.wait(chance.expovariate(rate)):
                send(chance, str(uuid7()), chance.choice(self.projects))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._broken.append(error)

    # Senders by kind.

    def send_probe(self, chance: random.Random, number: str, project: str) -> None:
        hold = chance.uniform(0, self.hold_seconds)
        self.emit("probe", project, Probe(number=number, hold_seconds=hold))

    def send_phased(self, chance: random.Random, number: str, project: str) -> None:
        hold = chance.uniform(0, 4 * self.hold_seconds)
        self.emit("phased", project, PhasedProbe(number=number, hold_seconds=hold))

    def emit(self, kind: str, project: str, message: Probe | PhasedProbe) -> None:
        """One message, in a transaction with its audit entry."""
        with self._outcome(kind, project, message.number):
            context = Context.root(Project(project), "faults")
            with self.stack.app.open(context) as uow:
                uow.audit("probe.accepted", message.number)
                uow.emit(message)

    def send_job(self, _chance: random.Random, number: str, project: str) -> None:
        with self._outcome("job", project, number):
            context = Context.root(Project(project), "faults")
            with self.stack.app.open(context) as uow:
                uow.audit("probe.accepted", number)
                leases.offer(uow, JOB, number)

    def send_api(self, chance: random.Random, number: str, project: str) -> None:
        """
        A correction over HTTP, asked for under one key until there is an answer.

        Each is an entry, an outcome for the drift monitors, and a message to `workloads`.
        """
        workload, release = self._workloads[project], self._releases[project]
        receipt = Receipt(UUID(number), Project(project), workload, release, "live")
        secret = self.stack.secret("receipt_key").encode()
        body = {
            "inference_id": receipt.sign(secret),
            "success": chance.random() < SUCCESS_SHARE,
            "correction": CANARY,
            "comment": number,
        }
        if self.ask("/api/v1/feedback", body, number, project) is None:
            self.unknown.add(number)
        else:
            self._accept("api", project, number)

    def ask(
        self, path: str, body: dict[str, object], number: str, project: str
    ) -> dict[str, object] | None:
        """POST until it is answered 2xx, under one idempotency key; None when that never comes."""
        deadline = time.monotonic() + API_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            status, answer = self._post(path, body, number, project)
            if status in (200, 201):
                return answer
            if 400 <= status < 500 and status not in (409, 429):
                raise AssertionError(f"the API refused a good request with {status}: {answer}")
            time.sleep(0.1)
        return None

    def _post(
        self, path: str, body: dict[str, object], number: str, project: str
    ) -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(
            f"{self.stack.gateway_url}{path}",
            data=json.dumps(body).encode(),
            headers={
                "authorization": f"Bearer {self.stack.key(project)}",
                "content-type": "application/json",
                "idempotency-key": number,
            },
        )
        began, answer, retry_after = time.time(), {}, None
        try:
            with urllib.request.urlopen(request, timeout=15) as response:
                status, answer = response.status, json.load(response)
        except urllib.error.HTTPError as error:
            status, retry_after = error.code, error.headers.get("retry-after")
            error.close()
        except (OSError, ValueError, http.client.HTTPException):
            status = 0
        at = time.time()
        with self._lock:
            self.answers[status] += 1
            self.api_seconds.append((at, at - began))
            self.exchanges.append(Exchange(at, at - began, status, retry_after))
        return status, answer

    @contextlib.contextmanager
    def _outcome(self, kind: str, project: str, number: str) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            is_unknown = error.code == "outcome_unknown"
            (self.unknown if is_unknown else self.refused).add(number)
            self._stopping.wait(0.1)
        else:
            self._accept(kind, project, number)

    def _accept(self, kind: str, project: str, number: str) -> None:
        with self._lock:
            self.accepted[number] = Command(number, kind, project, time.time())

    def burst(self, chance: random.Random, count: int) -> None:
        """Probes as fast as they can be sent: more than the workers keep up with."""
        for _ in range(count):
            self.send_probe(chance, str(uuid7()), chance.choice(self.projects))

    # What became of them.

    def unfit_answers(self, *, within_seconds: float) -> list[str]:
        """What contradicts: the API answers in time, and says with every 503 when to come back."""
        with self._lock:
            seen = list(self.exchanges)
        bare = sum(each.status == 503 and not each.retry_after for each in seen)
        slowest = max((each.seconds for each in seen), default=0.0)
        return [
            *([f"{bare} answers 503 had no Retry-After"] if bare else []),
            *([f"an answer took {slowest:.1f} s"] if slowest > within_seconds else []),
        ]

    def api_after(self, instant: float) -> float:
        """Seconds from a Unix time until the API first did what it was asked for."""
        with self._lock:
            done = [each.at for each in self.exchanges if each.status in (200, 201)]
        return min((at - instant for at in done if at > instant), default=float("inf"))

    def has_accepted(self, kind: str, after: float) -> bool:
        """Whether a command of a kind was accepted after a Unix time."""
        with self._lock:
            return any(c.kind == kind and c.accepted_at > after for c in self.accepted.values())

    def numbers_before(self, instant: float) -> set[str]:
        """Numbers accepted before a Unix time."""
        with self._lock:
            return {c.number for c in self.accepted.values() if c.accepted_at <= instant}

    def effects(self) -> dict[str, list[float]]:
        """Unix times of each number's effects."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for number, at in self.stack.rows(_EFFECTS):
            found[number].append(at)
        return dict(found)

    def dead(self) -> set[str]:
        """Numbers of commands that became dead letters."""
        return {
            row[0]
            for row in self.stack.rows(
                "SELECT envelope -> 'data' ->> 'number' FROM spine.dead_letters "
                "WHERE project = ANY(%s) AND envelope -> 'data' ? 'number'",
                list(self.projects),
            )
        }

    def count_outcomes(self) -> int:
        """Outcomes of this load's labels, of which each accepted one has one."""
        ((count,),) = self.stack.rows(
            "SELECT count(*) FROM feedback.outcomes WHERE project = ANY(%s)", list(self.projects)
        )
        return int(count)

    def await_done(self, numbers: set[str], *, seconds: float) -> float:
        """
        Wait until all *numbers* have an effect or are dead letters.

        Returns:
            Unix time at which that was seen.
        """
        dead: set[str] = set()

        def left() -> set[str]:
            done = {
                row[0]
                for row in self.stack.rows(
                    f"SELECT number FROM ({_EFFECTS}) AS e WHERE number = ANY(%s)", list(numbers)
                )
            }
            missing = numbers - done
            if missing:
                dead.update(self.dead())
            return missing - dead

        until(lambda: not left(), what="accepted commands take effect", seconds=seconds, pause=0.1)
        return time.time()

    def await_quiet(self, *, seconds: float) -> None:
        """Until nothing of ours is unfinished."""
        until(lambda: not self._unfinished(), what="all deliveries and leases end", seconds=seconds)

    def _unfinished(self) -> int:
        ((count,),) = self.stack.rows(
            "SELECT (SELECT count(*) FROM spine.deliveries WHERE project = ANY(%s)) + "
            "(SELECT count(*) FROM spine.leases WHERE project = ANY(%s))",
            list(self.projects),
            list(self.projects),
        )
        return int(count)
