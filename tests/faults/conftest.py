"""Fixtures of the fault suite: a warm stack, a trial, and the report at the end.

FAULTS=full runs every round; otherwise each fault is done once. FAULTS_SEED repeats a run.
FAULTS_REPORT names the file of the report.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.layout import SCALED, Layout
from tests.faults.report import Result
from tests.faults.stack import Stack
from tests.faults.starting import running
from tests.faults.trial import Trial

RESULTS = pytest.StashKey[list[Result]]()
SEED = pytest.StashKey[int]()
BEGAN = pytest.StashKey[float]()


def is_full() -> bool:
    return os.environ.get("FAULTS") == "full"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []
    config.stash[SEED] = int(
        os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6)
    )
    config.stash[BEGAN] = time.monotonic()
    # Told to stop, it ends as with Ctrl-C: what it started is ended before it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: {'full' if is_full() else 'short'}, FAULTS_SEED={config.stash[SEED]}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Equal layouts follow each other, in the order of the fault table; all get their time."""
    here = Path(__file__).parent
    found = [item for item in items if item.path.is_relative_to(here)]
    ours = found if is_full() else once_each(found, config.stash[SEED])
    if left_out := [item for item in found if item not in ours]:
        config.hook.pytest_deselected(items=left_out)
    for item in ours:
        item.add_marker(pytest.mark.alone)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))
    ours.sort(key=lambda item: (str(_layout(item)), item.path.name))
    items[:] = [item for item in items if item not in found] + ours


def once_each(found: list[pytest.Item], seed: int) -> list[pytest.Item]:
    """
    The short selection: one test of each fault, none of those that only all rounds can judge.

    Of several the seed chooses. Where one module alone was asked for, all of its tests.
    """
    if len({item.path for item in found}) < 2:
        return found
    chance = random.Random(seed)
    in_order = sorted(found, key=lambda item: (_fault(item), item.path, item.name))
    chosen = [chance.choice(list(group)) for _, group in itertools.groupby(in_order, key=_fault)]
    return [item for item in chosen if not item.get_closest_marker("all_rounds")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A trial that broke off is in the report as well; each is told as soon as it is over."""
    outcome = yield
    trial = getattr(item, "funcargs", {}).get("trial")
    results = item.config.stash[RESULTS]
    if outcome.failed and trial is not None:
        outcome.sections.append(("processes", trial.stack.last_words()))
        if not any((r.fault, r.title) == (trial.fault, trial.title) for r in results):
            reason = str(outcome.longrepr).strip().splitlines()[-1][:300]
            results.append(
                Result(trial.fault, trial.title, contradictions=(f"{outcome.when}: {reason}",))
            )
    if call.when == "call" and trial is not None and results:
        terminal = item.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(f"\n{results[-1].line}")
    return outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    results = session.config.stash[RESULTS]
    asked = {getattr(item, "module", None) for item in session.items}
    for fault in {getattr(module, "FAULT", None) for module in asked} - {None, "control"}:
        if not any(result.fault == fault and not result.is_control for result in results):
            results.append(Result(fault, "not done", contradictions=("no trial of it ended",)))
    target = os.environ.get("FAULTS_REPORT")
    if not results or not target:
        return
    page = report.render(
        results,
        seed=session.config.stash[SEED],
        seconds=time.monotonic() - session.config.stash[BEGAN],
        settings=SCALED,
        is_full=is_full(),
    )
    Path(target).write_text(page)
    report.save(results, Path("build") / f"{Path(target).stem.lower()}.jsonl")


class Stacks:
    """One at a time, but for its end; in the short selection the next module may take it over."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._layout: Layout | None = None
        self._stack: Stack | None = None

    def of(self, layout: Layout) -> Stack:
        if self._stack is None or self._layout != layout or is_full():
            # One that ends mostly waits for its processes, as does one that starts.
            with ThreadPoolExecutor() as aside:
                ending = aside.submit(self._open.pop_all().close)
                self._layout, self._stack = layout, self._open.enter_context(running(layout))
                ending.result()
        self._stack.await_ready()
        return self._stack

    def close(self) -> None:
        self._open.close()
        self._stack = None


@pytest.fixture(scope="session")
def stacks() -> Iterator[Stacks]:
    made = Stacks()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, stacks: Stacks) -> Stack:
    """The module's stack: its `LAYOUT`, or the usual one."""
    return stacks.of(getattr(request.module, "LAYOUT", Layout()))


@pytest.fixture
def trial(request: pytest.FixtureRequest, stack: Stack) -> Trial:
    """Of the module's `FAULT`; the title is the first line of the docstring, and the variant."""
    title = (request.function.__doc__ or request.node.name).strip().splitlines()[0].rstrip(".")
    if variant := getattr(request.node, "callspec", None):
        title = f"{title}, {variant.id}"
    config = request.config
    return Trial(
        fault=request.module.FAULT,
        title=title,
        stack=stack,
        seed=config.stash[SEED],
        is_full=is_full(),
        results=config.stash[RESULTS],
    )


def _fault(item: pytest.Item) -> str:
    return str(getattr(getattr(item, "module", None), "FAULT", item.path))


def _layout(item: pytest.Item) -> object:
    return getattr(getattr(item, "module", None), "LAYOUT", Layout())
