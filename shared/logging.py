"""structlog set-up: JSON unless a terminal, ids from the context, nothing private.

Event names are constants, everything else is a keyword. A value over 256 bytes is cut, what looks
like a key is masked, and of an error that is none of ours only type and place are told, so that a
prompt or a secret cannot reach a log by accident.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from shared.errors import PerpetuneError

_KEY = re.compile(r"(ppt_[a-z0-9]+_[0-9A-Za-z]{8,12})_[0-9A-Za-z]+|(sk-)[0-9A-Za-z_-]{8,}")
_MAX_VALUE_CHARACTERS = 256
# Tracebacks are long by nature and hold no locals (see `configure_logging`).
_MAY_BE_LONG = frozenset({"exception"})


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask key-shaped text and cut long values."""
    for name, value in event.items():
        if isinstance(value, str):
            masked = _KEY.sub(lambda found: f"{found[1] or found[2]}***", value)
            if len(masked) > _MAX_VALUE_CHARACTERS and name not in _MAY_BE_LONG:
                masked = masked[:_MAX_VALUE_CHARACTERS] + "..."
            event[name] = masked
    return event


def tell_error(exc_info: structlog.typing.ExcInfo) -> str:
    """
    The tracebacks of an error and of its causes, the first cause first.

    What an error says is told of our own and of the system's: others quote the value that they
    could not read, and a customer may have written it.
    """
    chain: list[BaseException] = []
    error: BaseException | None = exc_info[1]
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(_told(error) for error in reversed(chain))


def _told(error: BaseException) -> str:
    says = f": {error}" if isinstance(error, PerpetuneError | OSError) else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{frames}{type(error).__name__}{says}"


def configure_logging(process: str, level: str = "info") -> None:
    """
    Set up logging for this process; call once, before the first log line.

    Args:
        process: Name of the process, bound to every line.
        level: debug, info, warning or error.
    """
    numeric = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(tell_error),
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for the module *name*."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(module=name)
    return logger
