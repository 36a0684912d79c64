"""Films documents as a phone does: the entry points for specimen documents.

`front_scene` and `back_scene` yield pictures one by one; `record` returns the bytes that a person would upload, with
the ground truth; `photo` returns a still picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from models.specimens.attacks import DocumentAttack, tampered
from models.specimens.camera import Camera, Matrix, Pose, hand_motion, project
from models.specimens.conditions import USUAL, DocumentConditions
from models.specimens.designs import DESIGN_NAMES
from models.specimens.display import Display
from models.specimens.document import Specimen, make_specimen, render_back, render_front
from models.specimens.forgery import portrait_replaced, text_edited
from models.specimens.lighting import GRID, Light, draw_light
from models.specimens.person import PORTRAITS
from models.specimens.security import shine
from models.specimens.surfaces import Surface, card_on_screen, cards_on_desk, copy_on_desk
from models.specimens.video import encode_mp4

Image3 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

_COPIED_AT = np.array([[0.12, -0.06], [0.0007, 0.0], [0.0, 0.0007]])  # light at the moment a copy or photo was taken


@dataclass(frozen=True)
class Capture:
    """A film and its ground truth.

    data: MP4 (H.264). quads: float32 (N, K, 4, 2), corners of the K documents in each of the N frames, in pixels, in
    the order of `models.page.quad.Quad`. tilts: float32 (N, 2), radians about x and y. frame_rate: Hz.
    """

    data: bytes
    quads: npt.NDArray[np.float32]
    tilts: npt.NDArray[np.float32]
    frame_rate: int


@dataclass(frozen=True)
class Lens:
    """How a camera falls short.

    defocus: float64 (N,), standard deviation in pixels per frame; noise: standard deviation in levels; shutter: in
    seconds; exposure: float64 (N,), gain per frame; tint: gain of red, green and blue; seed: of the noise.
    """

    defocus: Matrix
    noise: float
    shutter: float
    exposure: Matrix
    tint: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Scene:
    """All that a film is made of; iterating `frames` twice gives the same pictures."""

    camera: Camera
    poses: tuple[Pose, ...]
    surface: Surface
    light: Light
    lens: Lens
    conditions: DocumentConditions = USUAL

    def at(self, index: int) -> Scene:
        """The scene of that frame alone, held still."""
        one = slice(index, index + 1)
        lens = replace(self.lens, defocus=self.lens.defocus[one], exposure=self.lens.exposure[one])
        return replace(self, poses=self.poses[one], lens=lens)

    def quads(self) -> npt.NDArray[np.float32]:
        """Corners of the documents in each frame: float32 (N, K, 4, 2)."""
        corners = [project(pose.homography(self.camera), self.surface.documents) for pose in self.poses]
        return np.asarray(corners, np.float32).reshape(len(self.poses), -1, 4, 2)

    def frames(self) -> Iterator[Image3]:
        """The film, frame by frame: uint8 (H, W, 3) RGB of the conditions' size."""
        rng = np.random.default_rng(self.lens.seed)
        grain = self._grain
        height, width = self.camera.height, self.camera.width
        before: Matrix | None = None
        for index, pose in enumerate(self.poses):
            picture = self._lit(self._seen(pose), pose, index)
            here = project(pose.homography(self.camera), [0.0, 0.0])
            picture = _soften(picture, float(self.lens.defocus[index]))
            if before is not None:
                picture = _smear(picture, (here - before) * self.lens.shutter * self.conditions.frame_rate)
            before = here
            if self.conditions.fringe:
                picture = _fringed(picture, self.conditions.fringe)
            if self.conditions.mosaic:
                picture = _mosaic(picture)
            picture = np.asarray(cv2.LUT(picture, self._tone), np.uint8)
            y, x = rng.integers(0, grain.shape[0] - height), rng.integers(0, grain.shape[1] - width)
            # Shot noise grows with the root of the light and gamma flattens it again: about even over all tones.
            noisy = cv2.addWeighted(picture, 1.0, grain[y : y + height, x : x + width], 1.0, -128)
            yield np.asarray(noisy, np.uint8)

    def _seen(self, pose: Pose) -> Image3:
        """The plane as the sensor samples it."""
        surface, size = self.surface, (self.camera.width, self.camera.height)
        texture = surface.lit(self.light.direction(pose), 1.0)
        warp = pose.homography(self.camera) @ surface.texel_to_mm()
        return _warp(texture, warp, size)

    def _lit(self, picture: Image3, pose: Pose, index: int) -> Image3:
        size = (self.camera.width, self.camera.height)
        to_grid = np.diag([GRID[0] / size[0], GRID[1] / size[1], 1.0])
        step = self.surface.texture.shape[1] / self.surface.gloss.shape[1]
        warp = to_grid @ pose.homography(self.camera) @ self.surface.texel_to_mm() @ np.diag([step, step, 1.0])
        gloss = cv2.warpPerspective(self.surface.gloss, warp, GRID, borderMode=cv2.BORDER_REFLECT)
        gain, addend = self.light.maps(self.camera, pose, np.asarray(gloss, np.float32))
        if self.surface.screen:
            gain = 0.85 + 0.15 * gain  # it glows by itself
        levels = np.clip(gain * self.lens.exposure[index] * 128, 0, 255).astype(np.uint8)
        shade = cv2.merge([cv2.resize(levels, size)] * 3)
        glare = cv2.merge([cv2.resize(np.clip(addend, 0, 255).astype(np.uint8), size)] * 3)
        return np.asarray(cv2.add(cv2.multiply(picture, shade, scale=1 / 128), glare), np.uint8)

    @cached_property
    def _grain(self) -> Image3:
        """128 plus noise, larger than a frame, so that each frame cuts its own piece: uint8 (H, W, 3)."""
        rng = np.random.default_rng([self.lens.seed, 1])
        shape = (self.camera.height + 192, self.camera.width + 256)
        light = rng.standard_normal(shape, dtype=np.float32)
        colour = rng.standard_normal((*shape, 3), dtype=np.float32)
        return np.clip(128.5 + self.lens.noise * (0.85 * light[..., None] + 0.5 * colour), 0, 255).astype(np.uint8)

    @cached_property
    def _tone(self) -> Image3:
        """White balance and a phone's slight S-curve: uint8 (256, 1, 3)."""
        level = np.arange(256)[:, None] / 255.0 * np.array(self.lens.tint)
        curve = level + 0.035 * np.sin(2 * np.pi * (np.clip(level, 0, 1) - 0.5))
        return np.asarray(np.clip(255 * curve, 0, 255)[:, None, :], np.uint8)


