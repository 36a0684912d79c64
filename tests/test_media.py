"""Real files made by PyAV, broken in the ways that uploads are broken."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.codec import CodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import EmptyMediaError, MediaError, MediaTooLargeError, MediaTypeError, UndecodableMediaError
from models.media import Frames, MediaLimits, probe, sample_frames
from models.media_header import Orientation

LIMITS = MediaLimits()
RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)
Image = npt.NDArray[np.uint8]


def card(width: int = 96, height: int = 64) -> Image:
    """Four quarters, so that every orientation looks different: red, green / blue, black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    return image


def corner_colours(image: Image) -> list[str]:
    """Names of the colours at top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    names = []
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        pixel = image[height * y // 4, width * x // 4].astype(int)
        names.append("black" if pixel.max() < 60 else ("red", "green", "blue")[int(pixel.argmax())])
    return names


def video(
    images: Sequence[Image],
    *,
    container: str = "mp4",
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    rotate: int = 0,
    options: dict[str, str] | None = None,
) -> bytes:
    """Encode images; pts in milliseconds, 40 ms apart by default."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height = images[0].shape[1], images[0].shape[0]
        odd = images[0].shape[0] % 2 or images[0].shape[1] % 2
        stream.pix_fmt = "yuv444p" if odd else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 5
        if rotate:
            stream.set_display_rotation(rotate)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 40 * i if pts is None else pts[i]
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def picture(image: Image, codec: str = "mjpeg", pix_fmt: str = "yuvj444p") -> bytes:
    encoder: Any = CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = image.shape[1], image.shape[0], pix_fmt
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def png(image: Image) -> bytes:
    return picture(image, "png", "rgb24")


def webp(image: Image) -> bytes:
    return picture(image, "libwebp", "yuv420p")


def exif(orientation: int, order: str = "<") -> bytes:
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def jpeg_with_exif(image: Image, orientation: int, order: str) -> bytes:
    body, jpeg = b"Exif\0\0" + exif(orientation, order), picture(image)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def png_with_exif(image: Image, orientation: int, order: str) -> bytes:
    body, data = exif(orientation, order), png(image)
    return (
        data[:33]
        + struct.pack(">I", len(body))
        + b"eXIf"
        + body
        + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        + data[33:]
    )


def webp_with_exif(image: Image, orientation: int, order: str) -> bytes:
    height, width = image.shape[:2]
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = exif(orientation, order)
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + canvas + webp(image)[12:]
    chunks += b"EXIF" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def moving(count: int, width: int = 96, height: int = 64) -> list[Image]:
    images = []
    for i in range(count):
        image = card(width, height)
        image[height // 2 + 4 : height // 2 + 14, width // 2 + 2 * i : width // 2 + 2 * i + 8] = 255
        images.append(image)
    return images


def sample(data: bytes, *, rate_hz: float = 100.0, max_frames: int = 200, max_side: int = 4096) -> Frames:
    return sample_frames(data, rate_hz=rate_hz, max_frames=max_frames, max_side=max_side, limits=LIMITS)


MP4 = video(moving(20))
WEBM = video(moving(10), container="webm", codec="libvpx", options={"live": "1"})


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


UPRIGHT = ["red", "green", "blue", "black"]
SHOWN = {  # how the four quarters lie after a turn of the display matrix, anti-clockwise degrees as FFmpeg counts
    90: ["green", "black", "red", "blue"],
    180: ["black", "blue", "green", "red"],
    270: ["blue", "red", "black", "green"],
}


@pytest.mark.parametrize("anticlockwise", [90, 180, 270])
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_rotated_video_comes_upright(anticlockwise: int, container: str) -> None:
    data = video(moving(3), rotate=anticlockwise, container=container)
    info = probe(data, LIMITS)
    assert info.rotation == 360 - anticlockwise
    assert (info.width, info.height) == ((96, 64) if anticlockwise == 180 else (64, 96))
    frames = sample(data)
    assert frames.images.shape[1:] == (info.height, info.width, 3)
    assert corner_colours(frames.images[0]) == SHOWN[anticlockwise]


def test_a_mirrored_display_matrix_is_followed() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(card(), format="rgb24")))
        out.mux(stream.encode(None))
    assert corner_colours(sample(buffer.getvalue()).images[0]) == ["green", "red", "black", "blue"]


EXIF_SHOWN = {  # where CIPA DC-008 says that the stored first row and column lie
    1: UPRIGHT,
    2: ["green", "red", "black", "blue"],
    3: ["black", "blue", "green", "red"],
    4: ["blue", "black", "red", "green"],
    5: ["red", "blue", "green", "black"],
    6: ["blue", "red", "black", "green"],
    7: ["black", "green", "blue", "red"],
    8: ["green", "black", "red", "blue"],
    9: UPRIGHT,
}


