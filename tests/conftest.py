"""Shared by the tests that speak HTTP: one real cluster and one real server for the whole session, and small media."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from av.video.stream import VideoStream

from service.client import VeridaskClient
from service.server import Running
from workers.cluster import EmbeddedCluster

pytest_plugins = ["postgres", "data_folders", "object_storage", "case_stores", "brought_embedder", "scenario_films"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with clusters first: they take longest, and where files run side by side none is then left for the end."""
    slow = {item.path for item in items if item.get_closest_marker("cluster")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedCluster, str]]:
    """One CPU-labelled and one GPU-labelled worker and their scheduler, real processes on loopback; its address."""
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
    from data_folders import server_in  # a plugin: pytest wants to be the first to import it

    with server_in(server_folder, cluster, sweep_interval_s=0.2, sandbox=True) as local:
        yield local.start()


@pytest.fixture
def client(server: Running) -> Iterator[VeridaskClient]:
    """The typed client of the session's server."""
    with VeridaskClient(server.url, server.key) as client:
        yield client


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    """Plain HTTP to the session's server, with a key for everything, for what the typed client would not send."""
    headers = {"Authorization": f"Bearer {server.key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
        yield http


def encode(container: str, codec: str, frames: int, side: int = 64, pixel_format: str = "yuv420p") -> bytes:
    """A small media of seeded noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(7)
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = side
        stream.pix_fmt = pixel_format
        for _ in range(frames):
            picture = noise.integers(0, 256, (side, side, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="session")
def video() -> bytes:
    """A decodable MP4 of one second that shows nothing."""
    return encode("mp4", "libx264", frames=10)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A decodable JPEG that shows nothing."""
    return encode("mjpeg", "mjpeg", frames=1, pixel_format="yuvj420p")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The evaluation data beside the checkout; tests that need it skip when it is absent."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the evaluation data is not beside this checkout")
    return folder
