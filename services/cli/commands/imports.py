"""`perpetune import`: a fine-tune of another service, made anew here and compared with it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from infra.local.home import Home
from services.cli.connection import Connection
from services.cli.demo.demonstration import BASE_MODEL
from services.cli.errors import CommandFailed
from services.cli.imports import run as importing
from services.cli.imports.folder import Folder
from services.cli.imports.listing import COLUMNS, list_tuned
from services.cli.imports.old_service import OldService
from services.cli.imports.order import Order, Terms, check_name, check_url, name_from
from services.cli.imports.rehearsal import rehearse
from services.cli.imports.spending import Prices
from services.cli.output import AsJson, make_console, write_json, write_rows
from services.cli.screen import Screen

app = typer.Typer(
    no_args_is_help=True, help="Make a fine-tune of another service anew here, and compare."
)

_OPENAI = "https://api.openai.com/v1"
_KEY_VARIABLE = "OPENAI_API_KEY"
_KEY = re.compile(r"[!-~]+")
_SEED = 7
_INTERRUPTED = 130
# As many as an evaluation takes.
_MOST_CASES = 1000
# What they can prove at all, by the rule of three (decision 0022).
_LEAST_SHARE = 3 / _MOST_CASES


def _money(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise typer.BadParameter(f"'{text}' is no amount of money") from error
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"'{text}' is no amount of money")
    return amount


Name = Annotated[
    str | None, typer.Option(help="Of the import and its new model; by default like the old one's.")
]
Base = Annotated[str, typer.Option(help="What is trained here: a base, or a tuned model.")]
Epochs = Annotated[
    int | None, typer.Option(help="Of the training; decided by its rows by default.", min=1, max=50)
]
Cases = Annotated[int, typer.Option(help="Most questions to compare on.", min=1, max=_MOST_CASES)]
Seed = Annotated[int, typer.Option(help="Of the choice of cases and of the training.", min=0)]
TrainingFile = Annotated[Path | None, typer.Option(help="Rows to train on, instead of the job's.")]
ValidationFile = Annotated[
    Path | None, typer.Option(help="Rows to validate on and to ask about, with right answers.")
]
PriceInput = Annotated[
    Decimal | None,
    typer.Option(help="Of a million tokens the old model reads.", parser=_money, metavar="MONEY"),
]
PriceOutput = Annotated[
    Decimal | None,
    typer.Option(help="A million tokens written by the old model.", parser=_money, metavar="MONEY"),
]
MachinePrice = Annotated[
    Decimal | None,
    typer.Option(help="Of the machine here, an hour.", parser=_money, metavar="MONEY"),
]
Margin = Annotated[
    float,
    typer.Option(help="Exact match may be worse by so much, a share.", min=_LEAST_SHARE, max=1),
]
Agreement = Annotated[
    float,
    typer.Option(
        help="Share of old answers to be met where no right ones are known.",
        min=0,
        max=1 - _LEAST_SHARE,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")]


@app.command("openai")
def from_openai(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Id of the fine-tune; without it and --job they are listed.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Job that made it, instead of its id.")] = None,
    from_url: Annotated[
        str, typer.Option(help="Where the old model answers.", envvar="OPENAI_BASE_URL")
    ] = _OPENAI,
    from_key_file: Annotated[
        Path | None, typer.Option(help=f"File of its key; by default {_KEY_VARIABLE} has it.")
    ] = None,
    name: Name = None,
    base: Base = BASE_MODEL,
    training_file: TrainingFile = None,
    validation_file: ValidationFile = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Chats to ask about, with or without right answers.")
    ] = None,
    cases: Cases = 100,
    epochs: Epochs = None,
    seed: Seed = _SEED,
    max_answer_tokens: Annotated[
        int, typer.Option(help="Longest answer of the old model.", min=1, max=16_384)
    ] = 512,
    requests_per_minute: Annotated[
        float, typer.Option(help="To the old service.", min=0.1, max=6000)
    ] = 60,
    budget: Annotated[
        Decimal | None,
        typer.Option(help="Most money for old answers.", parser=_money, metavar="MONEY"),
    ] = None,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    machine_price: MachinePrice = None,
    margin: Margin = 0.05,
    agreement: Agreement = 0.8,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import a fine-tune that still answers: files, golden answers, training, parity report."""
    check_url(from_url)
    connection: Connection = ctx.obj
    screen = Screen(make_console(stderr=as_json))
    old = OldService(
        from_url,
        _key(from_key_file),
        per_minute=requests_per_minute,
        seconds=connection.seconds,
        on_wait=screen.say,
    )
    if model is None and job is None:
        _list(old, as_json=as_json)
        return
    order = Order(
        name=name or name_from(model or job or ""),
        model=model or "",
        service=from_url.rstrip("/"),
        job=job or "",
        files=_given(training_file=training_file, validation_file=validation_file, prompts=prompts),
        base=base,
        epochs=epochs,
        seed=seed,
        max_answer_tokens=max_answer_tokens,
    )
    prices = _prices(price_input, price_output)
    if budget is not None and prices is None:
        raise CommandFailed("A --budget needs the old model's --price-input and --price-output.")
    terms = Terms(
        cases=cases,
        prices=prices,
        budget=budget,
        machine_price=machine_price,
        margin=margin,
        agreement=agreement,
    )
    _carry_out(connection, screen, order, terms, old, dry_run=dry_run, as_json=as_json)


