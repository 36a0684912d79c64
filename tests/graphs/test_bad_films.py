"""Unusual videos through the real nodes: sizes that change, timestamps that do not advance, few or no frames.

Also faces at the edge, faces from the side, and a drawn face.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from models.errors import EmptyMediaError
from models.media.decoding import probe
from models.specimens.capture import back_scene, front_scene
from models.specimens.document import Specimen, make_specimen
from models.specimens.face_scan import FaceConditions, Scene, encode
from models.specimens.head import Pose, build_head
from tests.support.made_media import LIMITS, Image, video
from tests.support.node_results import TODAY, clear, codes, results

TENTH = FaceConditions(frame_rate=10)
PROFILE = "recorded"
LIVE = ("liveness_geometric_face", "match")
"""What says that a living person who is the one on the document was filmed."""


@pytest.fixture(scope="module")
def specimen() -> Specimen:
    return make_specimen(610, design="azure", portrait="astronaut", today=TODAY)


@pytest.fixture(scope="module")
def back(specimen: Specimen) -> list[Image]:
    """Twelve frames of a back: uint8 (720, 1280, 3)."""
    return list(back_scene(specimen, seed=610, seconds=0.5).frames())


def webm(images: Sequence[Image]) -> bytes:
    return video(images, container="webm", codec="libvpx")


def repacked(sources: Sequence[bytes], times: Sequence[int]) -> bytes:
    """The packets of several WebM files in one file. times: of each packet, in milliseconds."""
    buffer, waiting = io.BytesIO(), iter(times)
    with av.open(buffer, "w", format="webm") as out:
        stream = None
        for source in sources:
            with av.open(io.BytesIO(source), "r") as opened:
                stream = stream or out.add_stream_from_template(opened.streams.video[0])
                for packet in opened.demux(opened.streams.video[0]):
                    if packet.size:
                        packet.pts = packet.dts = next(waiting)
                        packet.time_base = Fraction(1, 1000)
                        packet.stream = stream
                        out.mux(packet)
    return buffer.getvalue()


def halved(image: Image) -> Image:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def turned(image: Image) -> Image:
    return np.ascontiguousarray(np.rot90(image))


def same(image: Image) -> Image:
    return image


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (same, halved),
        (halved, same),
        (same, turned),  # two of three sampled frames show the card small between black bars
    ],
    ids=["shrinks", "grows", "turns"],
)
def test_a_size_that_changes_on_the_way(
    first: Callable[[Image], Image], second: Callable[[Image], Image], back: list[Image]
) -> None:
    halves = [webm([first(image) for image in back[:6]]), webm([second(image) for image in back[6:]])]
    data = repacked(halves, range(0, 12 * 60, 60))
    height, width = first(back[0]).shape[:2]
    info = probe(data, LIMITS)
    assert (info.height, info.width) == (height, width)
    found = results({"back": data}, PROFILE)
    assert "mrz_back" in clear(found)
    assert codes(found["quality_back"]) == []


def test_a_film_whose_frames_all_come_at_once_is_no_recording(back: list[Image]) -> None:
    """Without timestamps nothing shows that the film is uncut, but its pictures can still be judged."""
    data = repacked([webm(back)], [0] * len(back))
    assert probe(data, LIMITS).duration_s < 0.1
    found = results({"back": data, "face": data}, PROFILE)
    assert "mrz_back" in clear(found)
    assert codes(found["continuity_face"]) == ["source_repeated_frames"]


def test_an_mp4_whose_times_stand_still(back: list[Image]) -> None:
    """All durations in its table of sample times (`stts`) are 0."""
    data = bytearray(video(back))
    at = data.index(b"stts")
    for entry in range(int.from_bytes(data[at + 8 : at + 12], "big")):
        data[at + 16 + 8 * entry : at + 20 + 8 * entry] = bytes(4)
    found = results({"back": bytes(data), "face": bytes(data)}, PROFILE)
    assert "mrz_back" in clear(found)
    assert found["continuity_face"].result != "clear"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("webm", "libvpx")])
def test_a_film_without_frames(container: str, codec: str) -> None:
    buffer = io.BytesIO()
    options = {"movflags": "empty_moov"} if container == "mp4" else {}
    with av.open(buffer, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.start_encoding()
    data = buffer.getvalue()
    with pytest.raises(EmptyMediaError):
        probe(data, LIMITS)
    found = results({"front": data, "back": data, "face": data}, PROFILE)
    assert not clear(found)
    assert found["quality_face"].properties["error"] == "empty_media"


def test_a_film_of_one_frame_shows_no_hologram_and_nobody_alive(specimen: Specimen) -> None:
    """Continuity was clear for a face of one frame: too few to compare counted as no change. That the one face is the
    holder's is another question.
    """
    front = next(front_scene(specimen, seed=610, seconds=0.1).frames())
    found = results({"front": video([front]), "face": filmed([Pose(0, 0, 0, (0, 0, 60))])}, PROFILE)
    assert {"quality_front", "quality_face"} <= clear(found), "one sharp frame is a good picture"
    assert not clear(found) & {
        "hologram_front", "liveness_geometric_face", "liveness_passive_face", "continuity_face",
    }  # fmt: skip


def filmed(poses: Sequence[Pose]) -> bytes:
    """The astronaut under these poses, ten a second."""
    scene, head = Scene(random.Random(5), TENTH, len(poses)), build_head("astronaut")
    return encode((scene.frame(i, scene.person(i, head, pose)) for i, pose in enumerate(poses)), TENTH)


SWAY = 3 * np.sin(np.arange(12))


@pytest.mark.parametrize(
    "poses",
    [
        [Pose(float(yaw), 0, 0, (-29, 0, 60)) for yaw in SWAY],
        [Pose(float(yaw), 0, 0, (0, -20, 60)) for yaw in SWAY],
        [Pose(85 + float(yaw), 0, 0, (0, 0, 60)) for yaw in SWAY],
        [Pose(60 + float(yaw), 0, 0, (0, 0, 60)) for yaw in SWAY],
    ],
    ids=["half beyond the side", "half beyond the top", "in profile", "between"],
)
def test_a_face_at_the_edge_or_from_the_side_is_asked_for_again(poses: list[Pose]) -> None:
    """Regression: `continuity` was clear when no face was found at all, because then no face changed."""
    found = results({"face": filmed(poses)}, PROFILE)
    assert codes(found["quality_face"]) == ["no_face_in_video"]
    assert not clear(found) & {*LIVE, "quality_face", "continuity_face"}


def doll(shift: float, scale: float) -> Image:
    """A childlike drawing of a face, which the detector accepts as a face: uint8 (480, 640, 3)."""
    picture = np.full((480, 640, 3), (150, 170, 180), np.uint8)

    def oval(x: float, y: float, wide: float, high: float, colour: tuple[int, int, int], stop: int = 360) -> None:
        middle = (round(320 + shift + scale * x), round(240 + scale * y))
        axes = (round(scale * wide), round(scale * high))
        cv2.ellipse(picture, middle, axes, 0, 0, stop, colour, -1, cv2.LINE_AA)

    oval(0, 0, 95, 125, (235, 200, 180))
    for side in (-1, 1):
        oval(38 * side, -25, 20, 13, (255, 255, 255))
        oval(38 * side, -25, 9, 9, (40, 60, 120))
        oval(38 * side, -25, 4, 4, (0, 0, 0))
        oval(38 * side, -48, 22, 5, (90, 60, 40))
        oval(55 * side, 30, 16, 16, (240, 160, 150))
    oval(0, 14, 9, 6, (200, 150, 130))
    oval(0, 50, 30, 16, (200, 40, 60), stop=180)
    return picture


def test_a_drawn_doll_is_neither_alive_nor_the_holder(specimen: Specimen) -> None:
    front = next(front_scene(specimen, seed=610, seconds=0.1).frames())
    sway = np.sin(np.arange(30) / 3)
    film = encode([doll(60 * float(s), 1 + 0.2 * float(s)) for s in sway], TENTH)
    found = results({"front": video([front]), "face": film}, PROFILE)
    assert found["quality_face"].properties["several_share"] == 0.0
    assert "quality_face" in clear(found), "the detector takes it for a face; others have to tell"
    assert "portrait_front" in clear(found)
    assert not clear(found) & set(LIVE)
    assert codes(found["match"]) == ["selfie_face_mismatch"]