def record(scene: Scene) -> Capture:
    """Encode a scene."""
    conditions = scene.conditions
    return Capture(
        data=encode_mp4(scene.frames(), frame_rate=conditions.frame_rate, crf=conditions.crf),
        quads=scene.quads(),
        tilts=np.array([pose.tilt for pose in scene.poses], np.float32),
        frame_rate=conditions.frame_rate,
    )


def photo(scene: Scene) -> bytes:
    """A JPEG of the last frame of a scene; a scene of half a second has its focus found by then."""
    picture = next(iter(scene.at(len(scene.poses) - 1).frames()))
    quality = [cv2.IMWRITE_JPEG_QUALITY, scene.conditions.quality]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes())


def front_scene(
    specimen: Specimen,
    *,
    seed: int,
    attack: DocumentAttack | None = None,
    seconds: float = 2.8,
    conditions: DocumentConditions = USUAL,
) -> Scene:
    """The front, tilted to and fro. seed: of everything around the document."""
    rng = np.random.default_rng([seed, 11])
    card, covered = render_front(tampered(specimen, attack)), None
    if attack is DocumentAttack.PORTRAIT_REPLACED:
        card, covered = portrait_replaced(card, specimen, seed)
    elif attack is DocumentAttack.TEXT_EDITED:
        card = text_edited(card, specimen, seed)
    still = card.copy()
    shine(still, specimen.design, _COPIED_AT, 0.7)
    surface = _surface(rng, attack, card, render_front, still, specimen, seed, conditions, covered)
    fill = rng.uniform(0.6, 0.68)
    return _scene(rng, surface, attack, seconds, conditions, fill=fill, tilt=0.25, aside=0.55)


def back_scene(
    specimen: Specimen,
    *,
    seed: int,
    attack: DocumentAttack | None = None,
    seconds: float = 2.0,
    conditions: DocumentConditions = USUAL,
) -> Scene:
    """The back, held nearly still and close."""
    rng = np.random.default_rng([seed, 12])
    card = render_back(tampered(specimen, attack))
    surface = _surface(rng, attack, card, render_back, card, specimen, seed, conditions)
    fill = rng.uniform(0.7, 0.76)
    return _scene(rng, surface, attack, seconds, conditions, fill=fill, tilt=0.08, aside=0.8)


def _neighbour(specimen: Specimen, seed: int) -> Specimen:
    """Somebody else's document, of the other design."""
    design = next(name for name in DESIGN_NAMES if name != specimen.design)
    portrait = next(name for name in PORTRAITS if name != specimen.printed.portrait)
    return make_specimen(seed + 7_000_000, design=design, portrait=portrait, today=specimen.shown_on)


