"""A node of the graph: a plain function, the label of the workers that may run it, and whether it is a check.

The functions in `document.py`, `front.py`, `back.py`, `face.py` and `across.py` are marked with `@data(CPU)` or
`@check(GPU)`. A function's parameters declare its inputs, by name:

- another node of the same step (`frames`) or of another step (`portrait_face_front`),
- the media of the step (`upload`),
- a constant of the case, filled in by `run.py` (`thresholds`, `challenge`, `opened_on`, `retakes`, `step`),
- the models of the worker (`models`).
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
class Placement:
    """Where and how a function runs.

    accepts_failed: the function is also called when an input is `Failed`. low_priority: nobody waits for its result, so
    all other work goes first. reasons: the reason codes that a check can give, each with the result it comes with.
    """

    label: Label
    is_check: bool
    accepts_failed: bool
    low_priority: bool
    reasons: Mapping[str, ResultKind]
    parameters: tuple[str, ...]


_placements: dict[Callable[..., Any], Placement] = {}


def _place(
    label: Label,
    *,
    is_check: bool,
    accepts_failed: bool = False,
    low_priority: bool = False,
    reasons: Mapping[str, ResultKind] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def remember(function: Callable[P, R]) -> Callable[P, R]:
        parameters = tuple(inspect.signature(function).parameters)
        _placements[function] = Placement(
            label, is_check, accepts_failed, low_priority, dict(reasons or {}), parameters
        )
        return function

    return remember


def data(label: Label, *, low_priority: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function that computes an input for other nodes. low_priority: all other work goes first."""
    return _place(label, is_check=False, low_priority=low_priority)


def check(
    label: Label, *, reasons: Mapping[str, ResultKind], accepts_failed: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a function that judges something and returns a CheckResult.

    reasons: every reason code that the function can give, with the result it comes with. The runner rejects any other
    code. The documentation, the sandbox and the validation of profiles read this declaration. accepts_failed: call the
    function also when an input is `Failed`. Raises ValueError for a code that is missing in `graphs.reasons`.
    """
    if unknown := reasons.keys() - REASONS.keys():
        raise ValueError(f"reason codes without a sentence in graphs.reasons: {', '.join(sorted(unknown))}")
    return _place(label, is_check=True, accepts_failed=accepts_failed, reasons=reasons)


def placement_of(function: Callable[..., Any]) -> Placement:
    """The placement of a function. Raises KeyError if it is marked with neither `@data` nor `@check`."""
    return _placements[function]


@dataclass(frozen=True)
class Node:
    """A function at its place in the graph.

    name: such as `frames_front` or `match`. step: None for a node that compares steps. inputs: for each parameter, the
    node or upload that fills it. constants: the parameters that `run.py` fills from the case and its policy.
    wants_models: whether the function takes the worker's models.
    """

    name: str
    step: str | None
    function: Callable[..., Any]
    placement: Placement
    inputs: dict[str, str]
    constants: tuple[str, ...]
    wants_models: bool


def wire(stages: dict[str | None, tuple[Callable[..., Any], ...]]) -> dict[str, Node]:
    """Connect functions to nodes by the names of their parameters, in the given order.

    stages: functions by step; the key None holds the functions that compare steps. Raises ValueError for a parameter
    that nothing fills.
    """
    nodes: dict[str, Node] = {}
    for step, functions in stages.items():
        for function in functions:
            name = function.__name__ if step is None else f"{function.__name__}_{step}"
            placement = placement_of(function)
            inputs = {p: _source(p, step, nodes) for p in placement.parameters if p not in CONSTANTS and p != MODELS}
            constants = tuple(p for p in placement.parameters if p in CONSTANTS)
            nodes[name] = Node(name, step, function, placement, inputs, constants, MODELS in placement.parameters)
    return nodes


def _source(parameter: str, step: str | None, nodes: dict[str, Node]) -> str:
    if parameter == "upload" and step is not None:
        return f"upload_{step}"
    for name in (f"{parameter}_{step}", parameter):
        if name in nodes:
            return name
    raise ValueError(f"nothing in the graph makes {parameter!r}")
