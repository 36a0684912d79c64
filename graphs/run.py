"""Runs one node on a worker: inputs in, value or result out, whatever happens inside.

A node that fails does not break the case. Broken media or a defect turns into `Failed`, which flows on; a check behind
it is `not_run`, a check that raises is `error`. What that means is for the policy to say (never "clear"). Not caught is
what a retry on another worker can mend (`MemoryError`, a lost worker).

Logs name the node and the exception's type alone: a message could quote the person's data.
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
from graphs.profile import Policy, profile
from graphs.records import CaseSpec, CheckResult, Failed, TaskTime
from models.errors import MediaError
from workers.pool import models

logger = logging.getLogger(__name__)

NODE_SECONDS = 60.0
"""Longest time for one node, a hundred times what the slowest takes. Past it a check is `error`; the case goes on."""
CHECK_TOPIC = "veridask-checks"
"""Topic of `Client.subscribe_topic` on which each check says that it has ended: code and time, nothing personal."""
ON = "on"
"""What names the worker in these events: the scheduler writes its address over a field `worker`."""
TASK_TOPIC = "veridask-tasks"
"""Topic on which each other task says so: the fields of `records.TaskTime`, and the case's id."""


def run_node(name: str, spec: CaseSpec, /, **inputs: Any) -> Any:
    """Run the node `name` of a case. Gives what its function gives, or Failed; a check always gives a CheckResult."""
    node = NODES[name]
    started = time.time()
    value = _value(node, spec, inputs, profile(spec.profile).policy)
    if node.placed.is_check:
        return _stamp(_named(value, node, spec), started, spec.case_id)
    _tell(name, started, spec.case_id)
    return value


def run_in_shadow(name: str, shadow: str, spec: CaseSpec, /, **inputs: Any) -> CheckResult:
    """Run the check `name` of a case as that shadow of its profile would. Nobody is told of it."""
    node = NODES[name]
    return _named(_value(node, spec, inputs, profile(spec.profile).shadows[shadow]), node, spec)


def _named(result: CheckResult, node: Node, spec: CaseSpec) -> CheckResult:
    """The result as that of its check. A reason that the check does not declare is a defect: the result is an error."""
    declared = sandbox.SAYS[node.name] if profile(spec.profile).sandbox else node.placed.reasons
    if undeclared := {reason.code for reason in result.reasons} - declared.keys():
        logger.error("%s gave reasons that it does not declare: %s", node.name, ", ".join(sorted(undeclared)))
        result = CheckResult(name="", result="error", properties={"error": "UndeclaredReason"})
    return named(result, node.name)


def _value(node: Node, spec: CaseSpec, inputs: Mapping[str, Any], policy: Policy) -> Any:
    broken = next((value for value in inputs.values() if isinstance(value, Failed)), None)
    if node.placed.is_check and profile(spec.profile).sandbox:
        return _call(sandbox.marked(node, spec), spec, {}, policy)
    if broken is not None and not node.placed.takes_failed:
        return CheckResult(name="", result="not_run") if node.placed.is_check else broken
    return _call(node, spec, inputs, policy)


def constants_of(node: Node, spec: CaseSpec, policy: Policy) -> dict[str, Any]:
    """What the case itself, and the policy that it is held to, give to the parameters of a node."""
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
        return _in_time(node, {**inputs, **constants_of(node, spec, policy), **extra})
    except MemoryError:
        raise
    except MediaError as error:
        return Failed(error.code, node.name, broken_media=True)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s failed with %s at %s:%s", node.name, type(error).__name__, where.name, where.lineno)
        if node.placed.is_check:
            return CheckResult(name="", result="error", properties={"error": type(error).__name__})
        return Failed("internal_error", node.name, broken_media=False)


def _in_time(node: Node, arguments: Mapping[str, Any]) -> Any:
    """Call a node's function in a thread of its own, which costs 0.1 ms. Raises TimeoutError when it takes too long.

    A thread cannot be ended from outside: one that is stuck keeps its core, but neither its slot nor its case.
    """
    answer: Future[Any] = Future()

    def call() -> None:
        try:
            answer.set_result(node.function(**arguments))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=call, name=node.name, daemon=True).start()
    return answer.result(NODE_SECONDS)


def _tell(name: str, started: float, case_id: str) -> None:
    """Say when and where a task that is no check ran."""
    try:
        worker = get_worker()
    except ValueError:
        return
    time_of = TaskTime(name, started, (time.time() - started) * 1000, str(worker.name))
    worker.log_event(TASK_TOPIC, {"case_id": case_id, ON: time_of.worker, **dataclasses.asdict(time_of)})


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
        ON: result.worker,
        "started_at": started,
    }
    worker.log_event(CHECK_TOPIC, event)
    return result
