"""Runs one node on a worker: inputs in, value or result out, whatever happens inside.

A node that fails does not break the case. Broken media or a defect turns into `Failed`, which flows on; a check behind
it is `not_run`, a check that raises is `error`. What that means is for the policy to say (never "clear"). Not caught is
what a retry on another worker can mend (`MemoryError`, a lost worker).

Logs name the node and the exception's type alone: a message could quote the person's data.
"""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from collections.abc import Mapping
from typing import Any

from distributed import get_worker

from graphs.flow import NODES
from graphs.nodes import MODELS, Node
from graphs.records import CheckResult, Failed
from models.errors import MediaError
from workers.pool import models

logger = logging.getLogger(__name__)

CHECK_TOPIC = "veridask-checks"
"""Topic of `Client.subscribe_topic` on which each check says that it has ended: code and time, nothing personal."""


def run_node(name: str, case_id: str, constants: Mapping[str, Any], /, **inputs: Any) -> Any:
    """Run the node `name` of a case. Gives what its function gives, or Failed; a check always gives a CheckResult."""
    node = NODES[name]
    started = time.time()
    broken = next((value for value in inputs.values() if isinstance(value, Failed)), None)
    if broken is not None and not node.placed.takes_failed:
        value: Any = CheckResult(name=name, result="not_run") if node.placed.is_check else broken
    else:
        value = _call(node, constants, inputs)
    if node.placed.is_check:
        value = _stamp(value, started, case_id)
    return value


def _call(node: Node, constants: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    extra = {MODELS: models()} if node.wants_models else {}
    try:
        return node.function(**inputs, **constants, **extra)
    except MemoryError:
        raise
    except MediaError as error:
        return Failed(error.code, node.name, broken_media=True)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s failed with %s at %s:%s", node.name, type(error).__name__, where.name, where.lineno)
        if node.placed.is_check:
            return CheckResult(name=node.name, result="error", properties={"error": type(error).__name__})
        return Failed("internal_error", node.name, broken_media=False)


def _stamp(result: CheckResult, started: float, case_id: str) -> CheckResult:
    """Add time and place to a result, and say that it has ended to whoever listens."""
    duration = (time.time() - started) * 1000
    try:
        worker = get_worker()
    except ValueError:  # called in a notebook or a test, outside a cluster
        return dataclasses.replace(result, started_at=started, duration_ms=duration)
    result = dataclasses.replace(result, started_at=started, duration_ms=duration, worker=str(worker.name))
    event = {
        "case_id": case_id,
        "check": result.name,
        "result": result.result,
        "reasons": [reason.code for reason in result.reasons],
        "duration_ms": duration,
        "worker": result.worker,
        "started_at": started,
    }
    worker.log_event(CHECK_TOPIC, event)
    return result
