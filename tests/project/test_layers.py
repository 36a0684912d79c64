"""Imports run one way, service → graphs → workers → models, and one way between the rooms of a layer; the light parts
stay light; folders and files stay small enough to find one's way in.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from benchmarks.rooms import MOST_FILES, Layer, Rooms, holds_code, imported_modules, measure
from tests.support.places import ROOT

LAYERS = ("models", "workers", "graphs", "service")
FOREIGN = {
    "models": {"dask", "distributed", "fastapi", "starlette", "sqlalchemy"},
    "workers": {"fastapi", "starlette", "sqlalchemy"},
    "graphs": {"fastapi", "starlette", "sqlalchemy", "cv2", "torch", "dlib", "onnxruntime"},
    "service": {"cv2", "torch", "dlib", "onnxruntime"},
}


ROOMS = measure(ROOT)


def imported(file: Path) -> set[str]:
    package = ".".join(file.relative_to(ROOT).parent.parts)
    return {module.split(".")[0] for module in imported_modules(file, package)}


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


def test_rooms_import_in_their_declared_order() -> None:
    assert not [f"{one.source} imports {one.target} in {one.files}" for one in ROOMS.all_against]


@pytest.mark.parametrize("layer", ROOMS.layers, ids=lambda layer: layer.name)
def test_no_circle_between_rooms(layer: Layer) -> None:
    assert layer.rooms
    assert not layer.circle, " → ".join(layer.circle)
    assert layer.floors > 1


@pytest.mark.parametrize("layer", ROOMS.layers, ids=lambda layer: layer.name)
def test_the_declared_order_names_the_rooms_that_exist(layer: Layer) -> None:
    """Add a new room to `[tool.veridask.rooms]` of pyproject.toml, above the rooms that it imports."""
    assert not layer.undeclared
    assert not layer.missing


def test_no_folder_grows_too_large() -> None:
    """Split a folder of more than 20 files, or except it in pyproject.toml with the reason."""
    large = dict(ROOMS.large)
    assert large.keys() == ROOMS.allowed.keys()
    assert all(ROOMS.allowed.values())


def test_no_test_imports_another_test() -> None:
    """What tests share lies in tests/support."""
    for file in sorted((ROOT / "tests").rglob("*.py")):
        package = ".".join(file.relative_to(ROOT).parent.parts)
        for module in imported_modules(file, package):
            first, *parts = module.split(".")
            wrong = first == "tests" and any(part.startswith("test_") for part in parts)
            assert not wrong, f"{file.relative_to(ROOT)} imports {module}"


PACKAGES = [file.parent for top in (*LAYERS, "benchmarks") for file in sorted((ROOT / top).rglob("__init__.py"))]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_rooms_say_what_they_do(package: Path) -> None:
    if package.name == "versions":  # Alembic's folder of migrations
        return
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")))
    assert doc
    assert "TODO" not in doc


def test_every_folder_of_a_layer_is_a_package() -> None:
    """Without `__init__.py` a folder is left out of the wheel, and says nothing of itself."""
    for layer in LAYERS:
        for file in (ROOT / layer).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file.relative_to(ROOT)


def write_project(root: Path, files: dict[str, str]) -> Rooms:
    """A small project of two layers; `service` has a declared order."""
    table = '[tool.veridask.rooms]\nlayers = ["models", "service"]\nservice = ["errors", "store", "http"]\n'
    (root / "pyproject.toml").write_text(table, "utf-8")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return measure(root)


def test_the_analysis_counts_rooms_arrows_and_floors(tmp_path: Path) -> None:
    rooms = write_project(
        tmp_path,
        {
            "service/__init__.py": '"""Only a docstring."""',
            "service/errors.py": "import os",
            "service/store/__init__.py": "",
            "service/store/tables.py": "from service.errors import NotFound\nfrom . import rows",
            "service/store/deep/rows.py": "from ...errors import NotFound",
            "service/http/app.py": "def start():\n    from service import errors, store\n    import models.page",
            "models/page.py": "",
        },
    )
    assert rooms.sound
    models, service = rooms.layers
    assert [(room.name, room.files, room.floor, room.imports) for room in service.rooms] == [
        ("errors", 1, 1, ()),
        ("store", 2, 2, ("errors",)),
        ("http", 1, 3, ("errors", "store")),
    ]
    assert (service.arrows, service.floors, models.floors) == (3, 3, 1)
    assert (service.undeclared, service.missing) == ((), ())


def test_the_analysis_finds_circles_and_arrows_against_the_order(tmp_path: Path) -> None:
    rooms = write_project(
        tmp_path,
        {
            "service/errors.py": "from service.http import app",
            "service/http/app.py": "import service.errors",
            "service/extra.py": "",
            "models/page.py": "from service import errors",
        },
    )
    assert not rooms.sound
    _, service = rooms.layers
    assert set(service.circle) == {"errors", "http"}
    assert service.circle[0] == service.circle[-1]
    assert (service.undeclared, service.missing) == (("extra",), ("store",))
    assert [(one.source, one.target, one.files) for one in rooms.all_against] == [
        ("models.page", "service.errors", ("models/page.py",)),
        ("service.errors", "service.http", ("service/errors.py",)),
    ]


def test_the_analysis_finds_large_folders(tmp_path: Path) -> None:
    crowd = {f"tests/crowd/test_{number}.py": "" for number in range(MOST_FILES + 1)}
    full = {f"tests/full/test_{number}.py": "" for number in range(MOST_FILES)}
    rooms = write_project(tmp_path, {**crowd, **full, "tests/full/__init__.py": '"""Not counted."""'})
    assert rooms.large == (("tests/crowd", MOST_FILES + 1),)
    assert rooms.sound
    assert not holds_code(tmp_path / "tests/full/__init__.py")
