"""Embeddings carry the identity of their network: each network has its own threshold, and two are never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import cv2
import pytest

from graphs.case import verdict
from graphs.face import findings
from graphs.records import CaseSpec, CheckResult, Failed
from graphs.run import run_node
from models.errors import EmbeddingError
from models.face.embedder import FaceEmbedder
from models.face.faces import FaceTrack, joined, of_one_model
from models.face.match import match
from models.face.onnx_embedder import EmbedderWeights
from tests.support.brought_embedder import THRESHOLD, face_of, portrait, scan_of
from tests.support.made_media import sample
from workers.pool import ModelPool
from workers.settings import TorchSettings


def test_faces_carry_the_network_that_embedded_them(brought_pool: ModelPool, brought: EmbedderWeights) -> None:
    scan = scan_of("astronaut", brought_pool)
    embedded = [face for face in scan.faces if face.embedding.size]
    assert {face.embedder for face in embedded} == {brought_pool.face_embedder.model}
    assert {face.embedding.shape for face in embedded} == {(192,)}
    assert {face.chip.shape for face in embedded} == {(150, 150, 3)}, "what all else is judged by"
    model = of_one_model(scan.faces)
    assert model is not None
    assert (model.name, model.version, model.max_distance) == ("Patches", brought.sha256[:12], THRESHOLD)


SPEC = CaseSpec("case_e", "standard", {"front": 1, "back": 1, "face": 1}, (), date(2026, 6, 1))


def test_the_threshold_is_the_networks_own(brought_pool: ModelPool) -> None:
    results = {}
    for name in ("astronaut", "hopper"):
        results[name] = run_node(
            "match",
            SPEC,
            faces_face=scan_of("astronaut", brought_pool),
            portrait_face_front=face_of(name, brought_pool),
        )
    same, other = results["astronaut"], results["hopper"]
    assert (same.result, other.result) == ("clear", "rejected")
    assert [reason.code for reason in other.reasons] == ["selfie_face_mismatch"]
    for found in results.values():
        assert found.threshold == THRESHOLD
        assert (found.model, found.model_version) == ("Patches", brought_pool.face_embedder.model.version)


def test_dlibs_threshold_is_the_policys(dlibs: ModelPool) -> None:
    found = run_node("match", SPEC, faces_face=scan_of("hopper", dlibs), portrait_face_front=face_of("hopper", dlibs))
    assert (found.result, found.threshold, found.model) == ("clear", 0.54, "dlib ResNet")
    assert found.model_version == FaceEmbedder.model.version == "55533b28a958"


def test_distances_of_two_networks_are_an_error_of_the_system(brought_pool: ModelPool, dlibs: ModelPool) -> None:
    """Scan and portrait embedded by workers with different networks: neither a match nor a mismatch."""
    for one, other in ((brought_pool, dlibs), (dlibs, brought_pool)):
        scan, face = scan_of("astronaut", one), face_of("astronaut", other)
        with pytest.raises(EmbeddingError, match="configure all GPU workers alike"):
            match(scan, face)
        found = run_node("match", SPEC, faces_face=scan, portrait_face_front=face)
        assert found.result == "error"
        assert found.properties["error"] == "EmbeddingError"
        assert not found.reasons
        decision = verdict([found], SPEC).decision
        assert decision.outcome == "review"


@pytest.mark.parametrize("difference", [{"max_distance": 0.4}, {"mean": 100.0}, {"channels": "BGR"}])
def test_the_same_file_configured_otherwise_is_another_network(
    difference: Mapping[str, Any], brought_pool: ModelPool, brought: EmbedderWeights
) -> None:
    other = ModelPool(embedder=replace(brought, **difference))
    with pytest.raises(EmbeddingError):
        match(scan_of("hopper", brought_pool), face_of("hopper", other))


def test_two_halves_of_a_scan_by_two_networks_are_an_error(brought_pool: ModelPool, dlibs: ModelPool) -> None:
    early, late = scan_of("astronaut", brought_pool), scan_of("astronaut", dlibs)
    with pytest.raises(EmbeddingError):
        joined(early, late)
    found = run_node("faces_face", SPEC, faces_early=early, faces_late=late)
    assert isinstance(found, Failed)
    assert not found.broken_media, "nobody is asked to film again what they filmed well"
    again = run_node("match", SPEC, faces_face=found, portrait_face_front=face_of("astronaut", brought_pool))
    assert again == CheckResult(
        name="match", result="not_run", started_at=again.started_at, duration_ms=again.duration_ms
    )


def test_an_embedding_that_says_nothing_of_its_network_is_an_error(brought_pool: ModelPool) -> None:
    scan = scan_of("hopper", brought_pool)
    with pytest.raises(EmbeddingError, match="does not say"):
        match(scan, replace(face_of("hopper", brought_pool), embedder=None))


def test_what_is_kept_names_the_network(brought_pool: ModelPool) -> None:
    scan = scan_of("hopper", brought_pool)
    _, png = cv2.imencode(".png", portrait("hopper"))
    frames = sample(bytes(png))
    kept = findings(frames, scan)
    assert (
        kept.attributes["embedder"]
        == str(brought_pool.face_embedder.model)
        == f"Patches ({brought_pool.face_embedder.model.version})"
    )
    assert kept.arrays["embeddings"].shape == (4, 192)
    empty = findings(frames, FaceTrack((), scan.timestamps, scan.shape))
    assert empty.arrays["embeddings"].shape == (0, 0)
    assert empty.attributes["embedder"] == ""


def test_calls_of_another_network_are_not_joined(brought: EmbedderWeights) -> None:
    assert set(ModelPool(TorchSettings(batch_items=8), brought).figures()) == {"face_detector"}
