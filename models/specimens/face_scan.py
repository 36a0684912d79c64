"""Synthetic face scans: a person in a room films themselves and follows the case's challenge. Seeded.

The head (see `head`) turns about its neck in front of a wall far behind it, so the background shows its own parallax
when the hand shakes. The lamp drifts, the lens blurs, the sensor adds noise and H.264 removes detail. `face_attacks`
makes attacks in the same scene.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt

from models.liveness.challenge import Action, Challenge
from models.specimens.head import Camera, Head, Pose, build_head, render_head

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

_BODY_CM = 3.0
"""Depth of neck and shoulders behind the ears' plane."""
_WALL_CM = 240.0
_FACE_CM = 14.0
"""Width of a face, cheek to cheek."""


@dataclass(frozen=True)
class FaceConditions:
    """How the scan is filmed. Defaults are good conditions.

    distance_cm: camera to ears. gain: exposure, 1 as the photo was. warmth: colour of the lamp, -1 blue to 1 yellow.
    lamp: sideways place of the lamp, -1..1. noise: standard deviation in grey levels; blur: of the lens in pixels.
    shake_cm: of the hand. tempo: 1 is about 1.2 s an action. crf: of H.264, higher is worse.
    """

    distance_cm: float = 60.0
    gain: float = 1.0
    warmth: float = 0.0
    lamp: float = 0.0
    noise: float = 3.0
    blur: float = 0.7
    shake_cm: float = 0.5
    tempo: float = 1.0
    crf: int = 23
    frame_rate: int = 30
    camera: Camera = field(default_factory=Camera)

    @classmethod
    def draw(cls, rng: random.Random) -> FaceConditions:
        """What a phone in a home gives: lit well enough, not ideal."""
        return cls(
            distance_cm=rng.uniform(54, 68),
            gain=rng.uniform(0.7, 1.1),
            warmth=rng.uniform(-0.6, 0.8),
            lamp=rng.uniform(-0.8, 0.8),
            noise=rng.uniform(1.5, 5.0),
            blur=rng.uniform(0.5, 1.1),
            shake_cm=rng.uniform(0.2, 1.0),
            tempo=rng.uniform(0.9, 1.15),
            crf=rng.choice((21, 23, 26)),
        )

    @classmethod
    def draw_varied(cls, rng: random.Random) -> FaceConditions:
        """What all phones in all homes give, for error rates: lenses wide and long, near and far, upright and across,
        dim and bright, 15 to 30 frames a second, hardly and much compressed. A face is 22 to 42 % of the shorter side
        wide.
        """
        size = rng.choice(((640, 480), (640, 480), (480, 640), (480, 640), (960, 540), (1280, 720)))
        focal = max(size) * rng.uniform(0.75, 1.25)
        wanted = rng.uniform(0.22, 0.42) * min(size)
        return cls(
            distance_cm=min(max(_FACE_CM * focal / wanted, 34.0), 90.0),
            gain=rng.uniform(0.5, 1.2),
            warmth=rng.uniform(-1, 1),
            lamp=rng.uniform(-1, 1),
            noise=rng.uniform(1, 7),
            blur=rng.uniform(0.4, 1.5),
            shake_cm=rng.uniform(0.2, 1.4),
            tempo=rng.uniform(0.8, 1.25),
            crf=rng.randint(20, 31),
            frame_rate=rng.choice((15, 20, 24, 25, 30, 30)),
            camera=Camera(size, focal),
        )


@dataclass(frozen=True)
class FaceCapture:
    """A scan as it would be uploaded. data: MP4 with H.264; poses: the truth, one per frame (None: no head there)."""

    data: bytes
    frame_rate: int
    poses: tuple[Pose | None, ...]


def face_scan(
    portrait: str, challenge: Challenge, *, seed: int, conditions: FaceConditions | None = None
) -> FaceCapture:
    """Film `portrait` ("astronaut" or "grace_hopper") following the challenge: about 0.7 + 1.2 s an action, 640×480,
    30 fps.

    The same arguments give the same bytes with the same encoder. Conditions are drawn from the seed when not given.
    """
    rng = random.Random(f"scan {seed}")
    conditions = conditions or FaceConditions.draw(rng)
    poses = plan_poses(challenge, rng, conditions)
    scene = Scene(rng, conditions, len(poses))
    head = build_head(portrait)
    data = encode((scene.frame(i, scene.person(i, head, pose)) for i, pose in enumerate(poses)), conditions)
    return FaceCapture(data, conditions.frame_rate, tuple(poses))


