"""Imports run one way, service → graphs → workers → models, and the light parts stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.support.places import ROOT

LAYERS = ("models", "workers", "graphs", "service")
FOREIGN = {
    "models": {"dask", "distributed", "fastapi", "starlette", "sqlalchemy"},
    "workers": {"fastapi", "starlette", "sqlalchemy"},
    "graphs": {"fastapi", "starlette", "sqlalchemy", "cv2", "torch", "dlib", "onnxruntime"},
    "service": {"cv2", "torch", "dlib", "onnxruntime"},
}


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"tests", "benchmarks"}
    for file in files:
        wrong = imported(file) & (above | FOREIGN[layer])
        assert not wrong, f"{file.relative_to(ROOT)} must not import {sorted(wrong)}"


def test_models_read_no_environment() -> None:
    for file in (ROOT / "models").rglob("*.py"):
        text = file.read_text("utf-8")
        assert "os.environ" not in text, file.relative_to(ROOT)
        assert "getenv" not in text, file.relative_to(ROOT)


@pytest.mark.parametrize("module", ["graphs.case", "service.http.app", "service.cli.main", "models.media.decoding"])
def test_what_the_service_loads_has_no_networks_in_it(module: str) -> None:
    """Starting the API must stay light: no torch (hundreds of megabytes), no cv2."""
    code = f"import sys, {module}; print(sorted({{'torch', 'cv2', 'onnxruntime', 'dlib'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_exactly_one_opencv_is_installed() -> None:
    """Two flavours overwrite each other's `cv2` and break at random."""
    found = {str(d.metadata["Name"]) for d in distributions() if str(d.metadata["Name"]).startswith("opencv")}
    assert found == {"opencv-python-headless"}


def test_nothing_pulled_in_cuda() -> None:
    assert not [d.metadata["Name"] for d in distributions() if str(d.metadata["Name"]).startswith("nvidia-")]


def test_files_stay_readable() -> None:
    for layer in LAYERS:
        for file in (ROOT / layer).rglob("*.py"):
            assert len(file.read_text("utf-8").splitlines()) <= 400, file.relative_to(ROOT)
