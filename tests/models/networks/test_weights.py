"""Weights are used only when their digest is the one on record, and every row says where they come from."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.errors import WeightsError
from models.networks import weights
from tests.support.places import ROOT

OWN = sorted(name for name, entry in weights.table().items() if entry.package is None)
DLIB = sorted(name for name, entry in weights.table().items() if entry.package == "face_recognition_models")


def test_every_row_is_complete() -> None:
    for name, entry in weights.table().items():
        assert entry.name == name
        assert len(entry.sha256) == 64
        assert int(entry.sha256, 16) >= 0
        assert entry.licence
        assert entry.source


def test_every_file_of_ours_has_a_row() -> None:
    files = {path.name for path in weights.FOLDER.iterdir() if path.suffix == ".safetensors"}
    assert files == {weights.table()[name].file for name in OWN}


def card(name: str) -> dict[str, str]:
    """The rows of a model's card, by their first column."""
    text = (weights.FOLDER / f"{name}.md").read_text("utf-8")
    return dict(re.findall(r"^\| ([a-z ]+) \| (.*) \|$", text, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(weights.table()))
def test_every_model_has_a_card_that_agrees_with_the_table(name: str) -> None:
    rows, entry = card(name), weights.table()[name]
    assert {"what", "trained by", "data", "licence", "digest"} <= set(rows)
    assert re.match(r"[\w.-]+\w", rows["licence"])[0] == entry.licence  # type: ignore[index]
    assert "in `table.json`; another file is refused" in rows["digest"]
    shown = re.search(r"[0-9a-f]{12}", rows["digest"])
    if entry.package is not None:  # what is trained here changes with each training, and the table with it
        assert shown is not None
        assert entry.package in rows["trained by"]
    assert shown is None or entry.sha256.startswith(shown[0])
    assert "Limits: " in (weights.FOLDER / f"{name}.md").read_text("utf-8")


def test_every_card_is_of_a_model_and_in_the_documentation() -> None:
    cards = {path.stem for path in weights.FOLDER.glob("*.md")}
    assert cards == set(weights.table())
    page = (ROOT / "docs" / "checks.md").read_text("utf-8")
    assert all(f"(../models/weights/{name}.md)" in page for name in cards)


def test_no_module_names_a_file_of_weights_that_is_not_in_the_table() -> None:
    known = {Path(entry.file).name for entry in weights.table().values()}
    for path in weights.FOLDER.parent.rglob("*.py"):
        named = set(re.findall(r"[\"/]([\w.-]+\.(?:dat|onnx|safetensors))\"", path.read_text("utf-8")))
        assert named <= known, path


@pytest.mark.parametrize("name", DLIB)
def test_installed_file_has_the_digest_on_record(name: str) -> None:
    path = weights.dlib_path(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.table()[name].sha256


def test_own_files_load() -> None:
    for name in OWN:
        assert all(isinstance(tensor, torch.Tensor) for tensor in weights.own(name).values())


def test_the_carrying_package_is_found_without_importing_it() -> None:
    """face_recognition_models 0.3 imports pkg_resources, which current setuptools lacks."""
    script = (
        "import sys; from models.networks.weights import dlib_path; dlib_path('mmod_human_face_detector'); "
        "print('face_recognition_models' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"]


def test_wrong_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.dat"
    path.write_bytes(b"as it was")
    digest = hashlib.sha256(b"as it was").hexdigest()
    assert weights.verified(path, digest.upper()) == path
    path.write_bytes(b"as it is now")
    with pytest.raises(WeightsError, match=r"net\.dat has SHA-256 .* install the recorded version"):
        weights.verified(path, digest)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.dat is missing"):
        weights.verified(tmp_path / "none.dat", "0" * 64)


def test_unknown_name_says_what_is_known() -> None:
    with pytest.raises(WeightsError, match="mmod_human_face_detector"):
        weights.dlib_path("no_such_net")


def test_dlib_weights_are_not_tensors() -> None:
    with pytest.raises(WeightsError, match="only our own"):
        weights.own("mmod_human_face_detector")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of weights of its own: a good net, one that is not safetensors, one of a package that is not there."""
    save_file({"kernel": torch.arange(6.0).reshape(2, 3)}, tmp_path / "good.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    rows = [
        {
            "name": name,
            "package": package,
            "file": f"{name}.safetensors",
            "sha256": hashlib.sha256((tmp_path / f"{name}.safetensors").read_bytes()).hexdigest()
            if not package
            else "0",
            "licence": "Apache-2.0",
            "source": "made in this test",
        }
        for name, package in (("good", None), ("bad", None), ("away", "no_such_package_of_weights"))
    ]
    (tmp_path / "table.json").write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    weights.table.cache_clear()
    weights._verified_path.cache_clear()
    yield tmp_path
    weights.table.cache_clear()
    weights._verified_path.cache_clear()


def test_own_tensors_come_back(folder: Path) -> None:
    assert torch.equal(weights.own("good")["kernel"], torch.arange(6.0).reshape(2, 3))
    with pytest.raises(WeightsError, match="not in dlib's format"):
        weights.dlib_path("good")


def test_a_file_that_is_not_safetensors_is_refused(folder: Path) -> None:
    with pytest.raises(WeightsError, match="safetensors"):
        weights.own("bad")


def test_an_absent_package_is_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match="pip install no_such_package_of_weights"):
        weights.dlib_path("away")
