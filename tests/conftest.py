"""Fixtures for the whole session: one real cluster, one real server, HTTP clients, and small media."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import VeridaskClient
from service.server.local import Running
from tests.support.places import SHARED_DATA
from workers.cluster import EmbeddedCluster

pytest_plugins = [
    f"tests.support.{name}"
    for name in (
        "postgres",
        "data_folders",
        "object_storage",
        "case_stores",
        "brought_embedder",
        "scenario_films",
        "small_media",
    )
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with cluster tests first. They take longest, so in a parallel run none is left for the end."""
    slow = {item.path for item in items if item.get_closest_marker("cluster")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedCluster, str]]:
    """A scheduler with one CPU and one GPU worker, real processes on loopback; and the scheduler's address."""
    embedded = EmbeddedCluster(cpu_threads=2, gpu_threads=2, folder=tmp_path_factory.mktemp("cluster"))
    yield embedded, embedded.start()
    embedded.stop()


@pytest.fixture(scope="session")
def cluster(embedded: tuple[EmbeddedCluster, str]) -> str:
    """Address of the session's scheduler."""
    return embedded[1]


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of the session's server."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(cluster: str, server_folder: Path) -> Iterator[Running]:
    """`veridask serve` in its own process, joined to the session's cluster."""
    from tests.support.data_folders import server_in

    with server_in(server_folder, cluster, sweep_interval_s=0.2, sandbox=True) as local:
        yield local.start()


@pytest.fixture
def client(server: Running) -> Iterator[VeridaskClient]:
    """The typed client of the session's server."""
    with VeridaskClient(server.url, server.key) as client:
        yield client


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    """Plain HTTP to the session's server, with an API key for all scopes: for requests that the typed client cannot
    send.
    """
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        yield http


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The evaluation data beside the checkout. Tests that need it skip if it is missing."""
    folder = SHARED_DATA
    if not folder.is_dir():
        pytest.skip("the evaluation data is not beside this checkout")
    return folder
