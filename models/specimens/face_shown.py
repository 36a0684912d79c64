"""A face that is only shown to the camera: on a print that is moved and bent, or on a screen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from models.specimens.face_scan import Scene, wander
from models.specimens.head import PIVOT_CM, PORTRAITS, Camera, Head, Pose, build_head, load_portrait

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sheet:
    """A print at the size of life. paper: uint8 (H, W, 3) RGB; origin: pixel between the eyes; scale: cm per pixel."""

    paper: U8
    origin: tuple[float, float]
    scale: float


def build_sheet(portrait: str, margin_cm: float = 1.0) -> Sheet:
    """A print of the portrait's head and shoulders with a white margin."""
    photo, head, points = load_portrait(portrait), build_head(portrait), np.array(PORTRAITS[portrait].head)
    low, high = points.min(0), points.max(0)
    size = high - low
    left, top = np.maximum(low - size * 0.35, 0).astype(int)
    right, bottom = np.minimum(high + size * (0.35, 0.45), (photo.shape[1], photo.shape[0])).astype(int)
    edge = round(margin_cm / head.scale)
    sides = (edge, edge, edge, edge)
    paper = cv2.copyMakeBorder(photo[top:bottom, left:right], *sides, cv2.BORDER_CONSTANT, value=(245, 245, 243))
    faded = (15 + 0.86 * paper).astype(np.uint8)  # ink is never quite black, paper never as bright as light
    return Sheet(faded, (float(head.origin[0] - left + edge), float(head.origin[1] - top + edge)), head.scale)


def render_sheet(sheet: Sheet, pose: Pose, camera: Camera, sagitta_cm: float = 0.0) -> U8:
    """The sheet under a pose, uint8 (H, W, 4) RGBA, flat or bent about its upright middle, which then stands out by
    `sagitta_cm` from the plane through its sides (in, when negative). The bend is a parabola, met by rays in closed
    form.
    """
    (w, h), rotation = camera.size, pose.rotation()
    x, y = np.meshgrid(np.arange(w, dtype=np.float32) - w / 2, np.arange(h, dtype=np.float32) - h / 2)
    ray = np.stack([x / camera.focal, y / camera.focal, np.ones_like(x)], -1) @ rotation.astype(np.float32)
    eye = rotation.T @ (-np.asarray(pose.place) - PIVOT_CM) + PIVOT_CM
    half = sheet.paper.shape[1] / 2
    middle, width = (half - sheet.origin[0]) * sheet.scale, half * sheet.scale
    # On the sheet z = -s · (1 - ((x - middle) / width)²): a·t² + b·t + c = 0 along eye + t·ray, solved without
    # cancellation, so that a flat sheet (a = 0) is the same formula.
    bend = sagitta_cm / width**2
    from_middle = eye[0] - middle
    a = -bend * ray[..., 0] ** 2
    b = ray[..., 2] - 2 * bend * from_middle * ray[..., 0]
    c = eye[2] + sagitta_cm - bend * from_middle**2
    t = -2 * c / (b + np.sqrt(np.maximum(b * b - 4 * a * c, 0)))
    u = ((eye[0] + ray[..., 0] * t) / sheet.scale + sheet.origin[0]).astype(np.float32)
    v = ((eye[1] + ray[..., 1] * t) / sheet.scale + sheet.origin[1]).astype(np.float32)
    opaque = np.dstack([sheet.paper, np.full(sheet.paper.shape[:2], 255, np.uint8)])
    return np.asarray(
        cv2.remap(opaque, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 0))
    )


def film_print(scene: Scene, portrait: str, poses: list[Pose], rng: random.Random, bend_cm: float) -> Iterator[U8]:
    """The print in the place of the head, moved as the head should be, bent to and fro by up to `bend_cm`."""
    sheet = build_sheet(portrait)
    reach = rng.uniform(1.0, 1.6)  # tilted further than a head turns: nothing else answers the challenge
    bends = bend_cm * np.clip(wander(rng, len(poses), scene.conditions.frame_rate, 1)[:, 0], -1, 1)
    for i, (pose, bend) in enumerate(zip(poses, bends, strict=True)):
        x, y, z = pose.place
        held = replace(pose, yaw=pose.yaw * reach, pitch=pose.pitch * reach, place=(x, y, z - 8))
        yield scene.frame(i, (render_sheet(sheet, held, scene.conditions.camera, float(bend)),))


