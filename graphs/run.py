"""Runs one node on a worker. It always gives a value or a result, even when the node fails.

A failing node does not break the case:

- A data node that raises gives `Failed`, which is passed on in place of its value.
- A check whose input is `Failed` gives `not_run`, unless it accepts failed inputs.
- A check that raises gives `error`.

The policy decides what this means for the case; it never counts as `clear`. Failures that a retry on another worker can
solve are not caught: MemoryError, and the loss of the worker.

Logs name the node and the type of the exception only, because its message could quote personal data.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from distributed import get_worker

from graphs import sandbox
from graphs.flow import NODES
from graphs.judge import named
from graphs.nodes import MODELS, Node
from graphs.profile import Policy, get_profile
from graphs.records import CaseSpec, CheckResult, Failed, TaskTime
from models.errors import MediaError
from workers.pool import models

logger = logging.getLogger(__name__)

NODE_SECONDS = 60.0
"""Time limit of one node, a hundred times what the slowest takes. A check that exceeds it is `error`; the case goes on.
"""
CHECK_TOPIC = "veridask-checks"
"""Topic for `Client.subscribe_topic`. Each check that ends publishes its result, reason codes and time there, and no
personal data.
"""
ON = "on"
"""Field with the worker's name in these events. The scheduler overwrites a field `worker` with an address."""
TASK_TOPIC = "veridask-tasks"
"""Topic on which every task that is not a check publishes the fields of `records.TaskTime` and the id of its case."""


def run_node(name: str, spec: CaseSpec, /, **inputs: Any) -> Any:
    """Run one node of a case and publish its end. Returns the function's value, or Failed; a check returns a result."""
    node = NODES[name]
    started = time.time()
    value = _value(node, spec, inputs, get_profile(spec.profile).policy)
    if node.placement.is_check:
        return _stamp(_named(value, node, spec), started, spec.case_id)
    _publish_time(name, started, spec.case_id)
    return value


def run_in_shadow(name: str, shadow: str, spec: CaseSpec, /, **inputs: Any) -> CheckResult:
    """Run the check `name` of a case under the policy of a shadow. Publishes nothing."""
    node = NODES[name]
    return _named(_value(node, spec, inputs, get_profile(spec.profile).shadows[shadow]), node, spec)


def _named(result: CheckResult, node: Node, spec: CaseSpec) -> CheckResult:
    """Add the check's name to its result. A reason that the check does not declare is a bug: the result is `error`."""
    declared = sandbox.POSSIBLE_REASONS[node.name] if get_profile(spec.profile).sandbox else node.placement.reasons
    if undeclared := {reason.code for reason in result.reasons} - declared.keys():
        logger.error("%s gave reasons that it does not declare: %s", node.name, ", ".join(sorted(undeclared)))
        result = CheckResult(name="", result="error", properties={"error": "UndeclaredReason"})
    return named(result, node.name)


def _value(node: Node, spec: CaseSpec, inputs: Mapping[str, Any], policy: Policy) -> Any:
    broken = next((value for value in inputs.values() if isinstance(value, Failed)), None)
    if node.placement.is_check and get_profile(spec.profile).sandbox:
        return _call(sandbox.marked(node, spec), spec, {}, policy)
    if broken is not None and not node.placement.accepts_failed:
        return CheckResult(name="", result="not_run") if node.placement.is_check else broken
    return _call(node, spec, inputs, policy)


def constants_of(node: Node, spec: CaseSpec, policy: Policy) -> dict[str, Any]:
    """The values of the parameters that a node gets from the case and its policy."""
    known: dict[str, Any] = {
        "thresholds": policy.checks[node.name].thresholds if node.name in policy.checks else {},
        "retakes": frozenset(code for code, effect in policy.effects.items() if effect == "retake"),
        "challenge": spec.challenge,
        "opened_on": spec.opened_on,
        "step": node.step,
    }
    return {name: known[name] for name in node.constants}


def _call(node: Node, spec: CaseSpec, inputs: Mapping[str, Any], policy: Policy) -> Any:
    extra = {MODELS: models()} if node.wants_models else {}
    try:
        return _with_timeout(node, {**inputs, **constants_of(node, spec, policy), **extra})
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, MediaError) and not node.placement.is_check:
            return Failed(error.code, node.name, broken_media=True)
        where = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s failed with %s at %s:%s", node.name, type(error).__name__, where.name, where.lineno)
        if node.placement.is_check:
            return CheckResult(name="", result="error", properties={"error": type(error).__name__})
        return Failed("internal_error", node.name, broken_media=False)


def _with_timeout(node: Node, arguments: Mapping[str, Any]) -> Any:
    """Call a node's function in its own thread, which costs 0.1 ms. Raises TimeoutError after NODE_SECONDS.

    Python cannot stop a thread. One that is stuck keeps its core, but it no longer blocks the worker's slot or the
    case.
    """
    answer: Future[Any] = Future()

    def call() -> None:
        try:
            answer.set_result(node.function(**arguments))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=call, name=node.name, daemon=True).start()
    return answer.result(NODE_SECONDS)


def _publish_time(name: str, started: float, case_id: str) -> None:
    """Publish when and where a task ran that is not a check."""
    try:
        worker = get_worker()
    except ValueError:
        return
    time_of = TaskTime(name, started, (time.time() - started) * 1000, str(worker.name))
    worker.log_event(TASK_TOPIC, {"case_id": case_id, ON: time_of.worker, **dataclasses.asdict(time_of)})


def _stamp(result: CheckResult, started: float, case_id: str) -> CheckResult:
    """Add time and worker to a result, and publish that the check has ended."""
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
        ON: result.worker,
        "started_at": started,
    }
    worker.log_event(CHECK_TOPIC, event)
    return result
