"""One Zarr group per case: what the graph found, for people to analyse later.

    cases/<case id>/findings.zarr/<step>/<array>     attributes on the step's group

Made and read in memory, so that it can be sealed (`service.evidence.evidence`) and goes to a folder and to object
storage alike (`service.evidence.backends`). A group takes some tens of megabytes at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from service.lifecycle.identifiers import is_case_id
from service.lifecycle.json_values import jsonable

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

HEAD = "zarr.json"
"""The metadata of a group: without it there is no group."""


def group_root(case_id: str) -> str:
    """Where in the evidence the Zarr group of a case is, whether or not it was written yet."""
    if not is_case_id(case_id):
        raise ValueError("not the id of a case")
    return f"cases/{case_id}/findings.zarr"


def encoded(arrays: Mapping[str, npt.NDArray[Any]], attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """A Zarr group with these arrays as the files that it consists of, by path. Blocks."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files), attributes=jsonable(attributes))
    for name, values in arrays.items():
        group.create_array(name, data=np.ascontiguousarray(values), chunks=_chunks(values))
    return {path: content.to_bytes() for path, content in files.items()}


def decoded(files: Mapping[str, bytes]) -> zarr.Group:
    """The Zarr group of a case that consists of these files, to read. A step whose own metadata is not among them is
    being written and is left out. Raises FileNotFoundError when they are none.
    """
    make = default_buffer_prototype().buffer.from_bytes
    steps = {path.split("/")[0] for path in files if path.endswith(f"/{HEAD}") and path.count("/") == 1}
    whole = {path: make(files[path]) for path in files if path == HEAD or path.split("/")[0] in steps}
    return zarr.open_group(MemoryStore(whole, read_only=True), mode="r", zarr_format=3, use_consolidated=False)


def _chunks(values: npt.NDArray[Any]) -> tuple[int, ...]:
    """One chunk per picture for stacks of pictures (a reader wants one frame), else the whole array."""
    shape = values.shape if values.ndim < 4 else (1, *values.shape[1:])
    return tuple(max(1, side) for side in shape)


ROOT_GROUP = encoded({}, {})[HEAD]
"""The metadata of a case's group, which holds nothing but its steps."""
