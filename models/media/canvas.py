"""Decoded frames as pictures: upright RGB of one size, the middle at the camera's scale, and a grid of luma points.

Opening media and choosing frames is in `decoding`. No cv2 and no torch here: the API process probes media too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from models.media.header import Header, Orientation

_GRID = 64
"""Points per side on which consecutive source frames are compared: 4,096 points cost about 20 µs."""
DETAIL_SIDE = 512
"""Longest side, in pixels, of the part of a frame that is kept unscaled: fine patterns need the camera's own scale, but
not the whole frame.
"""
_EXACT = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""For pictures: colours stay within 0.3 levels of libjpeg's on photographs. swscale's shortcuts are 0.8 off, which made
one pair of faces more in a thousand come out wrong. Costs 5 ms for 1280 × 720; videos use the shortcut, at a tenth of
that.
"""


def orientation_of(frame: VideoFrame, header: Header) -> Orientation:
    """How a decoded frame must be turned: a picture as its header says, a video as its display matrix says."""
    if header.kind == "image":
        return header.orientation
    try:
        side_data: Any = frame.side_data  # PyAV's stub names motion vectors only
        matrix = side_data["DISPLAYMATRIX"]
    except KeyError:
        return Orientation()
    except ValueError:
        # PyAV 18.1 has no name for the newest kinds of side data and then refuses all of it; the angle is still there,
        # counted anti-clockwise, without a mirroring that the matrix may hold.
        quarter = round(-frame.rotation / 90) % 4
        return Orientation(quarter in (1, 3), quarter in (1, 2), quarter in (2, 3))
    return Orientation.from_matrix(np.frombuffer(memoryview(matrix), np.int32).reshape(3, 3))


def luma_grid(frame: VideoFrame) -> npt.NDArray[np.int16]:
    """int16 (64, 64): luma at evenly spaced points. Single points instead of means: a repeated frame stays exactly
    equal, and sensor noise makes live frames differ.
    """
    luma = frame.format.components[0]
    if frame.format.is_rgb or not frame.format.is_planar or luma.bits != 8:
        frame = frame.reformat(format="gray", threads=1)
    plane = frame.planes[0]
    pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows, columns = (((np.arange(_GRID) + 0.5) * side / _GRID).astype(np.intp) for side in (frame.height, frame.width))
    return pixels[rows][:, columns].astype(np.int16)


def block_means(grid: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Means over 8 × 8 of the points: float32 (8, 8). This reduces sensor noise to an eighth and keeps motion."""
    side = _GRID // 8
    return np.asarray(grid.reshape(8, side, 8, side).mean(axis=(1, 3)), np.float32)


class Canvas:
    """Converts decoded frames to upright RGB of one size: that of the first frame drawn."""

    def __init__(self, max_side: int, header: Header) -> None:
        self._max_side = max_side
        self._header = header
        self._reformatter = VideoReformatter()  # keeps the scaler's tables from frame to frame
        self._native = VideoReformatter()
        self._shape: tuple[int, int] | None = None

    def middle(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """The centre of one decoded frame at its own scale, upright: uint8 (H, W, 3), H and W at most DETAIL_SIDE."""
        whole = self._native.reformat(frame, format="rgb24", threads=1).to_ndarray().astype(np.uint8, copy=False)
        top, left = (max(0, (side - DETAIL_SIDE) // 2) for side in whole.shape[:2])
        cut = whole[top : top + DETAIL_SIDE, left : left + DETAIL_SIDE]
        return orientation_of(frame, self._header).apply(cut)

    def draw(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """One decoded frame → uint8 (H, W, 3)."""
        orientation = orientation_of(frame, self._header)
        width, height = (frame.height, frame.width) if orientation.transposed else (frame.width, frame.height)
        room_w, room_h = (self._max_side, self._max_side) if self._shape is None else self._shape[::-1]
        scale = min(1.0, room_w / width, room_h / height)
        width, height = max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))
        width, height = min(width, room_w), min(height, room_h)
        rgb = self._reformatter.reformat(
            frame,
            width=height if orientation.transposed else width,
            height=width if orientation.transposed else height,
            format="rgb24",
            interpolation=_EXACT if self._header.kind == "image" else Interpolation.AREA,
            threads=1,
        ).to_ndarray()
        upright = orientation.apply(rgb.astype(np.uint8, copy=False))
        if self._shape is None:
            self._shape = (height, width)
        if upright.shape[:2] == self._shape:
            return upright
        image = np.zeros((*self._shape, 3), np.uint8)
        top, left = (self._shape[0] - height) // 2, (self._shape[1] - width) // 2
        image[top : top + height, left : left + width] = upright
        return image
