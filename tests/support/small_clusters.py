"""A cluster for one test: a scheduler and one worker of each label, with the settings in the test's environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

from workers.cluster import EmbeddedCluster
from workers.errors import ClusterError


@contextmanager
def small_cluster(folder: Path, gpu_threads: int = 1) -> Iterator[Client]:
    """A client of a new cluster, which is stopped at the end."""
    cluster = EmbeddedCluster(cpu_threads=1, gpu_threads=gpu_threads, folder=folder)
    try:
        with Client(cluster.start(), set_as_default=False) as client:
            yield client
    finally:
        cluster.stop()


def fails_to_start(folder: Path, said: str) -> None:
    """Assert that the GPU worker refuses to start, and that the error gives the reason. said: a regular expression."""
    with (
        pytest.raises(ClusterError, match=f"gpu-0 process ended with status 1:\n.*{said}"),
        small_cluster(folder),
    ):
        pass
