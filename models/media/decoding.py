"""Decodes media files, as received, into frames. PyAV decodes from memory.

This module imports neither cv2 nor torch, because the API process uses it too, to probe uploads. The first bytes of a
file are read by `models.media.header`; this module asks the demuxer, decodes and samples.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from models.errors import EmptyMediaError, MediaTooLargeError, MediaTypeError, UndecodableMediaError
from models.media.header import Header, Orientation, read_header

# Codecs that phones and browsers write into the accepted containers. All others are refused: rarely used decoders
# are where hostile files find their bugs.
_CODECS = {
    "video": ("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1", "mpeg4"),
    "image": ("mjpeg", "png", "apng", "webp"),
}
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
_USUAL_RATE = 30.0
"""Frames per second assumed when a container gives no usable time at all."""


@dataclass(frozen=True)
class MediaLimits:
    """Limits checked from the header, before anything is decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_seconds: float = 30.0
    max_side: int = 4096
    max_pixels: int = 16_000_000
    max_frames: int = 1800


WIDEST = MediaLimits(max_bytes=2**31, max_seconds=600.0, max_side=16_384)
"""The widest limits that an operator may set. Workers use these: the service has already checked the media against its
own limits.
"""


@dataclass(frozen=True)
class MediaInfo:
    """What the container says. Width and height are as shown, after the rotation in the metadata is applied; rotation
    is in degrees clockwise from stored to shown. A picture has no duration and no frame rate: both are 0.
    """

    kind: Literal["video", "image"]
    mime: str
    width: int
    height: int
    rotation: int
    size_bytes: int
    duration_s: float
    frame_rate: float


@dataclass(frozen=True)
class Frames:
    """Frames sampled from one media file.

    images: uint8 (N, H, W, 3) RGB, upright as shown. timestamps: float64 (N,) seconds from the start.
    source_timestamps: float64 (M,), one per frame of the source. source_differences: float32 (M-1,), mean absolute luma
    difference (0..255) of consecutive source frames on a coarse grid; 0.0 is a repeated frame. source_blocks: float32
    (M, 8, 8), mean luma of each part of each source frame, in stored orientation. details: the centres of some frames
    at the camera's own scale, not resized: uint8 RGB, no side over DETAIL_SIDE.
    """

    images: npt.NDArray[np.uint8]
    timestamps: npt.NDArray[np.float64]
    source_timestamps: npt.NDArray[np.float64]
    source_differences: npt.NDArray[np.float32]
    source_blocks: npt.NDArray[np.float32]
    info: MediaInfo
    details: tuple[npt.NDArray[np.uint8], ...] = ()


@dataclass(frozen=True)
class _Extent:
    """Length of a media file: seconds from the start of the first frame to the end of the last one, and frames per
    second.
    """

    duration_s: float
    frame_rate: float


def probe(data: bytes, limits: MediaLimits, declared: str | None = None) -> MediaInfo:
    """Checks the header against the limits, then decodes only the first frame. `declared` is the mime type sent with
    the bytes; None skips the comparison.

    Raises EmptyMediaError (no bytes, no frames), UndecodableMediaError (unknown, damaged, truncated), MediaTypeError
    (not the declared type, no picture in it), MediaTooLargeError.
    """
    header = _header(data, limits, declared)
    extent = _survey(data, header, limits)
    with _broken_is_undecodable():
        for frame in _decoded(data, header, limits):
            return _info(data, header, extent, frame)
    raise EmptyMediaError("The media has no frames. Record it again.")


