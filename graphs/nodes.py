"""A node of the graph: a plain function, the label of the workers that may run it, and whether it judges something.

`@data(CPU)` and `@check(GPU)` stand above the functions in `document.py`, `front.py`, `back.py`, `face.py` and
`across.py`. The parameters of a function name what it needs: another node of the same step (`frames`), a node of
another step (`portrait_face_front`), the step's media (`upload`), one of the constants that `case.py` gives
(`thresholds`, `challenge`, `opened_on`, `retakes`, `step`) and the worker's `models`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from graphs.reasons import REASONS
from graphs.records import ResultKind
from workers.placement import Label

P = ParamSpec("P")
R = TypeVar("R")

CONSTANTS = frozenset({"thresholds", "challenge", "opened_on", "retakes", "step"})
MODELS = "models"


@dataclass(frozen=True)
class Placed:
    """How a function is placed. later: nobody waits for it, so it yields to all other work. reasons: the codes that a
    check can give, each with the result that comes with it.
    """

    label: Label
    is_check: bool
    takes_failed: bool
    later: bool
    reasons: Mapping[str, ResultKind]
    parameters: tuple[str, ...]


_placed: dict[Callable[..., Any], Placed] = {}


def _place(
    label: Label,
    *,
    is_check: bool,
    takes_failed: bool = False,
    later: bool = False,
    reasons: Mapping[str, ResultKind] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def remember(function: Callable[P, R]) -> Callable[P, R]:
        parameters = tuple(inspect.signature(function).parameters)
        _placed[function] = Placed(label, is_check, takes_failed, later, dict(reasons or {}), parameters)
        return function

    return remember


def data(label: Label, *, later: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function that makes what others need."""
    return _place(label, is_check=False, later=later)


def check(
    label: Label, *, reasons: Mapping[str, ResultKind], takes_failed: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function that judges.

    reasons: every reason code that it can give, with the result that comes with it; the runner refuses others, and the
    documentation, the sandbox and the validation of profiles read them here. takes_failed: it is also called when an
    input could not be made. Raises ValueError for a code that `graphs.reasons` does not have.
    """
    if unknown := reasons.keys() - REASONS.keys():
        raise ValueError(f"reason codes without a sentence in graphs.reasons: {', '.join(sorted(unknown))}")
    return _place(label, is_check=True, takes_failed=takes_failed, reasons=reasons)


def placed(function: Callable[..., Any]) -> Placed:
    """How that function is placed. Raises KeyError for a function without a mark."""
    return _placed[function]


@dataclass(frozen=True)
class Node:
    """A function in its place of the graph. name: `frames_front`, `match`; step: None for what joins steps.

    inputs: the node or upload that each parameter is filled from; constants: the parameters filled by the case.
    """

    name: str
    step: str | None
    function: Callable[..., Any]
    placed: Placed
    inputs: dict[str, str]
    constants: tuple[str, ...]
    wants_models: bool


def wire(stages: dict[str | None, tuple[Callable[..., Any], ...]]) -> dict[str, Node]:
    """Connect functions to nodes by the names of their parameters, in the order given.

    stages: functions by step; None for those that join steps. Raises ValueError for a parameter that nothing fills.
    """
    nodes: dict[str, Node] = {}
    for step, functions in stages.items():
        for function in functions:
            name = function.__name__ if step is None else f"{function.__name__}_{step}"
            how = placed(function)
            inputs = {p: _source(p, step, nodes) for p in how.parameters if p not in CONSTANTS and p != MODELS}
            constants = tuple(p for p in how.parameters if p in CONSTANTS)
            nodes[name] = Node(name, step, function, how, inputs, constants, MODELS in how.parameters)
    return nodes


def _source(parameter: str, step: str | None, nodes: dict[str, Node]) -> str:
    if parameter == "upload" and step is not None:
        return f"upload_{step}"
    for name in (f"{parameter}_{step}", parameter):
        if name in nodes:
            return name
    raise ValueError(f"nothing in the graph makes {parameter!r}")
