"""The notebooks run from top to bottom against a running service."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from service.server.local import LocalServer
from tests.support.places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.cluster
@pytest.mark.timeout(400)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIDASK_DATA_DIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": path.parent}}
    with LocalServer(tmp_path, cluster) as server:
        monkeypatch.setenv("VERIDASK_API_KEY", server.start().key)
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    text = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    outcome = next(
        word for word in text.split() if word in {"approved", "declined", "resubmission_requested", "review"}
    )
    assert f"as it was:           {outcome}\n" in text
    assert "without a match:     approved" not in text


def test_notebooks_are_kept_without_output() -> None:
    """What a cell shows of a case is a person's data; only the code is kept."""
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs"), path.name
