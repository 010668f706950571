"""The plan of an import: cases, rows, calls, tokens and money, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from services.cli.imports.chats import Chat, load_bytes
from services.cli.imports.choosing import Choice, choose
from services.cli.imports.journal import Golden
from services.cli.imports.logged import Logged, read_batch_input, read_logged
from services.cli.imports.material import Material, gather, given_chats, one_format
from services.cli.imports.old_service import OldService
from services.cli.imports.order import Order, Terms, root_of
from services.cli.imports.spending import Prices, Tokens, at_worst, expected
from shared.errors import Invalid
from shared.rendering.bases import find_base
from shared.rendering.chat import render, text_of
from shared.rendering.tokenizer import encode
from shared.rendering.tools import functions_of


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Attributes:
        model: Id of the old model.
        old_base: What it was tuned from, if that is known.
        job: Of the old service, if it is known.
        choice: Cases and rows.
        goldens: What is known already, by the key of its case.
        notes: For people.
    """

    model: str
    old_base: str | None
    job: str | None
    choice: Choice
    goldens: Mapping[str, Golden]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    What the questions will take.

    Attributes:
        calls: Questions to the old model.
        expected, at_worst: Tokens, about and at most.
        money, most_money: The same at the prices; None without prices.
    """

    calls: int
    expected: Tokens
    at_worst: Tokens
    money: Decimal | None
    most_money: Decimal | None


def plan_from_service(order: Order, terms: Terms, old: OldService) -> Plan:
    """
    What an import of a model that still answers will do; nothing is asked of the model.

    Raises:
        CommandFailed: The files are not to be had or cannot be used.
    """
    material = gather(order, old)
    return _plan(order, terms, material, goldens={})


def plan_from_logs(order: Order, terms: Terms) -> Plan:
    """
    What an import from logged answers will do.

    Raises:
        CommandFailed: A file cannot be read or used.
    """
    logged = _read_logs(order)
    model = _answering(order.model, logged)
    material = Material(
        model=model,
        job=None,
        training=one_format(given_chats(order, "training_file")),
        validation=given_chats(order, "validation_file"),
        prompts=tuple(each.case for each in logged),
        notes=(),
    )
    plan = _plan(order, terms, material, {each.case.key: each.golden for each in logged})
    return replace(plan, choice=replace(plan.choice, origin="logged answers"))


def forecast(cases: Sequence[Chat], *, max_answer_tokens: int, prices: Prices | None) -> Forecast:
    """What asking *cases* will take."""
    about = expected(cases, max_answer_tokens=max_answer_tokens)
    most = Tokens(0, 0)
    for case in cases:
        most += at_worst(case, max_answer_tokens=max_answer_tokens)
    return Forecast(
        calls=len(cases),
        expected=about,
        at_worst=most,
        money=prices.of(about) if prices else None,
        most_money=prices.of(most) if prices else None,
    )


def _plan(order: Order, terms: Terms, material: Material, goldens: Mapping[str, Golden]) -> Plan:
    known = {chat.key: chat.answer for chat in (*material.training, *material.validation)}
    choice = choose(
        material.training,
        material.validation,
        [_with_reference(prompt, known) for prompt in material.prompts],
        count=terms.cases,
        seed=order.seed,
        fits=_reader(root_of(order.base)),
    )
    return Plan(
        model=material.model,
        old_base=material.job.model if material.job else None,
        job=material.job.id if material.job else None,
        choice=choice,
        goldens=goldens,
        notes=(*material.notes, *_remarks(material, choice)),
    )


def _read_logs(order: Order) -> list[Logged]:
    batch, answers = order.files.get("batch_input"), order.files["answers"]
    requests = read_batch_input(load_bytes(batch), str(batch)) if batch else {}
    return read_logged(load_bytes(answers), str(answers), requests)


def _answering(named: str, logged: Sequence[Logged]) -> str:
    """The model whose answers were logged."""
    said = next((each.model for each in logged if each.model), None)
    if named and said and named != said:
        raise CommandFailed(
            f"--model is {named}, and the logged answers are of {said}; give that one, or the "
            "answers of the other."
        )
    if not (named or said):
        raise CommandFailed("The logged answers do not say whose they are; name it with --model.")
    return named or said or ""


def _with_reference(case: Chat, known: Mapping[str, Json | None]) -> Chat:
    return case if case.answer else replace(case, answer=known.get(case.key))


def _reader(name: str) -> Callable[[Chat], bool]:
    """Whether a base reads a case: a check that costs nothing, where its weights are installed."""
    base = find_base(name)
    if base is None:
        return lambda case: _is_text(case.messages)

    def fits(case: Chat) -> bool:
        try:
            asked = render(
                base,
                case.messages,
                add_generation_prompt=True,
                functions=functions_of(case.tools),
            )
            answer = encode(base, text_of(case.answer)) if case.answer else []
        except Invalid:
            return False
        return len(asked.token_ids) + len(answer) < base.training_tokens

    return fits


def _is_text(messages: Iterable[Mapping[str, object]]) -> bool:
    try:
        for message in messages:
            text_of(message)
    except Invalid:
        return False
    return True


def _remarks(material: Material, choice: Choice) -> list[str]:
    found = []
    if material.job and material.job.model.startswith("ft:"):
        found.append(
            f"The old job went on from {material.job.model}; what that one had learned is not in "
            "the rows here. Import it first, and name its new model as --base."
        )
    if choice.unfit:
        found.append(
            f"{choice.unfit} rows are not asked about: the base here cannot read them whole."
        )
    if choice.left_out:
        found.append(
            f"{choice.left_out} training rows are not trained on: they are what is asked about."
        )
    return found
