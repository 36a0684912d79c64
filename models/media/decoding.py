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
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from models.errors import EmptyMediaError, MediaTooLargeError, MediaTypeError, UndecodableMediaError
from models.media.canvas import Canvas, block_means, luma_grid, orientation_of
from models.media.header import Header, read_header

# Codecs that phones and browsers write into the accepted containers. All others are refused: rarely used decoders
# are where hostile files find their bugs.
_CODECS = {
    "video": ("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1", "mpeg4"),
    "image": ("mjpeg", "png", "apng", "webp"),
}
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
    canvas = Canvas(max_side, header)
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
            grids.append(luma_grid(frame))
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
        source_blocks=np.stack([block_means(grid) for grid in grids]),
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


def _info(data: bytes, header: Header, extent: _Extent, frame: VideoFrame) -> MediaInfo:
    orientation = orientation_of(frame, header)
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