def plan_poses(challenge: Challenge, rng: random.Random, conditions: FaceConditions) -> list[Pose]:
    """One pose per frame: still, then out, held and back for each action, with the sway nobody can suppress.

    Turns reach 18° to 28°, nods 13° to 20°, moving closer 1.35 to 1.55 times nearer.
    """
    rate = conditions.frame_rate
    ends = {  # yaw, pitch, log of nearness
        Action.TURN_LEFT: (rng.uniform(18, 28), rng.uniform(-3, 3), 0.0),
        Action.TURN_RIGHT: (-rng.uniform(18, 28), rng.uniform(-3, 3), 0.0),
        Action.LOOK_UP: (rng.uniform(-3, 3), rng.uniform(13, 20), 0.0),
        Action.LOOK_DOWN: (rng.uniform(-3, 3), -rng.uniform(13, 20), 0.0),
        Action.MOVE_CLOSER: (0.0, 0.0, float(np.log(rng.uniform(1.35, 1.55)))),
    }
    path = [np.zeros((round(0.7 * rate / conditions.tempo), 3))]
    for action in challenge.actions:
        end = np.array(ends[action])
        out, held, back = (
            round(rng.uniform(*s) * rate / conditions.tempo) for s in ((0.4, 0.55), (0.2, 0.3), (0.4, 0.5))
        )
        share = np.concatenate([_ease(out), np.ones(held), _ease(back)[::-1], np.zeros(round(0.08 * rate))])
        path.append(share[:, None] * end)
    wanted = np.concatenate(path)
    n = len(wanted)
    sway = wander(rng, n, rate, 7)
    x, y = rng.uniform(-2.5, 2.5), rng.uniform(-1.0, 2.5)
    shake = conditions.shake_cm
    return [
        Pose(
            yaw=float(w[0] + 1.5 * s[0]),
            pitch=float(w[1] + 1.2 * s[1]),
            roll=float(1.5 * s[2] - 0.06 * w[0]),
            place=(
                float(x + shake * s[3] + 0.03 * w[0]),
                float(y + shake * s[4]),
                float(conditions.distance_cm * np.exp(-w[2]) + shake * s[5]),
            ),
        )
        for w, s in zip(wanted, sway, strict=True)
    ]


def _ease(n: int) -> F64:
    """0 → 1 in n steps along the minimum-jerk curve of human movement (Flash and Hogan 1985)."""
    t = np.arange(1, n + 1) / n
    return np.asarray(10 * t**3 - 15 * t**4 + 6 * t**5)


def wander(rng: random.Random, n: int, rate: int, channels: int) -> F64:
    """float64 (n, channels): smooth movement of about ±1 out of four slow sines (0.15 to 1.1 Hz)."""
    t = np.arange(n)[:, None] / rate
    total = np.zeros((n, channels))
    for _ in range(4):
        speed, phase = ([rng.uniform(a, b) for _ in range(channels)] for a, b in ((0.15, 1.1), (0, 2 * np.pi)))
        total += 0.5 * np.sin(2 * np.pi * np.array(speed) * t + np.array(phase))
    return total


