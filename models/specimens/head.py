"""A head with depth, made from one portrait photo: what `face_scan` films.

The photo's head is laid over a relief (inflated outline, nose ridge, eye sockets, brow, chin) whose depth follows a
few facial points. A ray is marched from each pixel to the relief, so nose, cheeks and ears move against each other with
true parallax, as on a real head. The back of the head mirrors the front, which fills the rim that a turn brings into
view. Shoulders and neck are a separate layer behind the chin. Eyes and mouth do not move, and the far side of the nose
has no texture of its own: the result is good up to about ±30° of turn.

Lengths are centimetres, in head coordinates: x to the right of the picture, y down, z away from the camera, origin
between the eyes at the depth of the ears. The scale comes from the outer eye corners, set 9.0 cm apart (adult mean,
Farkas, Anthropometry of the Head and Face, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import matplotlib.cbook
import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image
from scipy import ndimage

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

EYE_CORNERS_CM = 9.0
PIVOT_CM = np.array([0.0, 5.0, 1.5])
"""The joint the head turns and nods about: under the ears, a little behind them."""
_DEPTH_CM = 9.5
_STEPS = 18
_BACK_CM = 6.0


@dataclass(frozen=True)
class PortraitPoints:
    """Where things are in a portrait photo, measured by hand once; pixels.

    eyes: outer corners, picture's left then right. nose: its base. mouth: its middle. head: outline with hair or hat
    down to the chin. body: outline of neck and shoulders, reaching up behind the chin.
    """

    eyes: tuple[tuple[float, float], tuple[float, float]]
    nose: tuple[float, float]
    mouth: tuple[float, float]
    head: tuple[tuple[float, float], ...]
    body: tuple[tuple[float, float], ...]


PORTRAITS = {
    "astronaut": PortraitPoints(
        eyes=((195, 101), (255, 104)),
        nose=(224, 134),
        mouth=(222, 145),
        head=(
            (220, 180), (206, 177), (194, 170), (186.5, 158), (183, 142), (182, 133), (178, 131), (173.5, 127),
            (171.5, 119), (166.5, 113.5), (159.5, 104), (155.5, 88.5), (154, 74), (157, 61), (167, 50.5), (178, 42),
            (190, 36), (200, 25), (217, 18.5), (231, 16), (246, 18.5), (263, 25), (276, 33.5), (286, 42), (295, 53),
            (298, 66), (300.5, 83), (299, 97), (293, 110), (285.5, 122), (278, 128), (273.5, 135.5), (266, 137.5),
            (262, 151), (255, 163), (247, 171), (234, 178.5),
        ),
        body=(
            (186, 150), (160, 149), (140, 155), (128, 167), (122, 180), (114, 187), (114, 203), (111, 208), (92, 222),
            (70, 238), (50, 260), (40, 290), (30, 340), (24, 390), (22, 420), (30, 490), (40, 511), (511, 511),
            (490, 400), (450, 355), (400, 345), (362, 347), (360, 320), (352, 285), (340, 265), (322, 247), (304, 236),
            (300, 215), (290, 195), (275, 180), (259, 174), (256, 130), (188, 130),
        ),
    ),
    "grace_hopper": PortraitPoints(
        eyes=((208, 196), (322, 187)),
        nose=(270, 250),
        mouth=(270, 276),
        head=(
            (270, 337), (250, 335), (229, 326), (214, 313), (206, 295), (190, 292), (174, 282), (166, 270), (161, 250),
            (163, 230), (156, 213), (154.5, 200), (151, 180), (151, 150), (153, 123), (158, 103), (166, 91),
            (176, 85), (179, 71), (188, 57.5), (203, 46), (222, 41), (234, 29), (257, 24), (270, 24), (289, 32.5),
            (301, 42), (317, 45), (336, 56), (349, 71), (353, 88), (362, 87), (366, 91), (369, 113), (371, 140),
            (368, 180), (372, 189), (375, 203), (369, 233), (364, 253), (359, 273), (349, 292), (339, 304), (328, 306),
            (310, 322), (291, 333),
        ),
        body=(
            (204, 300), (200, 313), (180, 336), (160, 348), (130, 357), (80, 376), (55, 386), (42, 401), (30, 450),
            (15, 560), (8, 599), (505, 599), (511, 560), (511, 440), (499, 411), (484, 387), (440, 372), (400, 357),
            (370, 346), (350, 334), (331, 313), (326, 270), (212, 270),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Where the head is, in camera coordinates (x right, y down, z away).

    yaw, pitch, roll: degrees; positive yaw turns to the person's own left (the nose goes to the right of the
    picture), positive pitch looks up, positive roll leans clockwise in the picture. place: cm, of the head's origin.
    """

    yaw: float
    pitch: float
    roll: float
    place: tuple[float, float, float]

    def rotation(self) -> F64:
        """float64 (3, 3), head to camera coordinates: roll · yaw · pitch."""
        y, p, r = np.radians([-self.yaw, -self.pitch, self.roll])
        yaw = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
        roll = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
        return np.asarray(roll @ yaw @ pitch, dtype=np.float64)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera without distortion. size: width, height; focal: in pixels."""

    size: tuple[int, int] = (640, 480)
    focal: float = 720.0


@dataclass(frozen=True)
class Head:
    """A portrait with depth.

    photo: uint8 (H, W, 3) RGB, head colours spread past its outline. relief: float32 (H, W) cm towards the camera from
    the plane of the ears, -1 off the head. normals: float32 (H, W, 3), unit. body: uint8 (H, W, 4) RGBA.
    origin: pixel of the head's origin; scale: cm per pixel of the photo.
    """

    photo: U8
    relief: F32
    normals: F32
    body: U8
    origin: tuple[float, float]
    scale: float


@lru_cache(maxsize=4)
def load_portrait(name: str) -> U8:
    """The photo: "astronaut" (NASA, public domain) or "grace_hopper" (US Navy, public domain). KeyError on another
    name.
    """
    if name == "astronaut":
        return np.asarray(skimage.data.astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    if name == "grace_hopper":
        path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        return np.asarray(Image.open(path).convert("RGB"), dtype=np.uint8)
    raise KeyError(name)


@lru_cache(maxsize=4)
def build_head(name: str) -> Head:
    """The head of a portrait named in PORTRAITS. About 0.3 s the first time, kept after."""
    photo, points = load_portrait(name), PORTRAITS[name]
    left, right = np.array(points.eyes)
    scale = EYE_CORNERS_CM / float(np.linalg.norm(right - left))
    origin = (left + right) / 2
    inside = _filled(points.head, photo.shape[:2])
    relief = _relief(points, inside, origin, scale)
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(relief, (0, 0), 1.5), scale)
    normals = np.dstack([slope_x, slope_y, np.full_like(slope_x, 1.0)])
    # A relief rises towards the camera, z points away: the outward normal of z = -h(x, y) is (-h_x, -h_y, -1).
    normals = -normals / np.linalg.norm(normals, axis=2, keepdims=True)
    relief[~inside] = -1.0
    return Head(
        photo=_spread(photo, ndimage.binary_erosion(inside, iterations=2)),
        relief=relief,
        normals=normals.astype(np.float32),
        body=_body(photo, points, inside),
        origin=(float(origin[0]), float(origin[1])),
        scale=scale,
    )


def _filled(polygon: tuple[tuple[float, float], ...], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    canvas = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(canvas, [np.round(np.array(polygon) * 16).astype(np.int32)], 255, shift=4)
    return canvas > 0


def _spread(photo: U8, known: npt.NDArray[np.bool_]) -> U8:
    """The photo with every pixel outside `known` taken from the nearest one inside."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(photo[nearest[0], nearest[1]])