_TILE = 48
_OVERSAMPLING = 2
_COOL = np.array([240, 250, 262], np.float32)
"""White of a panel, a little bluer than paper."""


def film_screen(
    scene: Scene, head: Head, poses: list[Pose], rng: random.Random, *, flickers: bool = True
) -> Iterator[U8]:
    """A clean video of the person on an LCD: striped subpixels, black matrix, glow, bezel; bands of the backlight if it
    flickers.

    The sensor has twice the picture's resolution and an aperture of its own; what of the panel's grid is left at its
    pixels folds into moiré. Panel pixels are 0.4 to 0.95 picture pixels wide; finer panels leave no moiré at all.
    """
    c = scene.conditions
    w, h = c.camera.size
    room = Scene(random.Random(rng.getrandbits(32)), c, len(poses))
    pitch = rng.uniform(0.4, 0.95)
    cover = rng.uniform(0.92, 1.25)  # width of the shown video against the picture; below 1 the bezel shows
    shake = wander(rng, len(poses), c.frame_rate, 4)
    lean, bands, beat = rng.uniform(-3, 3), rng.uniform(0.01, 0.04), rng.uniform(0.2, 0.45)
    bands = bands if flickers else 0.0
    panel = _panel_pixel(pitch)
    linear = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
    y, x = (np.mgrid[0 : h * _OVERSAMPLING, 0 : w * _OVERSAMPLING] / _OVERSAMPLING).astype(np.float32)
    x, y = x - w / 2, y - h / 2
    rows = np.arange(h, dtype=np.float32)[:, None, None] / h
    for i, pose in enumerate(poses):
        shown = linear[cv2.GaussianBlur(room.place(i, room.person(i, head, pose)), (0, 0), 0.7)]
        turn = np.radians(lean + 0.4 * shake[i, 2])
        zoom = (1 + 0.01 * shake[i, 3]) / cover
        keystone = 1 + np.float32(2e-5 * lean) * x  # nobody holds a phone square to a screen
        u = (
            np.float32(zoom)
            * (np.float32(np.cos(turn)) * x - np.float32(np.sin(turn)) * y + np.float32(3 * shake[i, 0]))
            / keystone
        )
        v = (
            np.float32(zoom)
            * (np.float32(np.sin(turn)) * x + np.float32(np.cos(turn)) * y + np.float32(3 * shake[i, 1]))
            / keystone
        )
        light = cv2.remap(
            shown, u + w / 2, v + h / 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0.002,) * 3
        )
        per_pixel = np.float32(_TILE * cover / pitch)
        grid = cv2.remap(
            panel, u * per_pixel % _TILE, v * per_pixel % _TILE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        lit = cv2.resize(cv2.multiply(light, grid), (w, h), interpolation=cv2.INTER_AREA) + np.float32(0.004)
        lit *= 1 + bands * np.sin(2 * np.pi * (rows * 1.7 + i * beat)).astype(np.float32)
        picture = np.power(np.clip(lit, 0, 1), np.float32(1 / 2.2)) * _COOL
        yield scene.finish(i, np.minimum(picture, 255).astype(np.uint8))


def _panel_pixel(pitch: float) -> F32:
    """Light over one panel pixel as the sensor's aperture sees it: float32 (T, T, 3), mean 1.

    pitch: width of the panel's pixel in picture pixels. The aperture is a Gaussian of 0.3 sensor pixels.
    """
    row, column = (np.mgrid[0:_TILE, 0:_TILE] + 0.5) / _TILE
    stripes = [(np.abs(column - centre) < 0.15) & (np.abs(row - 0.5) < 0.42) for centre in (1 / 6, 3 / 6, 5 / 6)]
    tile = np.tile(np.stack(stripes, -1).astype(np.float32), (3, 3, 1))
    blurred = cv2.GaussianBlur(tile, (0, 0), 0.3 / _OVERSAMPLING / pitch * _TILE)[_TILE : 2 * _TILE, _TILE : 2 * _TILE]
    return np.asarray(blurred / blurred.mean(), dtype=np.float32)