class Scene:
    """A room, its light and its camera for n frames; `frame` draws what is put before it."""

    def __init__(self, rng: random.Random, conditions: FaceConditions, n: int) -> None:
        self.conditions = conditions
        noise = np.random.default_rng(rng.getrandbits(32))
        w, h = conditions.camera.size
        self._wall = _wall(noise, w, h)
        self._drift = wander(rng, n, conditions.frame_rate, 5)
        self._grain = np.clip(noise.normal(0, conditions.noise, (h + 64, w + 64, 3)) + 128, 0, 255).astype(np.uint8)
        self._offsets = noise.integers(0, 64, (n, 2))
        colour = np.array([1 + 0.10 * conditions.warmth, 1.0, 1 - 0.14 * conditions.warmth])
        levels = np.arange(256)[:, None] * conditions.gain * colour
        self._levels = np.clip(255 * (1 - np.exp(-levels / 255 * 1.7)) / (1 - np.exp(-1.7)) * 0.82 + 4, 0, 255)

    def person(self, i: int, head: Head, pose: Pose) -> tuple[U8, U8]:
        """Layers of a person in the light of frame i: shoulders, then head; uint8 (H, W, 4) RGBA each."""
        camera, drift = self.conditions.camera, self._drift[i]
        light = (self.conditions.lamp + 0.1 * drift[2], -0.35 + 0.05 * drift[3], -1.0)
        return _shoulders(head, pose, camera), render_head(head, pose, camera, light)

    def frame(self, i: int, layers: Sequence[U8]) -> U8:
        """Frame i with RGBA layers before the wall, farthest first: uint8 (H, W, 3) RGB as the sensor gives it."""
        return self.finish(i, self.place(i, layers))

    def place(self, i: int, layers: Sequence[U8]) -> U8:
        """The picture before lens and sensor."""
        c = self.conditions
        shift = c.camera.focal * c.shake_cm * self._drift[i, :2] / _WALL_CM
        view = np.array([[1, 0, shift[0] - 32], [0, 1, shift[1] - 32]])
        wall = cv2.warpAffine(self._wall, view, c.camera.size, borderMode=cv2.BORDER_REPLICATE)
        picture = np.asarray(wall, np.uint8)
        for layer in layers:
            _lay(picture, layer)
        return picture

    def finish(self, i: int, picture: U8) -> U8:
        """Lens blur, exposure and colour of the light, sensor noise."""
        c = self.conditions
        blurred = cv2.GaussianBlur(picture, (0, 0), c.blur)
        levels = np.clip(self._levels * (1 + 0.025 * self._drift[i, 4]), 0, 255).astype(np.uint8)
        exposed = cv2.LUT(blurred, levels[:, None, :])
        y, x = self._offsets[i]
        grain = self._grain[y : y + picture.shape[0], x : x + picture.shape[1]]
        return np.asarray(cv2.addWeighted(exposed, 1, grain, 1, -128), np.uint8)


def _wall(noise: np.random.Generator, w: int, h: int) -> U8:
    """A wall with pictures and shelves, uint8 (h + 64, w + 64, 3), out of focus."""
    w, h = w + 64, h + 64
    tone = noise.uniform(110, 205, 3)
    ramp = np.linspace(noise.uniform(0.85, 1), noise.uniform(0.85, 1), w)[None, :, None]
    wall = np.broadcast_to(tone * ramp, (h, w, 3)).copy()
    for _ in range(int(noise.integers(5, 11))):
        x, y = int(noise.integers(0, w)), int(noise.integers(0, h))
        dx, dy = int(noise.integers(15, 160)), int(noise.integers(15, 140))
        wall[y : y + dy, x : x + dx] = noise.uniform(30, 230, 3)
        wall[y + 5 : y + dy - 5, x + 5 : x + dx - 5] *= noise.uniform(0.6, 1.2)
    wall += cv2.GaussianBlur(noise.normal(0, 40, (h, w, 1)), (0, 0), 3)[..., None]
    return np.asarray(np.clip(cv2.GaussianBlur(wall, (0, 0), 2.2), 0, 255).astype(np.uint8))


def _shoulders(head: Head, pose: Pose, camera: Camera) -> U8:
    """Neck and shoulders: a plane behind the ears that follows the head's place, and a little of its turn."""
    x, y, z = pose.place
    k = camera.focal / (z + _BODY_CM)
    zoom = head.scale * k
    left = k * (x + 0.02 * pose.yaw) + camera.size[0] / 2 - zoom * head.origin[0]
    top = k * y + camera.size[1] / 2 - zoom * head.origin[1]
    view = np.array([[zoom, 0, left], [0, zoom, top]])
    return np.asarray(cv2.warpAffine(head.body, view, camera.size, flags=cv2.INTER_LINEAR))


def _lay(picture: U8, layer: U8) -> None:
    """Lay an RGBA layer over the picture, in place."""
    rows, cols = np.flatnonzero(layer[..., 3].any(1)), np.flatnonzero(layer[..., 3].any(0))
    if not len(rows):
        return
    box = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    alpha = cv2.merge([layer[box][..., 3]] * 3)
    over = cv2.multiply(layer[box][..., :3], alpha, scale=1 / 255)
    picture[box] = cv2.add(over, cv2.multiply(picture[box], 255 - alpha, scale=1 / 255))


def encode(frames: Iterable[U8], conditions: FaceConditions) -> bytes:
    """RGB frames → H.264 in MP4, as a phone or a browser would upload it."""
    w, h = conditions.camera.size
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(conditions.frame_rate))
        stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
        stream.options = {"crf": str(conditions.crf), "preset": "superfast", "threads": "1"}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()