def _relief(points: PortraitPoints, inside: npt.NDArray[np.bool_], origin: F64, scale: float) -> F32:
    """float32 (H, W), cm: an inflated outline with the features of a face on it."""
    h, w = inside.shape
    y, x = np.mgrid[0:h, 0:w]
    x, y = (x - origin[0]) * scale, (y - origin[1]) * scale
    nose = (np.array(points.nose) - origin) * scale
    mouth = (np.array(points.mouth) - origin) * scale
    # Outline seen from the nose bridge, as radius over angle; below the chin the skull goes on into the neck.
    outline = (np.array(points.head) - origin) * scale - nose / 2
    dense = np.concatenate([np.linspace(a, b, 40) for a, b in zip(outline, np.roll(outline, -1, 0), strict=True)])
    angle = np.arctan2(dense[:, 1], dense[:, 0])
    bins = np.round((angle + np.pi) / (2 * np.pi) * 360).astype(int) % 360
    radius = np.zeros(360)
    np.maximum.at(radius, bins, np.linalg.norm(dense, axis=1))
    radius = ndimage.gaussian_filter1d(np.where(radius > 0, radius, np.median(radius)), 6, mode="wrap")
    radius *= 1 + 0.4 * np.maximum(0, np.sin(np.radians(np.arange(360) - 180))) ** 2
    px, py = x - nose[0] / 2, y - nose[1] / 2
    at = ((np.arctan2(py, px) + np.pi) / (2 * np.pi) * 360) % 360
    q = np.hypot(px, py) / np.interp(at, np.arange(361), np.append(radius, radius[0]))
    relief = _DEPTH_CM * np.sqrt(np.clip(1 - np.clip(q, 0, 1) ** 2.6, 0, 1))
    below = (y > -4) * 1.0  # the face proper curves away faster than hair and hat do
    relief -= 1.6 * np.clip(np.abs(x) / 5.5, 0, 1.3) ** 2 * ndimage.gaussian_filter(below, 2 / scale)

    along = y / nose[1]  # 0 between the eyes, 1 at the base of the nose
    middle = x - nose[0] * np.clip(along, 0, 1.2)
    ridge = np.interp(along, [-0.45, 0.0, 0.35, 0.8, 0.93, 1.05, 1.3], [0.0, 0.6, 1.2, 2.3, 2.1, 1.1, 0.0])
    width = np.interp(along, [0.0, 0.5, 0.9, 1.2], [0.75, 0.85, 1.35, 1.2])
    relief += ridge * np.exp(-((middle / width) ** 2))
    for side in (-1, 1):
        relief -= 0.8 * np.exp(-(((x - side * 3.2) / 1.7) ** 2) - ((y / 1.1) ** 2))
    relief += 0.5 * np.exp(-((x / 5.0) ** 2) - (((y + 2.2) / 1.0) ** 2))  # brow
    relief += 0.9 * np.exp(-(((x - mouth[0]) / 2.6) ** 2) - (((y - mouth[1]) / 2.2) ** 2))  # lips and chin
    return np.asarray(ndimage.gaussian_filter(np.maximum(relief, 0), 0.2 / scale), dtype=np.float32)