@pytest.mark.parametrize("orientation", EXIF_SHOWN)
@pytest.mark.parametrize("make", [jpeg_with_exif, png_with_exif, webp_with_exif])
def test_exif_orientation_is_followed(make: Callable[[Image, int, str], bytes], orientation: int) -> None:
    data = make(card(), orientation, "<>"[orientation % 2])
    frames = sample(data)
    assert corner_colours(frames.images[0]) == EXIF_SHOWN[orientation]
    assert frames.images.shape[1:3] == ((96, 64) if orientation in (5, 6, 7, 8) else (64, 96))
    assert (frames.info.height, frames.info.width) == frames.images.shape[1:3]


def test_rotation_of_an_orientation_is_clockwise() -> None:
    assert [Orientation.from_exif(value).rotation for value in (1, 6, 3, 8)] == [0, 90, 180, 270]


def test_frames_are_sampled_by_time() -> None:
    frames = sample(MP4, rate_hz=5)
    assert frames.timestamps == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=0.021)
    assert len(frames.source_timestamps) == 20
    assert len(frames.source_differences) == 19


def test_few_frames_are_spread_over_the_whole_length() -> None:
    frames = sample(MP4, rate_hz=25, max_frames=4)
    assert len(frames.images) == 4
    assert frames.timestamps == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=0.021)


def test_variable_frame_rate_is_sampled_by_time_and_not_by_count() -> None:
    times = [0, 10, 20, 30, 40, 50, 500, 1000, 1010, 1020, 1500]
    frames = sample(video(moving(len(times)), pts=times), rate_hz=2)
    assert frames.timestamps == pytest.approx([0.0, 0.5, 1.0, 1.5], abs=0.05)
    assert frames.source_timestamps * 1000 == pytest.approx(times, abs=1)


def test_repeated_source_frames_differ_by_nothing_and_moving_ones_do() -> None:
    images = moving(12)
    frozen = images[:6] + [images[5]] * 4 + images[6:]
    differences = sample(video(frozen, codec="libx264", options={"qp": "0"})).source_differences
    assert (differences[:5] > 0).all()
    assert (differences[6:9] == 0).all()
    assert (differences[9:] > 0).all()


def test_a_picture_is_one_frame() -> None:
    frames = sample(webp(card()))
    assert frames.images.shape == (1, 64, 96, 3)
    assert frames.images.dtype == np.uint8
    assert frames.timestamps.tolist() == [0.0]
    assert frames.source_timestamps.tolist() == [0.0]
    assert frames.source_differences.shape == (0,)
    assert (frames.info.duration_s, frames.info.frame_rate) == (0.0, 0.0)


@pytest.mark.parametrize(("width", "height"), [(97, 65), (33, 64), (1, 1)])
def test_odd_sizes(width: int, height: int) -> None:
    assert sample(video([card(width, height)] * 2)).images.shape[1:] == (height, width, 3)
    assert sample(png(card(width, height))).images.shape[1:] == (height, width, 3)


def test_resizing_averages_and_never_enlarges() -> None:
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[::2] = 255
    small = sample(png(stripes), max_side=48).images[0]
    assert small.shape == (32, 48, 3)
    assert abs(small.astype(int) - 127).max() <= 3
    assert sample(png(stripes), max_side=500).images[0].shape == (64, 96, 3)


def test_a_size_that_changes_on_the_way_is_fitted_into_the_first() -> None:
    first, second = (video([card(w, h)] * 4, container="webm", codec="libvpx") for w, h in ((96, 64), (64, 96)))
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(first), "r") as a,
        av.open(io.BytesIO(second), "r") as b,
        av.open(buffer, "w", format="webm") as out,
    ):
        stream = out.add_stream_from_template(a.streams.video[0])
        for offset, source in ((0, a), (160, b)):
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.pts = packet.dts = (packet.pts or 0) + offset
                    packet.stream = stream
                    out.mux(packet)
    frames = sample(buffer.getvalue())
    assert frames.images.shape == (8, 64, 96, 3)
    assert corner_colours(frames.images[0]) == UPRIGHT
    turned = frames.images[-1]
    assert corner_colours(turned[:, 27:69]) == UPRIGHT
    assert turned[:, :24].max() < 20


def test_a_frame_without_colour_conversion_of_eight_bits_is_read_too() -> None:
    deep = picture(card(), "png", "rgb48be")
    assert corner_colours(sample(deep).images[0]) == UPRIGHT


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
