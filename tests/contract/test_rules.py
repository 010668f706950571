"""
Rules of the house that a machine can check, one function and one message each.

A line escapes with `# rule-skip: <name> because <reason>`, on it or on the line above.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
SKIP = re.compile(r"# rule-skip: (?P<name>[a-z_]+) because \S+")

# What a decision may rest on: pure parts of shared, all of them without effects.
PURE = (
    "shared.ids",
    "shared.errors",
    "shared.contracts",
    "shared.cursor",
    "shared.scopes",
    "shared.statistics",
    "shared.assignment",
    "shared.jsonl",
    "shared.metadata",
    "shared.rendering.preferences",
    "shared.rendering.tools",
)
SQL = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s*\()"
)


@dataclass(frozen=True)
class Source:
    """
    One Python file.

    Attributes:
        path: Relative to the repository.
        text: Its source.
    """

    path: PurePosixPath
    text: str

    @property
    def room(self) -> str | None:
        parts = self.path.parts
        return parts[1] if parts[0] == "services" and len(parts) > 2 else None

    @property
    def is_domain(self) -> bool:
        return self.is_role("domain")

    def is_role(self, role: str) -> bool:
        """Whether the file is a `<role>.py` of its room or lies in a folder of that name."""
        if self.room is None:
            return False
        *folders, name = self.path.parts[2:]
        return role in folders or name == f"{role}.py"

    def is_below(self, *folders: str) -> bool:
        return any(self.path.is_relative_to(folder) for folder in folders)

    def nodes(self) -> Iterator[ast.AST]:
        yield from ast.walk(ast.parse(self.text))


Rule = Callable[[Source], Iterator[ast.AST]]
RULES: dict[str, tuple[str, Rule]] = {}


def rule(message: str) -> Callable[[Rule], Rule]:
    def register(check: Rule) -> Rule:
        RULES[check.__name__] = (message, check)
        return check

    return register


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every imported module; `from a import b` counts as `a.b`, for b may be a module."""
    for node in source.nodes():
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Every call with its dotted name as far as it is written out, for example `time.sleep`."""
    for node in source.nodes():
        if isinstance(node, ast.Call):
            parts: list[str] = []
            target = node.func
            while isinstance(target, ast.Attribute):
                parts.append(target.attr)
                target = target.value
            parts.append(target.id if isinstance(target, ast.Name) else "")
            yield node, ".".join(reversed(parts))


def is_within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@rule("Rooms talk by messages, feeds and HTTP; only the gateway imports services.<room>.api.")
def no_foreign_room(source: Source) -> Iterator[ast.AST]:
    for node, module in imports(source):
        parts = module.split(".")
        if parts[0] != "services" or len(parts) < 2 or parts[1] == source.room:
            continue
        if source.room != "gateway" or parts[2:3] != ["api"]:
            yield node


@rule("Decisions import the standard library and the pure parts of shared, nothing else.")
def pure_domain(source: Source) -> Iterator[ast.AST]:
    if not source.is_domain:
        return
    parts = source.path.with_suffix("").parts
    own = ".".join(parts[: parts.index("domain") + 1])
    for node, module in imports(source):
        if module.split(".")[0] not in sys.stdlib_module_names and not is_within(
            module, own, *PURE
        ):
            yield node


@rule("The boundary in shared commits; use cases and repositories never do.")
def no_commit(source: Source) -> Iterator[ast.AST]:
    if not source.is_below("shared", "infra/migrations"):
        yield from (node for node, name in calls(source) if name.endswith(".commit"))


@rule("Only services/delivery publishes; everybody else emits a delivery row.")
def no_publishing(source: Source) -> Iterator[ast.AST]:
    if not source.is_below("services/delivery"):
        for node, name in calls(source):
            if name.rpartition(".")[2] in {"apply_async", "delay", "send_task"}:
                yield node


@rule("An error is handled by its class; all errors are caught in boundaries only.")
def no_broad_except(source: Source) -> Iterator[ast.AST]:
    # Where a task, an HTTP request, a message of the queue door and a line of a batch come in.
    if str(source.path) in {
        "shared/attempt.py",
        "shared/http.py",
        "services/inference/door/door.py",
        "services/inference/batches/asking.py",
    }:
        return
    for node in source.nodes():
        if isinstance(node, ast.ExceptHandler) and catches_everything(node):
            # Cleaning up and raising again swallows nothing.
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                yield node


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"})
        for kind in caught
    )


@rule("torch is heavy: only training and scoring import it.")
def no_torch(source: Source) -> Iterator[ast.AST]:
    if not source.is_below("services/finetuning/train", "services/serving/scoring"):
        yield from (node for node, module in imports(source) if is_within(module, "torch"))


@rule("A decision is given the time and the ids it needs, so that it can be repeated.")
def no_clock_in_domain(source: Source) -> Iterator[ast.AST]:
    if source.is_domain:
        forbidden = {"datetime.now", "datetime.utcnow", "date.today", "time.time", "uuid4", "uuid7"}
        for node, name in calls(source):
            if any(name == call or name.endswith(f".{call}") for call in forbidden):
                yield node


@rule("Eager tasks have other semantics for retries and transactions; start a real worker.")
def no_eager_tasks(source: Source) -> Iterator[ast.AST]:
    for node in source.nodes():
        named = (
            (isinstance(node, ast.keyword) and node.arg)
            or (isinstance(node, ast.Attribute) and node.attr)
            or (isinstance(node, ast.Constant) and node.value)
        )
        if named == "task_always_eager":
            yield node


@rule("A use case does not wait; being due later is a property of a row.")
def no_sleep(source: Source) -> Iterator[ast.AST]:
    if source.is_domain or source.is_role("service"):
        yield from (node for node, name in calls(source) if name in {"time.sleep", "sleep"})


@rule("SQL is written in repository.py, models.py, migrations and shared.")
def no_stray_sql(source: Source) -> Iterator[ast.AST]:
    if source.is_role("repository") or source.is_role("models"):
        return
    if source.is_below("shared", "infra/migrations", "infra/database.py"):
        return
    for node in source.nodes():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield node


def violations(source: Source) -> Iterator[str]:
    lines = source.text.splitlines()
    for name, (message, check) in RULES.items():
        for node in check(source):
            if name not in skips_at(lines, node.lineno):
                yield f"{source.path}:{node.lineno}: {name}: {message}"


def skips_at(lines: list[str], number: int) -> set[str]:
    """Names of the rules skipped on line *number* or on the line above, counted from 1."""
    around = lines[max(0, number - 2) : number]
    return {found["name"] for line in around for found in SKIP.finditer(line)}


def sources() -> list[Source]:
    files = [
        file
        for top in ("services", "shared", "infra")
        for file in sorted((ROOT / top).rglob("*.py"))
    ]
    return [Source(PurePosixPath(file.relative_to(ROOT)), file.read_text()) for file in files]


def test_code_keeps_the_rules():
    found = [line for source in sources() for line in violations(source)]
    assert not found, "\n" + "\n".join(found)


def test_skips_name_a_rule_and_a_reason():
    for source in sources():
        for number, line in enumerate(source.text.splitlines(), start=1):
            if "rule-skip" in line:
                found = SKIP.search(line)
                assert found, (
                    f"{source.path}:{number}: write `# rule-skip: <name> because <reason>`"
                )
                assert found["name"] in RULES, f"{source.path}:{number}: no such rule"


# Without these a rule that never fires would look like a rule that is kept.
BROKEN = {
    "no_foreign_room": [
        ("services/drift/service.py", "from services.releases import domain"),
        ("services/gateway/app.py", "from services.drift.service import fold"),
        ("services/cli/main.py", "import services.drift.api"),
        ("shared/task.py", "from services.drift import tasks"),
    ],
    "pure_domain": [
        ("services/drift/domain.py", "import numpy"),
        ("services/releases/domain/canary.py", "from shared.db import Units"),
        ("services/inference/batches/domain/states.py", "from shared.db import Units"),
        ("services/releases/domain/canary.py", "from services.releases import repository"),
    ],
    "no_commit": [("services/drift/repository.py", "session.commit()")],
    "no_publishing": [
        ("services/drift/service.py", "fold.apply_async(())"),
        ("services/drift/service.py", "fold.delay()"),
        ("shared/spine/deliveries.py", "make_celery(x).send_task('drift.fold')"),
    ],
    "no_broad_except": [
        ("services/drift/tasks.py", "try:\n    f()\nexcept Exception:\n    pass"),
        ("services/drift/tasks.py", "try:\n    f()\nexcept (OSError, Exception) as e:\n    g(e)"),
        ("services/drift/tasks.py", "try:\n    f()\nexcept:\n    pass"),
    ],
    "no_torch": [
        ("services/serving/child.py", "def f():\n    import torch"),
        ("shared/statistics/odds.py", "from torch import nn"),
    ],
    "no_clock_in_domain": [
        ("services/drift/domain.py", "x = datetime.now(UTC)"),
        ("services/drift/domain.py", "x = uuid.uuid4()"),
    ],
    "no_eager_tasks": [
        ("shared/broker.py", "app.conf.task_always_eager = True"),
        ("shared/broker.py", "app.conf.update(task_always_eager=True)"),
        ("shared/broker.py", "settings = {'task_always_eager': True}"),
    ],
    "no_sleep": [("services/drift/service.py", "time.sleep(1)")],
    "no_stray_sql": [("services/drift/service.py", "run('SELECT 1 FROM drift.monitors')")],
}


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [(name, path, text) for name, cases in BROKEN.items() for path, text in cases],
)
def test_rule_notices_what_it_forbids(name, path, text):
    found = list(violations(Source(PurePosixPath(path), text)))
    assert [line for line in found if f": {name}: " in line]


def test_every_rule_is_shown_to_fire():
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("services/gateway/app.py", "from services.drift.api import router"),
        ("services/drift/service.py", "from services.drift import repository"),
        ("services/drift/domain.py", "from shared.statistics.intervals import wilson"),
        ("services/finetuning/train/loss.py", "import torch"),
        ("services/drift/repository.py", "run('SELECT 1 FROM drift.monitors')"),
        ("shared/db.py", "session.commit()"),
        ("services/drift/tasks.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
        ("services/x/service.py", "time.sleep(1)  # rule-skip: no_sleep because it is an example"),
        ("services/x/service.py", "# rule-skip: no_sleep because example\ntime.sleep(1)"),
    ],
)
def test_rules_allow_what_is_allowed(path, text):
    assert not list(violations(Source(PurePosixPath(path), text)))


def test_skip_without_a_reason_skips_nothing():
    text = "time.sleep(1)  # rule-skip: no_sleep because "
    assert list(violations(Source(PurePosixPath("services/x/service.py"), text)))