@app.command("jsonl")
def from_jsonl(
    ctx: typer.Context,
    training_file: Annotated[Path, typer.Option(help="Rows to train on.")],
    answers: Annotated[Path, typer.Option(help="Logged answers of the old model, as JSON lines.")],
    batch_input: Annotated[
        Path | None, typer.Option(help="Input of the batch whose output the answers are.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Id of the old model; by default the answers say it.")
    ] = None,
    name: Name = None,
    base: Base = BASE_MODEL,
    validation_file: ValidationFile = None,
    cases: Cases = 100,
    epochs: Epochs = None,
    seed: Seed = _SEED,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    machine_price: MachinePrice = None,
    margin: Margin = 0.05,
    agreement: Agreement = 0.8,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import a fine-tune that cannot be asked any more, from its files and logged answers."""
    order = Order(
        name=name or name_from(model or answers.stem),
        model=model or "",
        service="",
        job="",
        files=_given(
            training_file=training_file,
            validation_file=validation_file,
            answers=answers,
            batch_input=batch_input,
        ),
        base=base,
        epochs=epochs,
        seed=seed,
        max_answer_tokens=0,
    )
    terms = Terms(
        cases=cases,
        prices=_prices(price_input, price_output),
        budget=None,
        machine_price=machine_price,
        margin=margin,
        agreement=agreement,
    )
    screen = Screen(make_console(stderr=as_json))
    _carry_out(ctx.obj, screen, order, terms, None, dry_run=dry_run, as_json=as_json)


def _carry_out(
    connection: Connection,
    screen: Screen,
    order: Order,
    terms: Terms,
    old: OldService | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    check_name(order.name)
    folder = Folder(Home.at(connection.local.home).imports / order.name)
    with _kept(screen):
        if dry_run:
            plan = rehearse(order, terms, screen=screen, folder=folder, old=old)
            if as_json:
                write_json(plan)
            return
        facts, files = importing.run(
            order, terms, connection=connection, screen=screen, folder=folder, old=old
        )
    importing.show(screen, facts, files)
    if as_json:
        write_json(facts.model_dump(mode="json"))


@contextmanager
def _kept(screen: Screen) -> Iterator[None]:
    """An end from outside loses nothing, and says so."""
    try:
        yield
    except KeyboardInterrupt:
        screen.end("Interrupted; the same command goes on from here.", "bold")
        sys.exit(_INTERRUPTED)
    except OSError as error:
        raise CommandFailed(
            f"{error.filename or 'The disk'}: {error.strerror}; repeat the command when that is "
            "mended, it goes on from here."
        ) from error


def _list(old: OldService, *, as_json: bool) -> None:
    rows = list_tuned(old, Screen(make_console(stderr=True)))
    if not as_json:
        rows = [{name: _cell(value) for name, value in row.items()} for row in rows]
    write_rows(rows, COLUMNS, as_json=as_json, empty="No fine-tune was found there.")


def _cell(value: object) -> object:
    match value:
        case {"id": file_id, "is_there": is_there}:
            return f"{file_id} ({'there' if is_there else 'gone'})"
        case bool():
            return "yes" if value else "no"
        case _:
            return value


def _key(file: Path | None) -> str:
    if file is None:
        key = os.environ.get(_KEY_VARIABLE, "")
    else:
        try:
            key = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"The key file {file} cannot be read: {error}.") from error
    key = key.strip()
    if not key:
        raise CommandFailed(
            f"There is no key for the old service: set {_KEY_VARIABLE}, or name a file of it with "
            "--from-key-file."
        )
    # Any other cannot be a header, and the client would quote it.
    if not _KEY.fullmatch(key):
        raise CommandFailed(
            f"The key of the old service, in {file or _KEY_VARIABLE}, is not one run of printable "
            "ASCII without spaces; write the key alone there."
        )
    return key


def _given(**files: Path | None) -> dict[str, Path]:
    return {name: path for name, path in files.items() if path is not None}


def _prices(price_input: Decimal | None, price_output: Decimal | None) -> Prices | None:
    if price_input is None and price_output is None:
        return None
    if price_input is None or price_output is None:
        raise CommandFailed("Give both --price-input and --price-output, or none.")
    return Prices(price_input, price_output)
