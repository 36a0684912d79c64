"""The graph of a case without a cluster: wiring, keys, and what happens when a node fails."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import date

import pytest

from graphs import run
from graphs.case import build, node_key, upload_key
from graphs.flow import NODES, steps_of
from graphs.judge import judged
from graphs.nodes import check, placement_of, wire
from graphs.records import CaseSpec, CheckResult, Failed
from graphs.run import run_node
from models.errors import UndecodableMediaError
from workers.placement import CPU, GPU, LABELS, UPLOAD_RESOURCE

SPEC = CaseSpec("case_01", "standard", {"front": 1, "back": 1, "face": 1}, ("turn_left",), date(2026, 11, 22))


def test_every_task_has_exactly_one_resource() -> None:
    """A task without a label could run on any worker; one with both labels would never run."""
    graph = build(SPEC)
    seen: set[str] = set()
    for layer in graph.layers.values():
        resources = (layer.annotations or {})["resources"]
        assert list(resources.values()) == [1]
        assert set(resources) <= {*LABELS, UPLOAD_RESOURCE}
        keys = {str(key) for key in layer.keys()}  # noqa: SIM118  a layer is typed as no iterable
        assert not seen & keys
        seen |= keys
    assert {upload_key("case_01", step, 1) for step in SPEC.attempts} <= seen


def test_networks_over_faces_and_nothing_else_run_on_the_gpu_label() -> None:
    assert {name for name, node in NODES.items() if node.placement.label == GPU} == {
        "portrait_face_front",
        "faces_early_face",
        "faces_late_face",
    }


def test_a_retake_changes_exactly_the_keys_that_depend_on_it() -> None:
    again = replace(SPEC, attempts={"front": 1, "back": 2, "face": 1})
    before, after = set(build(SPEC).to_dict()), set(build(again).to_dict())
    for name in NODES:
        same = "back" not in steps_of(name)
        assert (node_key(name, SPEC) == node_key(name, again)) == same, name
    assert "verdict-case_01-front1.back2.face1" in after - before
    assert {str(key).split("-")[0] for key in before & after} == {
        *(name for name in NODES if "back" not in steps_of(name)),
        "upload",
    }


def test_the_graph_says_nothing_of_a_person() -> None:
    assert all(str(key).split("-")[1] == "case_01" for key in build(SPEC).to_dict())


def test_policies_without_a_check_leave_it_out() -> None:
    recorded = build(replace(SPEC, profile="recorded")).to_dict()
    assert not any(str(key).startswith("liveness_active") for key in recorded)
    document = build(replace(SPEC, profile="document", attempts={"front": 1, "back": 1})).to_dict()
    assert not any("face1" in str(key) for key in document)
    assert "consistency-case_01-front1.back1" in document


def test_wiring_refuses_a_parameter_that_nothing_fills() -> None:
    @check(CPU, reasons={})
    def lonely(nobody: int) -> CheckResult:
        raise AssertionError(nobody)

    with pytest.raises(ValueError, match="nothing in the graph makes 'nobody'"):
        wire({"front": (lonely,)})
    with pytest.raises(KeyError):
        placement_of(test_wiring_refuses_a_parameter_that_nothing_fills)


def test_broken_media_becomes_a_value_and_then_a_reason() -> None:
    broken = run_node("frames_front", SPEC, upload=b"this is no video")
    assert isinstance(broken, Failed)
    assert broken.code == "undecodable_media"
    assert run_node("pages_front", SPEC, frames=broken) is broken
    asked = run_node("quality_front", SPEC, pages=broken)
    assert asked.result == "rejected"
    assert [(found.code, found.retryable) for found in asked.reasons] == [("undecodable_media", True)]
    silent = run_node("hologram_front", SPEC, pages=broken)
    assert (silent.name, silent.result, silent.reasons) == ("hologram_front", "not_run", ())


def test_a_check_that_raises_is_an_error_and_quotes_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        result = run_node("text_front", SPEC, text_lines="ERIKSSON ANNA")
    assert (result.name, result.result) == ("text_front", "error")
    assert result.properties == {"error": "AttributeError"}
    assert "text_front failed with AttributeError" in caplog.text
    assert "ERIKSSON" not in caplog.text


def test_a_check_that_raises_for_broken_media_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It once gave a Failed in place of its result, which broke the task itself."""

    def broken(text_lines: object) -> CheckResult:
        raise UndecodableMediaError("damaged")

    monkeypatch.setattr(run, "NODES", {"text_front": replace(NODES["text_front"], function=broken, constants=())})
    result = run_node("text_front", SPEC, text_lines=None)
    assert (result.name, result.result) == ("text_front", "error")


def test_a_check_gives_only_the_reasons_that_it_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documentation, sandbox and policies rely on the declared reasons, so an undeclared one is an error."""

    def stray(text_lines: object) -> CheckResult:
        return judged("rejected", {"gray_copy": "front"})

    node = replace(NODES["text_front"], function=stray, constants=())
    monkeypatch.setattr(run, "NODES", {"text_front": node})
    result = run_node("text_front", SPEC, text_lines=None)
    assert (result.name, result.result, result.reasons) == ("text_front", "error", ())
    declared = replace(node, placement=replace(node.placement, reasons={"gray_copy": "rejected"}))
    monkeypatch.setattr(run, "NODES", {"text_front": declared})
    result = run_node("text_front", SPEC, text_lines=None)
    assert [(found.code, found.check) for found in result.reasons] == [("gray_copy", "text_front")]


def test_a_check_cannot_declare_a_reason_without_a_sentence() -> None:
    with pytest.raises(ValueError, match="made_up"):
        check(CPU, reasons={"made_up": "rejected"})


def test_a_check_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function keeps running in its thread until the event is set, but the case does not wait for it."""
    stuck = threading.Event()

    def never(text_lines: object) -> CheckResult:
        stuck.wait()
        return CheckResult("text_front", "clear")

    monkeypatch.setattr(run, "NODE_SECONDS", 0.05)
    monkeypatch.setattr(run, "NODES", {"text_front": replace(NODES["text_front"], function=never, constants=())})
    result = run_node("text_front", SPEC, text_lines=None)
    stuck.set()
    assert (result.name, result.result, result.properties) == ("text_front", "error", {"error": "TimeoutError"})


def test_a_defect_in_a_data_node_fails_what_depends_on_it() -> None:
    failed = run_node("motion_face", SPEC, faces=None)
    assert isinstance(failed, Failed)
    assert failed.code == "internal_error"
    asked = run_node("quality_front", SPEC, pages=failed)
    assert (asked.result, asked.reasons) == ("error", ()), "a missing weight once asked the person to film again"
    assert run_node("liveness_geometric_face", SPEC, motion=failed).result == "not_run"
