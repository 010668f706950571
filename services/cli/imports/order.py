"""What an import was ordered to do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from services.cli.errors import CommandFailed
from services.cli.imports.chats import load_bytes
from services.cli.imports.spending import Prices

_UNFIT_FOR_A_NAME = re.compile(r"[^a-z0-9_-]+")
_LONGEST_NAME = 48


@dataclass(frozen=True, slots=True)
class Order:
    """
    What stays the same from the first run of an import to its end.

    Attributes:
        name: Of the import and its folder.
        model: Id of the old model; empty where its answers say it.
        service: Where the old model answers; empty when it was logged.
        job: Of the old service, whose files are fetched; empty if none is named.
        files: Local files, by option: training_file, validation_file, prompts, answers,
            batch_input.
        base: The open base that is trained here.
        epochs: None lets the service here decide.
        seed: Of the sample and of the training.
        max_answer_tokens: Longest answer of the old model.
    """

    name: str
    model: str
    service: str
    job: str
    files: dict[str, Path]
    base: str
    epochs: int | None
    seed: int
    max_answer_tokens: int

    def as_facts(self) -> Mapping[str, object]:
        """For the journal; files with their content, as a hash."""
        numbers: dict[str, object] = {
            "model": self.model,
            "service": self.service,
            "job": self.job,
            "base": self.base,
            "epochs": self.epochs,
            "seed": self.seed,
            "max_answer_tokens": self.max_answer_tokens,
        }
        return numbers | {name: _described(path) for name, path in sorted(self.files.items())}


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What may be said otherwise from run to run.

    Attributes:
        cases: Most questions; fewer than were chosen are the first of them.
        prices: Of the old model, or None.
        budget: Most money for its answers, or None.
        machine_price: Money an hour for the machine here, or None.
        margin: By so much exact match may be worse.
        agreement: At least so much of the old answers has to be met where none is known as right.
    """

    cases: int
    prices: Prices | None
    budget: Decimal | None
    machine_price: Decimal | None
    margin: float
    agreement: float


def name_from(text: str) -> str:
    """A name of an import that resembles *text*, which may hold any character."""
    return _UNFIT_FOR_A_NAME.sub("-", text.lower())[:_LONGEST_NAME].strip("-_")


def check_name(name: str) -> None:
    """
    Raises:
        CommandFailed: It cannot be the name of a folder and of a model.
    """
    if not name or name != name_from(name):
        raise CommandFailed(
            f"'{name}' cannot be the name of an import. Use --name with 1 to {_LONGEST_NAME} "
            "characters out of a-z, 0-9, '-' and '_', the first and last a letter or digit."
        )


def root_of(base: str) -> str:
    """The base below a tuned model of ours, `ft:{base}:...`; a base is its own."""
    return base.split(":")[1] if base.startswith("ft:") else base


def check_url(url: str) -> None:
    """
    Raises:
        CommandFailed: It is no address, or has a secret, which would be written down.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        # What is written there instead may be a key.
        raise CommandFailed("--from-url has to be like https://host/v1, and what is given is not.")
    if parts.username or parts.password or parts.query:
        raise CommandFailed(
            "--from-url may have no user, password or query: it is shown in the report. Keys come "
            "from OPENAI_API_KEY or --from-key-file."
        )


def refuse_changes(before: Mapping[str, object], now: Mapping[str, object], name: str) -> None:
    """
    Raises:
        CommandFailed: The import was begun with another order; the message says what differs.
    """
    changed = [
        f"{_flag(option)} was {_shown(before.get(option))}, is {_shown(now.get(option))}"
        for option in sorted(before.keys() | now.keys())
        if before.get(option) != now.get(option)
    ]
    if changed:
        raise CommandFailed(
            f"The import '{name}' was begun otherwise: {'; '.join(changed)}. Repeat the first "
            "command to go on with it, or give this one another --name."
        )


def _described(path: Path) -> str:
    return f"{path.name} (sha256 {hashlib.sha256(load_bytes(path)).hexdigest()[:16]})"


def _flag(option: str) -> str:
    return "--from-url" if option == "service" else f"--{option.replace('_', '-')}"


def _shown(value: object) -> str:
    return "not given" if value in (None, "") else str(value)