def _surface(
    rng: np.random.Generator,
    attack: DocumentAttack | None,
    card: Image3,
    render: Callable[[Specimen], Image3],
    still: Image3,
    specimen: Specimen,
    seed: int,
    conditions: DocumentConditions,
    covered: Plane | None = None,
) -> Surface:
    """What lies before the camera. still: the card as a copier or a camera caught it; covered: see `surfaces.Live`."""
    if attack in (DocumentAttack.PHOTO_OF_SCREEN, DocumentAttack.FINE_SCREEN):
        width = (0.64 if render is render_front else 0.73) * conditions.fill * conditions.size[0]
        drawn = np.random.default_rng([seed, 13])
        display = Display.draw(drawn, width, fine=attack is DocumentAttack.FINE_SCREEN)
        return card_on_screen(rng, still, display, filmed_width=width)
    if attack in (DocumentAttack.GREY_COPY, DocumentAttack.COLOUR_COPY):
        return copy_on_desk(rng, still, grey=attack is DocumentAttack.GREY_COPY)
    live = specimen.design if render is render_front else None
    if attack is DocumentAttack.NO_DOCUMENT:
        return cards_on_desk(rng, [], live=None)
    if attack is DocumentAttack.TWO_DOCUMENTS:
        return cards_on_desk(rng, [card, render(_neighbour(specimen, seed))], live=live)
    return cards_on_desk(rng, [card], live=live, covered=covered)


def _scene(
    rng: np.random.Generator,
    surface: Surface,
    attack: DocumentAttack | None,
    seconds: float,
    conditions: DocumentConditions,
    *,
    fill: float,
    tilt: float,
    aside: float,
) -> Scene:
    count = round(seconds * conditions.frame_rate)
    times = np.arange(count) / conditions.frame_rate
    camera = Camera(*conditions.size, focal=conditions.size[0] * rng.uniform(1.05, 1.25))
    if attack is DocumentAttack.TWO_DOCUMENTS:
        fill = 0.9
    fill, tilt = fill * conditions.fill, tilt * conditions.tilt
    poses = hand_motion(rng, camera, times, extent_mm=surface.extent_mm, fill=fill, tilt=tilt)
    hunting = 2.2 * np.exp(-times / 0.12) * rng.uniform(0, 1)  # the autofocus settles in the first quarter second
    defocus = conditions.defocus * rng.uniform(0.45, 0.8) + hunting
    if attack is DocumentAttack.BLURRED:
        defocus = rng.uniform(8.0, 10.5) + 0.8 * np.sin(2 * np.pi * times / rng.uniform(1.5, 3))
    lens = Lens(
        defocus=defocus,
        noise=conditions.noise * float(rng.uniform(1.5, 3.5)),
        shutter=float(rng.uniform(1 / 250, 1 / 80)),
        exposure=conditions.exposure
        * rng.uniform(0.92, 1.06)
        * (1 + 0.02 * np.sin(2 * np.pi * times / rng.uniform(1, 3))),
        tint=(
            float(rng.uniform(0.96, 1.04)) + 0.08 * conditions.warmth,
            1.0,
            float(rng.uniform(0.93, 1.05)) - 0.1 * conditions.warmth,
        ),
        seed=int(rng.integers(2**31)),
    )
    light = draw_light(rng, aside=aside, scale=surface.extent_mm[0] / 85.6)
    light = replace(light, glare=conditions.glare * light.glare)
    return Scene(camera, poses, surface, light, lens, conditions)


def _warp(texture: Image3, warp: Matrix, size: tuple[int, int]) -> Image3:
    return np.asarray(cv2.warpPerspective(texture, warp, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


def _soften(picture: Image3, sigma: float) -> Image3:
    """Defocus. Wide ones at half size: four times cheaper and the same to the eye."""
    if sigma < 0.3:
        return picture
    if sigma < 3:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(half, (0, 0), sigma / 2), picture.shape[1::-1]), np.uint8)


def _fringed(picture: Image3, pixels: float) -> Image3:
    """Lateral chromatic aberration: red enlarged and blue reduced about the middle, by `pixels` at the corners."""
    height, width = picture.shape[:2]
    channels = list(cv2.split(picture))
    for index, sign in ((0, 1), (2, -1)):
        scale = 1 + sign * pixels / (np.hypot(width, height) / 2)
        about = np.array([[scale, 0, (1 - scale) * (width - 1) / 2], [0, scale, (1 - scale) * (height - 1) / 2]])
        channels[index] = cv2.warpAffine(channels[index], about, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.merge(channels), np.uint8)


def _mosaic(picture: Image3) -> Image3:
    """One colour a pixel (B. E. Bayer, US patent 3,971,065), and the other two from the neighbours along edges."""
    raw = picture[..., 1].copy()
    raw[::2, ::2] = picture[::2, ::2, 0]
    raw[1::2, 1::2] = picture[1::2, 1::2, 2]
    return np.asarray(cv2.demosaicing(raw, cv2.COLOR_BayerRGGB2RGB_EA), np.uint8)


def _smear(picture: Image3, motion: Matrix) -> Image3:
    """Motion blur along `motion` (pixels while the shutter is open)."""
    length = float(np.hypot(*motion))
    if length < 0.7:
        return picture
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side * 8, side * 8), np.uint8)
    middle = np.array([side * 4, side * 4])
    ends = [tuple(int(v) for v in middle + sign * motion * 4) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 8)
    weights = cv2.resize(kernel.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.filter2D(picture, -1, weights / weights.sum()), np.uint8)
