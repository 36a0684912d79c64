"""The wheel, installed outside the checkout: the client needs two packages, and the service brings all its files.

The import packages are called `service`, `graphs`, `workers` and `models`: names that others use as well. So nothing
here may find them in the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.places import ROOT

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VERIDASK_"))}
CLIENT = """
import json, sys
from importlib.metadata import distributions
import service.client
print(json.dumps([
    service.client.__file__,
    sorted({name.partition(".")[0] for name in sys.modules}),
    sorted(d.metadata["Name"].lower() for d in distributions()),
    len(sys.modules),
]))
"""
SERVE = """
import sys
from pathlib import Path
import httpx, service, graphs, models, workers
from service.client import VeridaskClient
from service.server.local import LocalServer

with LocalServer(Path("data"), sandbox=True) as server:
    running = server.start()
    with VeridaskClient(running.url, running.key) as client:
        case = client.create("sandbox")
        assert "</html>" in client.report(case.id)
    assert httpx.get(f"{running.url}/capture/").status_code == 200
    print(*(module.__file__ for module in (service, graphs, models, workers)), sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `pip wheel` builds it, from what git has of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, files.decode().split("\0")):
        if (ROOT / name).is_file():  # one may be deleted and not yet committed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)], folder)
    [built] = folder.glob("*.whl")
    return built


def run(command: list[str], folder: Path) -> str:
    """What a command prints, run in that folder without the settings of this process."""
    done = subprocess.run(command, cwd=folder, env=CLEAN, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def environment(folder: Path) -> Path:
    """The Python of a new virtual environment."""
    run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    return folder / "venv" / "bin" / "python"


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "service", "graphs", "workers", "models", f"veridask-{VERSION}.dist-info",
    }  # fmt: skip
    for package in ("service", "graphs", "workers", "models"):
        assert f"{package}/py.typed" in names, "others' type checkers read the hints"
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_client_needs_two_packages_and_loads_nothing_of_the_server(wheel: Path, tmp_path: Path) -> None:
    """It once loaded 1,060 modules, with Dask, SQLAlchemy and cryptography among them."""
    import json

    python = environment(tmp_path)
    constraints = str(ROOT / "constraints.txt")
    run([str(python), "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[client]"], tmp_path)
    where, modules, installed, count = json.loads(run([str(python), "-c", CLIENT], tmp_path))
    assert Path(where).is_relative_to(tmp_path)
    assert {"httpx", "pydantic", "veridask"} <= set(installed)
    heavy = {"dask", "distributed", "numpy", "sqlalchemy", "cryptography", "fastapi", "workers", "alembic"}
    assert not heavy & set(modules)
    assert not heavy & set(installed)
    assert count < 600


@pytest.mark.cluster
def test_the_service_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """Pages, migrations, profiles and weights come with it. Libraries are taken from this environment by their folder,
    which does not bring the checkout along: what makes it importable here is a hook that only its own environment runs.
    """
    python = environment(tmp_path)
    run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], tmp_path)
    [own] = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    places = run([str(python), "-c", SERVE], tmp_path).split()
    assert len(places) == 4
    assert all(Path(place).is_relative_to(own) for place in places)


def test_the_images_carry_the_version_of_the_package() -> None:
    """The version stands in pyproject.toml; what names it elsewhere follows."""
    import re

    named = {
        found
        for path in (ROOT / "docker").rglob("*")
        if path.is_file()
        for found in re.findall(r"veridask-[a-z]+(?:-[a-z]+)?:(\d+\.\d+\.\d+)", path.read_text("utf-8"))
    }
    assert named == {VERSION}
