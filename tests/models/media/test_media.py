"""Real files made by PyAV, broken in the ways that uploads are broken."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import EmptyMediaError, MediaError, MediaTooLargeError, MediaTypeError, UndecodableMediaError
from models.media.decoding import MediaLimits, probe, sample_frames
from tests.support.made_media import (
    LIMITS,
    MP4,
    WEBM,
    card,
    corner_colours,
    moving,
    picture,
    png,
    sample,
    video,
    webp,
    webp_with_exif,
)


@pytest.mark.parametrize(
    ("data", "mime", "kind"),
    [
        (MP4, "video/mp4", "video"),
        (video(moving(3), container="mov"), "video/quicktime", "video"),
        (WEBM, "video/webm", "video"),
        (picture(card()), "image/jpeg", "image"),
        (png(card()), "image/png", "image"),
        (webp(card()), "image/webp", "image"),
    ],
)
def test_every_accepted_type_is_told_by_its_content(data: bytes, mime: str, kind: str) -> None:
    info = probe(data, LIMITS, declared=mime + "; codecs=any")
    assert (info.mime, info.kind, info.width, info.height, info.rotation) == (mime, kind, 96, 64, 0)
    assert info.size_bytes == len(data)
    assert corner_colours(sample(data).images[0]) == ["red", "green", "blue", "black"]


def test_mp4_and_quicktime_are_one_family() -> None:
    assert probe(MP4, LIMITS, "video/quicktime").mime == "video/mp4"


def test_a_recorder_s_webm_without_a_duration_is_timed_from_its_packets() -> None:
    with av.open(io.BytesIO(WEBM), "r") as container:
        assert container.duration is None
    info = probe(WEBM, LIMITS)
    assert info.duration_s == pytest.approx(0.4, abs=0.01)
    assert info.frame_rate == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize("declared", ["image/png", "video/mp4", "application/pdf", ""])
def test_mislabelled_media_are_refused(declared: str) -> None:
    with pytest.raises(MediaTypeError):
        probe(picture(card()), LIMITS, declared)


def test_a_still_picture_in_a_video_container_s_clothes_is_refused() -> None:
    with pytest.raises(MediaTypeError):
        probe(b"\0\0\0\x18ftypheic" + bytes(64), LIMITS)


@pytest.mark.parametrize("convert", [sample, lambda data: probe(data, LIMITS)])
def test_no_bytes(convert: Callable[[bytes], object]) -> None:
    with pytest.raises(EmptyMediaError):
        convert(b"")


def test_a_video_of_no_frames_is_empty() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as out:
        stream: Any = out.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        out.start_encoding()
    with pytest.raises(EmptyMediaError):
        probe(buffer.getvalue(), LIMITS)


@pytest.mark.parametrize(
    "data", [b"\0", b"hello, world" * 20, bytes(4096), b"%PDF-1.7\n" + bytes(100), b"GIF89a" + bytes(50)]
)
def test_unknown_bytes(data: bytes) -> None:
    with pytest.raises(UndecodableMediaError):
        probe(data, LIMITS)


def test_audio_only_is_the_wrong_type() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream: Any = out.add_stream("aac", rate=44100)
        for i in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1024 * i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(MediaTypeError):
        probe(buffer.getvalue(), LIMITS, "video/mp4")


@pytest.mark.parametrize("data", [picture(moving(9)[8]), png(card()), webp(card())])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated_pictures_are_never_shown_half(data: bytes, part: float) -> None:
    with pytest.raises(UndecodableMediaError):
        probe(data[: int(len(data) * part)], LIMITS)


def test_an_mp4_cut_before_its_index_is_undecodable() -> None:
    with pytest.raises(UndecodableMediaError):
        probe(MP4[: len(MP4) // 2], LIMITS)


@pytest.mark.parametrize("data", [video(moving(20), options={"movflags": "frag_keyframe+empty_moov"}), WEBM])
def test_a_damaged_tail_leaves_what_decoded(data: bytes) -> None:
    whole = len(sample(data).source_timestamps)
    frames = sample(data[: int(len(data) * 0.8)])
    assert 1 <= len(frames.images) < whole
    assert corner_colours(frames.images[0]) == ["red", "green", "blue", "black"]


def huge_png(side: int) -> bytes:
    data = bytearray(png(card()))
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def huge_jpeg(side: int) -> bytes:
    data = bytearray(picture(card()))
    frame_header = data.index(b"\xff\xc0")
    data[frame_header + 5 : frame_header + 9] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("data", [huge_png(20_000), huge_jpeg(20_000), png(card(4098, 2))])
def test_pictures_past_the_limit_are_refused_by_their_header(data: bytes) -> None:
    with pytest.raises(MediaTooLargeError):
        probe(data, LIMITS)


def test_every_limit_is_held() -> None:
    for limits in (
        MediaLimits(max_bytes=len(MP4) - 1),
        MediaLimits(max_seconds=0.5),
        MediaLimits(max_side=95),
        MediaLimits(max_pixels=96 * 64 - 1),
        MediaLimits(max_frames=19),
    ):
        with pytest.raises(MediaTooLargeError):
            probe(MP4, limits)
    assert probe(MP4, MediaLimits(len(MP4), 0.81, 96, 96 * 64, 20)).frame_rate == pytest.approx(25)


def test_a_false_duration_in_a_short_file_does_not_pass() -> None:
    with pytest.raises(MediaTooLargeError):
        probe(video(moving(3), pts=[0, 40, 3_600_000]), LIMITS)


@pytest.mark.parametrize("data", [MP4, WEBM, picture(card()), png(card()), webp_with_exif(card(), 6, "<")])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(draw=st.data())
def test_mutated_bytes_raise_nothing_but_media_errors(data: bytes, draw: st.DataObject) -> None:
    broken = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 8))):
        at = draw.draw(st.integers(0, len(broken) - 1))
        broken[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=3))
    try:
        frames = sample_frames(bytes(broken), rate_hz=10, max_frames=5, max_side=64, limits=LIMITS)
    except MediaError:
        return
    assert 1 <= len(frames.images) <= 5
    assert max(frames.images.shape[1:3]) <= 64
    assert np.isfinite(frames.timestamps).all()
    assert (np.diff(frames.timestamps) >= 0).all()
