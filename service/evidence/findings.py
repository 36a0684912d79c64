"""The findings of a case as one Zarr group, for later analysis by people.

    cases/<case id>/findings.zarr/<step>/<array>     attributes on the step's group

Groups are encoded and decoded in memory, at most some tens of megabytes each. Sealing them is the work of
`service.evidence.evidence`, storing them that of `service.evidence.backends`.
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
    """The path of the Zarr group of a case in the evidence, whether or not it was written yet."""
    if not is_case_id(case_id):
        raise ValueError("not the id of a case")
    return f"cases/{case_id}/findings.zarr"


def encode_group(arrays: Mapping[str, npt.NDArray[Any]], attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a Zarr group with these arrays, by path. Blocks."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files), attributes=jsonable(attributes))
    for name, values in arrays.items():
        group.create_array(name, data=np.ascontiguousarray(values), chunks=_chunks(values))
    return {path: content.to_bytes() for path, content in files.items()}


def decode_group(files: Mapping[str, bytes]) -> zarr.Group:
    """The Zarr group of a case with these files, read-only.

    A step without its own metadata is still being written and is left out. Raises FileNotFoundError if there are no
    files.
    """
    to_buffer = default_buffer_prototype().buffer.from_bytes
    steps = {path.split("/")[0] for path in files if path.endswith(f"/{HEAD}") and path.count("/") == 1}
    complete = {path: to_buffer(files[path]) for path in files if path == HEAD or path.split("/")[0] in steps}
    return zarr.open_group(MemoryStore(complete, read_only=True), mode="r", zarr_format=3, use_consolidated=False)


def _chunks(values: npt.NDArray[Any]) -> tuple[int, ...]:
    """The chunk shape: one picture of a stack (4 dimensions), because readers want one frame; else the whole array."""
    shape = values.shape if values.ndim < 4 else (1, *values.shape[1:])
    return tuple(max(1, side) for side in shape)


ROOT_GROUP = encode_group({}, {})[HEAD]
"""The metadata of a case's group, which contains only the groups of its steps."""
