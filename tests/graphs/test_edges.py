"""Along every edge of the graph, the type that a node returns matches the parameter that receives it."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from graphs.flow import NODES
from graphs.nodes import CONSTANTS, MODELS, Node
from graphs.records import CheckResult, Failed, Step
from workers.pool import ModelPool

GIVEN: Mapping[str, Any] = {
    "thresholds": Mapping[str, float],
    "retakes": frozenset[str],
    "challenge": tuple[str, ...],
    "opened_on": date,
    "step": Step,
}
"""What the runner gives for the constants (`graphs.run.constants_of`)."""
EDGES = [(node, parameter, source) for node in NODES.values() for parameter, source in node.inputs.items()]


@cache
def names_in(module: ModuleType) -> dict[str, Any]:
    """The names in a module, including those imported only for type checkers."""
    found = dict(vars(module))
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(statement.body, []), module.__name__, "exec"), found)  # noqa: S102
    return found


def types_of(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function, names_in(sys.modules[function.__module__]))


def members(kind: Any) -> set[Any]:
    """The types of a union; a single type counts as a union of one."""
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


def given_by(source: str) -> set[Any]:
    """The types that an edge carries: bytes for an upload, otherwise the return type of the node's function."""
    return {bytes} if source.startswith("upload_") else members(types_of(NODES[source].function)["return"])


@pytest.mark.parametrize(("node", "parameter", "source"), EDGES, ids=[f"{s}-{n.name}" for n, _, s in EDGES])
def test_what_comes_along_an_edge_is_what_is_taken(node: Node, parameter: str, source: str) -> None:
    wanted = members(types_of(node.function)[parameter])
    expected = given_by(source) | ({Failed} if node.placement.accepts_failed else set())
    assert wanted == expected


@pytest.mark.parametrize("node", NODES.values(), ids=list(NODES))
def test_constants_and_models_have_the_types_that_the_runner_gives(node: Node) -> None:
    hints = types_of(node.function)
    assert {name: hints[name] for name in node.constants} == {name: GIVEN[name] for name in node.constants}
    assert not node.wants_models or hints[MODELS] is ModelPool
    assert set(GIVEN) == CONSTANTS


@pytest.mark.parametrize("node", NODES.values(), ids=list(NODES))
def test_checks_and_nothing_else_give_check_results(node: Node) -> None:
    assert (types_of(node.function)["return"] is CheckResult) == node.placement.is_check