def sample_frames(
    data: bytes, *, rate_hz: float, max_frames: int, max_side: int, limits: MediaLimits, details: int = 0
) -> Frames:
    """Decodes all of `data` and keeps about `rate_hz` frames a second, at most `max_frames`, spread over the whole
    length. Kept frames are upright and area-resized so that no side exceeds `max_side` pixels (never enlarged). A
    picture gives one frame. details: of about how many frames, spread evenly, the centre is also kept at the original
    scale.

    Only kept frames are converted to RGB. Of a video with a damaged tail, the frames that decode are used. When the
    picture size changes within a video, later frames are fitted into the first one's size with black borders. A frame
    without a time is placed one frame after the previous one, at the video's frame rate. `timestamps` never go back;
    `source_timestamps` are as in the container. Raises as `probe` does.
    """
    header = _header(data, limits, None)
    extent = _survey(data, header, limits)
    step = max(1.0 / rate_hz, extent.duration_s / max_frames)
    every = math.ceil(max(1.0, min(max_frames, extent.duration_s / step)) / details) if details else 0
    canvas = _Canvas(max_side, header)
    images: list[npt.NDArray[np.uint8]] = []
    middles: list[npt.NDArray[np.uint8]] = []
    kept: list[float] = []
    times: list[float] = []
    grids: list[npt.NDArray[np.int16]] = []
    info, clock, last_slot = None, 0.0, -1
    with _broken_is_undecodable():
        for frame in _decoded(data, header, limits):
            info = info or _info(data, header, extent, frame)
            times.append(_time(frame, times, extent.frame_rate))
            grids.append(_luma_grid(frame))
            clock = max(clock, times[-1] - times[0])
            # Half a frame early is closer to the wanted time than half a frame late.
            slot = math.floor((clock + 0.5 / extent.frame_rate) / step)
            if slot > last_slot and len(images) < max_frames:
                if every and len(images) % every == 0:
                    middles.append(canvas.middle(frame))
                images.append(canvas.draw(frame))
                kept.append(clock)
                last_slot = slot
    if info is None:
        raise EmptyMediaError("The media has no frames. Record it again.")
    differences = [float(np.abs(after - before).mean()) for before, after in itertools.pairwise(grids)]
    return Frames(
        images=np.stack(images),
        timestamps=np.asarray(kept, np.float64),
        source_timestamps=np.asarray(times, np.float64) - times[0],
        source_differences=np.asarray(differences, np.float32),
        source_blocks=np.stack([_blocks(grid) for grid in grids]),
        info=info,
        details=tuple(middles),
    )


def _header(data: bytes, limits: MediaLimits, declared: str | None) -> Header:
    if len(data) > limits.max_bytes:
        raise MediaTooLargeError(f"The media is larger than {limits.max_bytes} bytes. Record a shorter one.")
    header = read_header(data, declared)
    _check_size(header.width, header.height, limits)
    return header


def _check_size(width: int, height: int, limits: MediaLimits) -> None:
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise MediaTooLargeError(f"The picture has {width} × {height} pixels, which is too many. Use a smaller one.")


@contextmanager
def _broken_is_undecodable() -> Iterator[None]:
    """Maps the exceptions that PyAV raises for broken bytes: its own errors, and built-in ones where it converts values
    from the file.
    """
    try:
        yield
    except (av.FFmpegError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError) as broken:
        raise UndecodableMediaError("The media is damaged or incomplete. Record it again.") from broken


