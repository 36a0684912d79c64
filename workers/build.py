"""Which build this is: the service, and every worker of its cluster, must be of the same one.

Tasks carry the names of nodes and a case's few facts; code and policy are those of the worker that runs them. A worker
of another build would judge by other rules, and nobody would see it.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

METRIC = "veridask_build"
"""Name under which a worker tells its build to the scheduler, with its heartbeat."""
_PACKAGES = ("models", "workers", "graphs")
_KINDS = (".py", ".json")


@cache
def build() -> str:
    """Version and a digest of all code and data that decides, such as `0.2.0+3f9a1c0b2d4e`."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path, content in _contents(files(package), package):
            digest.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return f"{version('veridask')}+{digest.hexdigest()[:12]}"


def _contents(folder: Traversable, path: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            found += _contents(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(_KINDS):
            found.append((f"{path}/{entry.name}", entry.read_bytes()))
    return found
