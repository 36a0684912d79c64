"""Encodes pictures as an MP4 file in memory: H.264 by PyAV, one thread, so that the same frames give the same bytes.

x264's fastest preset: baseline tools and several megabits a second, like the hardware encoders of phones.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt


def encode_mp4(frames: Iterable[npt.NDArray[np.uint8]], *, frame_rate: int, crf: int = 22) -> bytes:
    """Encode uint8 (H, W, 3) RGB frames of even sides, all of one size.

    crf: x264's quality, 0 (lossless) to 51; 22 is about what a phone keeps. ValueError when there is no frame.
    """
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = None
        for index, picture in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=frame_rate)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
                stream.time_base = Fraction(1, frame_rate)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, frame_rate)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a video needs at least one frame")
        container.mux(stream.encode())
    return target.getvalue()
