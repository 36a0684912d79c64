"""One Zarr group per case: what the graph found, for people to analyse later.

    <evidence>/cases/<case id>/findings.zarr/<step>/<array>     attributes on the step's group

A step's group is written aside and renamed, so a reader sees a whole group or none. A later attempt takes its place.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from graphs.records import Step
from service.errors import EvidenceUnavailableError
from service.identifiers import is_case_id
from service.wire import jsonable


def group_path(evidence: Path, case_id: str) -> Path:
    """Where the Zarr group of a case is, whether or not it was written yet."""
    if not is_case_id(case_id):
        raise ValueError("not the id of a case")
    return evidence / "cases" / case_id / "findings.zarr"


def write_step(
    evidence: Path,
    case_id: str,
    step: Step,
    attempt: int,
    arrays: Mapping[str, npt.NDArray[Any]],
    attributes: Mapping[str, Any],
) -> None:
    """Write the findings of one step as the group `<step>` of the case's Zarr group.

    Blocks; call it from a thread. Raises EvidenceUnavailableError when the folder cannot be written.
    """
    root, group = group_path(evidence, case_id), None
    part = root.with_name(f".{step}-{attempt}.zarr.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        group = zarr.create_group(part, attributes={**jsonable(attributes), "attempt": attempt})
        for name, values in arrays.items():
            group.create_array(name, data=np.ascontiguousarray(values), chunks=_chunks(values))
        zarr.open_group(root, mode="a")
        target = root / step
        old = root.with_name(f".{step}-old.zarr.part")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise EvidenceUnavailableError("the findings of a case cannot be written") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _chunks(values: npt.NDArray[Any]) -> tuple[int, ...]:
    """One chunk per picture for stacks of pictures (a reader wants one frame), else the whole array."""
    shape = values.shape if values.ndim < 4 else (1, *values.shape[1:])
    return tuple(max(1, side) for side in shape)
