"""Identifies the build. The service and all workers of its cluster must run the same build.

Tasks carry only the names of nodes and a few facts of the case; the code and the policy are those of the worker. A
worker of another build would judge by other rules, unnoticed.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

METRIC = "veridask_build"
"""Name of the worker metric that reports its build to the scheduler, with each heartbeat."""
_PACKAGES = ("models", "workers", "graphs")
_KINDS = (".py", ".json")


@cache
def build() -> str:
    """The version and a digest of all code and data that can affect a decision, such as `0.2.0+3f9a1c0b2d4e`."""
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
