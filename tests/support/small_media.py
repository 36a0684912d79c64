"""Small media without meaningful content, made by PyAV."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from av.video.stream import VideoStream


def encode(container: str, codec: str, frames: int, side: int = 64, pixel_format: str = "yuv420p") -> bytes:
    """A small media file of seeded noise."""
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
    """A decodable MP4 of one second without a document or face."""
    return encode("mp4", "libx264", frames=10)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A decodable JPEG without a document or face."""
    return encode("mjpeg", "mjpeg", frames=1, pixel_format="yuvj420p")
