"""Logs: one JSON line per event on standard error, with the ids of request and case, and without personal data.

The lines themselves are written where things happen, with structlog.
"""

from __future__ import annotations

import logging
import sys

import distributed
import structlog
from prometheus_client import Counter

TROUBLES = Counter(
    "veridask_troubles",
    "Log lines at warning level or above, by event; those of a library by its name.",
    ["level", "event"],
    registry=None,
)
"""Global to the process, as its log is. `service.observability.metrics` publishes it."""
_COUNTED = frozenset({"warning", "error", "critical"})


def _count(_logger: object, level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Count a line by its event. Events of veridask are literals; the text of a library may hold anything, so it is
    counted by its logger.
    """
    level = line.get("level", level)
    if level in _COUNTED:
        TROUBLES.labels(level, str(line["logger"]).split(".")[0] if "logger" in line else line["event"]).inc()
    return line


_LIBRARY_PROCESSORS: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.processors.add_log_level,
    _count,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure(level: str) -> None:
    """Send the events of structlog and of the standard library to standard error. level: such as `info`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _count,
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
            foreign_pre_chain=_LIBRARY_PROCESSORS,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))  # libraries log only warnings and errors
    logging.getLogger("workers").setLevel(number)  # part of this project, but without structlog
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] == distributed.__name__:  # it sets a handler and a level on its own loggers
            library = logging.getLogger(name)
            library.handlers, library.propagate = [], True
            library.setLevel(root.level)
