"""Finds weights by name: where each file is, its digest, its licence and its source.

The table is `models/weights/table.json`. A file is used only after its SHA-256 has matched the table's; it is checked
once per process and file. Nothing is downloaded here: a missing file raises an error that says what to install.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from models.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FOLDER = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class WeightsEntry:
    """One row of the table. package: import name of the installed distribution that contains the file, or None if the
    file was trained by this project and is in `models/weights`. file: relative to that. sha256: hexadecimal, lower
    case.
    """

    name: str
    package: str | None
    file: str
    sha256: str
    licence: str
    source: str


@cache
def table() -> Mapping[str, WeightsEntry]:
    """All weights in use, by name."""
    rows = json.loads((FOLDER / "table.json").read_text(encoding="utf-8"))
    return MappingProxyType({row["name"]: WeightsEntry(**row) for row in rows})


def own(name: str) -> dict[str, Tensor]:
    """Loads weights trained by this project (safetensors): its tensors, on the CPU.

    Raises WeightsError: no such name, no such file, a wrong digest, or not a safetensors file of this project.
    """
    entry = _entry(name)
    if entry.package is not None:
        raise WeightsError(f"weights '{name}' belong to package {entry.package}; only our own are loaded as tensors")
    # Imported here because `table` and `dlib_path` also serve processes that never load torch.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(_verified_path(name))
    except SafetensorError as error:
        raise WeightsError(f"weights '{name}' cannot be read as safetensors: {error}") from error


def dlib_path(name: str) -> Path:
    """Path of a verified `.dat` file of dlib, as installed with `face_recognition_models`.

    Raises WeightsError: no such name, the package or its file is missing, or a wrong digest.
    """
    if _entry(name).package is None:
        raise WeightsError(f"weights '{name}' are our own and are not in dlib's format; use `own`")
    return _verified_path(name)


def onnx(name: str) -> bytes:
    """The content of an ONNX network in an installed package. Raises WeightsError as `dlib_path`, or when the table has
    no such row.
    """
    entry = _entry(name)
    if entry.package is None or not entry.file.endswith(".onnx"):
        raise WeightsError(f"weights '{name}' are no ONNX file of a package")
    return verified_bytes(_folder(entry) / entry.file, entry.sha256)


def verified_bytes(path: Path, sha256: str) -> bytes:
    """Reads a file and checks its SHA-256 (hexadecimal). The bytes returned are the bytes that were hashed.

    Raises WeightsError: no such file, or another digest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _missing(path, error) from error
    _require(path, hashlib.sha256(content).hexdigest(), sha256)
    return content


def verified(path: Path, sha256: str) -> Path:
    """Checks the SHA-256 (hexadecimal) of the file's content and returns the same path.

    Raises WeightsError: no such file, or another digest.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _missing(path, error) from error
    _require(path, found, sha256)
    return path


def _missing(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f"weights file {path.name} is missing or unreadable ({error.strerror}); install it")


def _require(path: Path, found: str, sha256: str) -> None:
    if found != sha256.lower():
        raise WeightsError(
            f"weights file {path.name} has SHA-256 {found}, on record is {sha256}: it is damaged or of another "
            "version; install the recorded version again"
        )


@cache
def _verified_path(name: str) -> Path:
    """Cached because hashing takes 10 ms per 20 MB and every model of a process asks for it."""
    entry = _entry(name)
    return verified(_folder(entry) / entry.file, entry.sha256)


def _entry(name: str) -> WeightsEntry:
    try:
        return table()[name]
    except KeyError:
        raise WeightsError(f"no weights named '{name}'; known are {', '.join(sorted(table()))}") from None


def _folder(entry: WeightsEntry) -> Path:
    if entry.package is None:
        return FOLDER
    # Found, not imported: face_recognition_models 0.3 imports pkg_resources, which setuptools no longer has.
    spec = importlib.util.find_spec(entry.package)
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"weights '{entry.name}' come with package {entry.package}, which is not installed; "
            f"run: pip install {entry.package}"
        )
    return Path(spec.origin).parent
