"""Logs: one JSON line per event on standard error, with the ids of request and case and nothing of a person."""

from __future__ import annotations

import logging
import sys

import distributed
import structlog
from prometheus_client import Counter

TROUBLES = Counter(
    "veridask_troubles",
    "Log lines of a warning or worse, by their event; those of a library by its name.",
    ["level", "event"],
    registry=None,
)
"""Of the whole process, as its log is; `service.observability.metrics` tells it."""
_COUNTED = frozenset({"warning", "error", "critical"})


def _counted(_logger: object, level: str, said: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Count a line. Events of ours are literals; what a library says may hold anything, and is left out."""
    level = said.get("level", level)
    if level in _COUNTED:
        TROUBLES.labels(level, str(said["logger"]).split(".")[0] if "logger" in said else said["event"]).inc()
    return said


_FOREIGN: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.processors.add_log_level,
    _counted,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure(level: str) -> None:
    """Send structlog's events and those of the standard library to standard error. level: such as `info`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _counted,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_FOREIGN,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))  # libraries speak only when something is wrong
    logging.getLogger("workers").setLevel(number)  # of this project, and without structlog
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] == distributed.__name__:  # it gives its loggers a handler and a level of their own
            library = logging.getLogger(name)
            library.handlers, library.propagate = [], True
            library.setLevel(root.level)
