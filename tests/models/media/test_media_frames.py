"""What comes out of media that are whole: upright, sampled by time, in one size."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Picture
from skimage.data import astronaut

from models.media.decoding import MediaLimits, probe, sample_frames
from models.media.header import Orientation
from tests.support.made_media import (
    LIMITS,
    MP4,
    UPRIGHT,
    Image,
    card,
    corner_colours,
    jpeg_with_exif,
    moving,
    picture,
    png,
    png_with_exif,
    sample,
    video,
    webp,
    webp_with_exif,
)

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


@pytest.mark.parametrize("rotate", [0, 90])
def test_details_are_the_middle_at_the_scale_of_the_camera(rotate: int) -> None:
    data = video(moving(6, width=720, height=600), rotate=rotate)
    frames = sample_frames(data, rate_hz=100, max_frames=6, max_side=64, limits=MediaLimits(), details=3)
    assert max(frames.images.shape[1:3]) == 64
    whole = sample(data, max_frames=6).images
    assert [detail.shape for detail in frames.details] == [(512, 512, 3)] * 3
    top, left = (side // 2 - 256 for side in whole.shape[1:3])
    for detail, image in zip(frames.details, whole[::2], strict=True):
        assert np.abs(detail.astype(int) - image[top : top + 512, left : left + 512]).mean() < 1
    assert sample(data).details == ()


def test_small_frames_are_details_as_they_are() -> None:
    frames = sample_frames(MP4, rate_hz=100, max_frames=20, max_side=4096, limits=MediaLimits(), details=50)
    assert len(frames.details) == len(frames.images)
    assert all(detail.shape == image.shape for detail, image in zip(frames.details, frames.images, strict=True))


def test_blocks_follow_the_light() -> None:
    frames = sample(video([np.full((64, 96, 3), level, np.uint8) for level in (40, 90, 200)]))
    assert frames.source_blocks.shape == (3, 8, 8)
    assert (np.diff(frames.source_blocks.mean(axis=(1, 2))) > 30).all()


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


def test_a_picture_has_the_colours_that_others_decode() -> None:
    """swscale's short cuts moved the colours of photographs by 0.8 levels on average, and edges by far more."""
    buffer = io.BytesIO()
    Picture.fromarray(astronaut()).save(buffer, "JPEG", quality=90)  # type: ignore[no-untyped-call]
    with Picture.open(buffer) as opened:
        wanted = np.asarray(opened.convert("RGB"), int)
    [found] = sample_frames(buffer.getvalue(), rate_hz=1, max_frames=1, max_side=4096, limits=MediaLimits()).images
    assert np.abs(found - wanted).mean() < 0.5