@contextmanager
def _stream(data: bytes, header: Header, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened container and its first video stream. The decoder gets a pixel limit of its own, because the size can
    grow within a video. The decoder counts rows padded to 64 pixels, so the exact check is made on each frame.
    """
    options = {
        "max_pixels": str(limits.max_pixels + 64 * limits.max_side),
        "codec_whitelist": ",".join(_CODECS[header.kind]),
    }
    with av.open(io.BytesIO(data), "r", format=header.demuxer, options=options, metadata_errors="replace") as container:
        if not container.streams.video:
            raise MediaTypeError("The file contains no video. Upload a video or a picture.")
        stream = container.streams.video[0]
        codec = stream.codec_context
        if codec is None or codec.name not in _CODECS[header.kind]:
            raise MediaTypeError(
                "The video uses a codec that is not accepted. Record it as H.264, HEVC, VP8, VP9 or AV1."
            )
        _check_size(stream.width, stream.height, limits)
        codec.thread_count = 1  # parallelism comes from the graph
        codec.options = {"max_pixels": options["max_pixels"]}
        if header.kind == "image":
            # Without this option FFmpeg returns half a JPEG as a whole picture with grey below.
            codec.options = {**codec.options, "err_detect": "explode"}
        yield container, stream


def _survey(data: bytes, header: Header, limits: MediaLimits) -> _Extent:
    """Counts and times a video's packets without decoding any: WebM from a browser's recorder has no duration, and a
    header can state a false one.
    """
    if header.kind == "image":
        return _Extent(0.0, _USUAL_RATE)
    with _broken_is_undecodable():
        try:
            return _measure(data, header, limits)
        except av.error.EOFError as nothing:
            raise EmptyMediaError("The media has no frames. Record it again.") from nothing


def _measure(data: bytes, header: Header, limits: MediaLimits) -> _Extent:
    count, times, last = 0, list[float](), 0.0
    with _stream(data, header, limits) as (container, stream):
        if container.duration is not None and container.duration / av.time_base > limits.max_seconds:
            raise MediaTooLargeError(f"The video is longer than {limits.max_seconds:g} seconds. Record a shorter one.")
        rate = float(stream.average_rate or 0.0)
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                count += 1
                if count > limits.max_frames:
                    raise MediaTooLargeError(
                        f"The video has more than {limits.max_frames} frames. Record a shorter one."
                    )
                if packet.pts is not None and packet.time_base:
                    times.append(float(packet.pts * packet.time_base))
                    last = float((packet.duration or 0) * packet.time_base)
        except av.FFmpegError:
            pass  # a damaged tail: what came before it counts
    if not count:
        raise EmptyMediaError("The media has no frames. Record it again.")
    span = max(times) - min(times) if times else 0.0
    if span > limits.max_seconds:
        raise MediaTooLargeError(f"The video is longer than {limits.max_seconds:g} seconds. Record a shorter one.")
    if span > 0 and len(times) > 1:
        rate = (len(times) - 1) / span
    elif not rate > 0:
        rate = _USUAL_RATE
    return _Extent(min(span + (last if 0 < last <= span else 1.0 / rate), limits.max_seconds), rate)


def _decoded(data: bytes, header: Header, limits: MediaLimits) -> Iterator[VideoFrame]:
    """Yields all frames that decode. Damage is ignored when any frame decoded; otherwise its error is raised at the
    end.
    """
    damage: av.FFmpegError | None = None
    count = 0
    with _stream(data, header, limits) as (container, stream):
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as broken:
                damage = broken
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.FFmpegError as broken:
                damage = broken
                continue
            for frame in frames:
                count += 1
                _check_size(frame.width, frame.height, limits)
                yield frame
                if header.kind == "image" or count >= limits.max_frames:
                    return
    if damage is not None and not count:
        raise damage


def _time(frame: VideoFrame, before: list[float], frame_rate: float) -> float:
    """Seconds as in the container; if it has none, one frame after the previous frame."""
    if frame.pts is not None and frame.time_base:
        return float(frame.pts * frame.time_base)
    return before[-1] + 1.0 / frame_rate if before else 0.0


def _orientation(frame: VideoFrame, header: Header) -> Orientation:
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


def _info(data: bytes, header: Header, extent: _Extent, frame: VideoFrame) -> MediaInfo:
    orientation = _orientation(frame, header)
    width, height = (frame.height, frame.width) if orientation.transposed else (frame.width, frame.height)
    return MediaInfo(
        kind=header.kind,
        mime=header.mime,
        width=width,
        height=height,
        rotation=orientation.rotation,
        size_bytes=len(data),
        duration_s=extent.duration_s,
        frame_rate=extent.frame_rate if header.kind == "video" else 0.0,
    )


def _luma_grid(frame: VideoFrame) -> npt.NDArray[np.int16]:
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


def _blocks(grid: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Means over 8 × 8 of the points: float32 (8, 8). This reduces sensor noise to an eighth and keeps motion."""
    side = _GRID // 8
    return np.asarray(grid.reshape(8, side, 8, side).mean(axis=(1, 3)), np.float32)


class _Canvas:
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
        return _orientation(frame, self._header).apply(cut)

    def draw(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """One decoded frame → uint8 (H, W, 3)."""
        orientation = _orientation(frame, self._header)
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