def _body(photo: U8, points: PortraitPoints, head: npt.NDArray[np.bool_]) -> U8:
    """RGBA of neck and shoulders; what the head hid is filled from the neck below it, a little darker."""
    body = _filled(points.body, photo.shape)
    hidden = ndimage.binary_dilation(head, iterations=4)
    colours = _spread(photo, ndimage.binary_erosion(body, iterations=2) & ~hidden)
    soft = cv2.GaussianBlur(colours, (0, 0), 5)
    colours = np.where(hidden[..., None], (soft * 0.8).astype(np.uint8), colours)
    alpha = cv2.GaussianBlur(body.astype(np.float32) * 255, (0, 0), 0.9).astype(np.uint8)
    return np.dstack([colours, alpha])


def render_head(head: Head, pose: Pose, camera: Camera, light: tuple[float, float, float] = (0, 0, -1)) -> U8:
    """The head alone under a pose: uint8 (H, W, 4) RGBA, alpha 0 where it is not. About 20 ms at 640×480.

    light: direction towards the lamp in camera coordinates; straight on, (0, 0, -1), changes nothing.
    """
    (w, h), rotation = camera.size, pose.rotation()
    canvas = np.zeros((h, w, 4), np.uint8)
    box = _bounds(head, pose, camera)
    x0, y0, x1, y1 = box
    if x1 - x0 < 4 or y1 - y0 < 4:
        return canvas
    # Half resolution for the geometry, which is smooth; the photo is looked up at full resolution.
    gw, gh = (x1 - x0 + 1) // 2, (y1 - y0 + 1) // 2
    gx, gy = np.meshgrid(np.linspace(x0, x1 - 1, gw), np.linspace(y0, y1 - 1, gh))
    ahead = np.stack([(gx - w / 2) / camera.focal, (gy - h / 2) / camera.focal, np.ones_like(gx)], -1)
    rays = (ahead @ rotation).astype(np.float32)
    eye = (rotation.T @ (-np.asarray(pose.place) - PIVOT_CM) + PIVOT_CM).astype(np.float32)
    u, v, hit = _march(head, eye, rays)

    size = (x1 - x0, y1 - y0)
    u, v, hit = (np.asarray(cv2.resize(m, size, interpolation=cv2.INTER_LINEAR), np.float32) for m in (u, v, hit))
    colour = cv2.remap(head.photo, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    normals = cv2.remap(head.normals, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    towards = np.asarray(light, np.float64) / np.linalg.norm(light)
    now = np.clip(normals @ (rotation.T @ towards).astype(np.float32), 0, 1)
    before = np.clip(-normals[..., 2], 0, 1)  # the photo's own light, taken as frontal
    shade = np.clip((0.55 + 0.45 * now) / (0.55 + 0.45 * before), 0.5, 1.5)
    canvas[y0:y1, x0:x1, :3] = np.clip(colour * shade[..., None], 0, 255)
    canvas[y0:y1, x0:x1, 3] = np.clip((hit - 0.25) * 2, 0, 1) * 255
    return canvas


def _bounds(head: Head, pose: Pose, camera: Camera) -> tuple[int, int, int, int]:
    """Pixels left, top, right, bottom around the head's bounding box in the picture."""
    rows, cols = np.nonzero(head.relief >= 0)
    xs = (np.array([cols.min(), cols.max()]) - head.origin[0]) * head.scale
    ys = (np.array([rows.min(), rows.max()]) - head.origin[1]) * head.scale
    corners = np.array([(x, y, z) for x in xs for y in ys for z in (-_DEPTH_CM - 2, _BACK_CM)])
    seen = project(corners, pose, camera)
    low = np.clip(np.floor(seen.min(0)), 0, camera.size).astype(int)
    high = np.clip(np.ceil(seen.max(0)), 0, camera.size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def project(points: F64, pose: Pose, camera: Camera) -> F64:
    """Head coordinates (N, 3) in cm → pixels (N, 2) of the camera."""
    at = (points - PIVOT_CM) @ pose.rotation().T + PIVOT_CM + np.asarray(pose.place)
    centre = np.array(camera.size) / 2
    return np.asarray(at[:, :2] / at[:, 2:] * camera.focal + centre)


def _march(head: Head, eye: F32, rays: F32) -> tuple[F32, F32, F32]:
    """Where each ray first enters |z| < relief: photo coordinates u, v and hit (1 or 0), float32 (H, W) each."""
    per_cm, top = np.float32(1 / head.scale), np.float32(head.relief.max() + 0.1)
    near = (-top - eye[2]) / rays[..., 2]  # distance along the ray at the front of the relief
    far = (np.float32(_BACK_CM) - eye[2]) / rays[..., 2]
    step = (far - near) / np.float32(_STEPS)

    def outside(t: F32) -> tuple[npt.NDArray[np.bool_], F32, F32]:
        u = (eye[0] + rays[..., 0] * t) * per_cm + np.float32(head.origin[0])
        v = (eye[1] + rays[..., 1] * t) * per_cm + np.float32(head.origin[1])
        relief = cv2.remap(head.relief, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-1)
        return np.abs(eye[2] + rays[..., 2] * t) > relief, u, v

    before, found = near.copy(), np.zeros(near.shape, bool)
    for i in range(1, _STEPS + 1):
        out, _, _ = outside(near + step * np.float32(i))
        found |= ~out
        before = np.where(found, before, near + step * np.float32(i))
        if found.all():
            break
    after = before + step
    for _ in range(5):
        middle = (before + after) * np.float32(0.5)
        out, _, _ = outside(middle)
        before, after = np.where(out, middle, before), np.where(out, after, middle)
    _, u, v = outside(after)
    return u, v, found.astype(np.float32)
