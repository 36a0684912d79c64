"""What is in front of the camera, painted on one plane: cards on a desk, a cut-out copy, a tablet that shows a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.specimens.backdrop import Plane, blend, clutter, desk, drop_shadow, noise
from models.specimens.camera import Matrix
from models.specimens.designs import DesignName
from models.specimens.display import TEXELS, Display
from models.specimens.security import PIXELS_PER_MM, shine, variable_elements

Image3 = npt.NDArray[np.uint8]

_CARD_MM = (85.60, 53.98)
_CORNER_MM = 3.18  # ISO/IEC 7810
_GLOSS_STEP = 8


@dataclass(frozen=True)
class Place:
    """Where a card lies: its middle in mm from the middle of the plane, and its turn in degrees."""

    x: float = 0.0
    y: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True)
class Live:
    """A front whose variable elements answer to the light. printed: uint8 (638, 1012, 3) RGB; covered: float32 (638,
    1012) 0..1, where something lies over them, if anywhere.
    """

    printed: Image3
    design: DesignName
    covered: Plane | None = None


@dataclass(frozen=True)
class Surface:
    """A painted plane.

    texture: uint8 (H, W, 3) RGB, its middle is the origin; texels_per_mm of it. gloss: float32 (H/8, W/8) 0..1.
    documents: float64 (K, 4, 2), corners in mm in the order of `models.page.quad.Quad`. extent_mm: what the camera
    keeps in the picture. live: it lies in the first document's place, unturned. screen: it glows by itself.
    """

    texture: Image3
    texels_per_mm: float
    gloss: Plane
    documents: Matrix
    extent_mm: tuple[float, float]
    live: Live | None = None
    screen: bool = False

    def texel_to_mm(self) -> Matrix:
        """Homography from texture pixels to plane coordinates, float64 (3, 3)."""
        height, width = self.texture.shape[:2]
        scale = 1 / self.texels_per_mm
        return np.array([[scale, 0, (1 - width) / 2 * scale], [0, scale, (1 - height) / 2 * scale], [0, 0, 1.0]])

    def lit(self, direction: Matrix, gain: float) -> Image3:
        """The texture as it looks from one pose (see `security.shine`); valid until the next call."""
        if self.live is None:
            return self.texture
        design = self.live.design
        card = self.live.printed.copy()
        shine(card, design, direction, gain)
        if self.live.covered is not None:
            blend(card, self.live.printed, self.live.covered)
        x0, y0, x1, y1 = variable_elements(design).region
        origin = np.linalg.inv(self.texel_to_mm()) @ np.append(self.documents[0, 0], 1.0)
        scale = self.texels_per_mm / PIXELS_PER_MM
        left, top = round(origin[0] + 0.5 + x0 * scale), round(origin[1] + 0.5 + y0 * scale)
        size = (round((x1 - x0) * scale), round((y1 - y0) * scale))
        part = cv2.resize(card[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
        self.texture[top : top + size[1], left : left + size[0]] = part
        return self.texture


def cards_on_desk(
    rng: np.random.Generator,
    cards: Sequence[Image3],
    *,
    live: DesignName | None,
    covered: Plane | None = None,
) -> Surface:
    """No, one or two cards (uint8 (638, 1012, 3)) on a desk with clutter. live: design of the first, when a front;
    covered: see `Live`.
    """
    places: tuple[Place, ...] = (Place(),)
    extent = _CARD_MM
    texels_per_mm = PIXELS_PER_MM
    if len(cards) == 2:
        places = (Place(-46.0, rng.uniform(-4, 4)), Place(47.0, rng.uniform(-4, 4), rng.uniform(-9, 9)))
        extent = (184.0, 70.0)
        texels_per_mm = 7.0
    size = (round(170 / 85.6 * extent[0] * texels_per_mm), round(124 / 85.6 * extent[0] * texels_per_mm))
    texture = desk(rng, size, texels_per_mm)
    clear = 0.58 * extent[0] if cards else 22.0
    clutter(rng, texture, texels_per_mm, count=int(rng.integers(1, 5)) + (0 if cards else 3), keep_clear_mm=clear)
    gloss = np.full((size[1] // _GLOSS_STEP, size[0] // _GLOSS_STEP), rng.uniform(0.0, 0.3), np.float32)
    used = places[: len(cards)]
    for card, place in zip(cards, used, strict=True):
        _lay(texture, gloss, card, place, texels_per_mm, gloss_of_card=1.0, corner_mm=_CORNER_MM, thick_mm=0.76)
    corners = np.array([_corners(place) for place in used]).reshape(-1, 4, 2)
    front = Live(cards[0], live, covered) if live is not None and cards else None
    return Surface(texture, texels_per_mm, gloss, corners, extent, live=front)


def copy_on_desk(rng: np.random.Generator, card: Image3, *, grey: bool) -> Surface:
    """A paper copy of a card, cut out by hand, on a desk. What the light added when it was copied stands still."""
    height, width = card.shape[:2]
    print_ = card.astype(np.float32)
    toner = noise(rng, width, height, 1.2) * 4.5
    streaks = cv2.resize(rng.standard_normal((1, width // 5), dtype=np.float32), (width, height)) * 2.0
    if grey:
        level = cv2.cvtColor(card, cv2.COLOR_RGB2GRAY).astype(np.float32)
        # A copier pushes light tones to white and dark tones to black.
        level = 255 / (1 + np.exp(-(level - 128) / 34.0))
        print_ = np.repeat((22 + level * 0.86)[..., None], 3, axis=2)
    else:
        mean = print_.mean(axis=2, keepdims=True)
        print_ = 30 + 0.8 * (mean + 0.72 * (print_ - mean))
        # Halftone of a desktop printer: 133 lines per inch at 45°.
        y, x = np.mgrid[0:height, 0:width].astype(np.float32) * (133 / 300 * np.pi * 2**0.5)
        print_ += (3.5 * np.cos(x + y) * np.cos(x - y))[..., None]
    print_ += (toner + streaks)[..., None]
    margin = 10  # pixels of white paper around the copy
    paper = np.full((height + 2 * margin, width + 2 * margin, 3), 238, np.float32)
    paper += 2.0 * noise(rng, paper.shape[1], paper.shape[0], 2)[..., None]
    paper[margin:-margin, margin:-margin] = print_
    sheet = np.clip(paper, 0, 255).astype(np.uint8)
    size = (round(170 * PIXELS_PER_MM), round(124 * PIXELS_PER_MM))
    texture = desk(rng, size, PIXELS_PER_MM)
    clutter(rng, texture, PIXELS_PER_MM, count=int(rng.integers(1, 4)), keep_clear_mm=0.58 * _CARD_MM[0])
    gloss = np.full((size[1] // _GLOSS_STEP, size[0] // _GLOSS_STEP), rng.uniform(0.0, 0.3), np.float32)
    _lay(texture, gloss, sheet, Place(), PIXELS_PER_MM, gloss_of_card=0.04, corner_mm=0.3, thick_mm=0.4)
    return Surface(texture, PIXELS_PER_MM, gloss, _corners(Place())[None], _CARD_MM)


def card_on_screen(rng: np.random.Generator, card: Image3, display: Display, *, filmed_width: float) -> Surface:
    """A screen that shows a photograph of a card. filmed_width: about how many camera pixels the card will take; lens
    and sensor blur the screen's pixels by their own size.
    """
    shown = (round(1.43 * display.card_pixels), round(0.92 * display.card_pixels))
    photo = desk(rng, shown, 8.0)
    gloss_in_photo = np.zeros((shown[1] // _GLOSS_STEP, shown[0] // _GLOSS_STEP), np.float32)
    density = display.card_pixels / _CARD_MM[0]
    _lay(photo, gloss_in_photo, card, Place(), density, gloss_of_card=0, corner_mm=_CORNER_MM, thick_mm=0.76)
    photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.6), np.uint8)
    tone = np.clip(255 * (np.arange(256) / 255.0) ** 0.92 * 1.03, 0, 255).astype(np.uint8)
    footprint = TEXELS * display.card_pixels / filmed_width
    # Lens and sensor integrate over about one camera pixel; what is left of the grid beats with the sensor's own.
    glowing = display.glowing(np.asarray(cv2.LUT(photo, tone), np.uint8), footprint * rng.uniform(0.35, 0.4))
    texels_per_mm = TEXELS / display.pitch_mm
    frame = TEXELS * 120
    size = (glowing.shape[1] + 2 * frame, glowing.shape[0] + 2 * frame)
    around = desk(rng, (size[0] // 6, size[1] // 6), texels_per_mm / 6)
    texture = np.asarray(cv2.resize((around * 0.45).astype(np.uint8), size), np.uint8)
    rim = round(0.7 * frame)
    texture[frame - rim : -(frame - rim), frame - rim : -(frame - rim)] = round(rng.uniform(14, 34))
    texture[frame:-frame, frame:-frame] = glowing
    gloss = np.full((size[1] // _GLOSS_STEP, size[0] // _GLOSS_STEP), 0.1, np.float32)
    inner = (frame - rim) // _GLOSS_STEP
    gloss[inner:-inner, inner:-inner] = 0.6
    enlarged = density / texels_per_mm * TEXELS
    corners = _corners(Place())[None] * enlarged
    return Surface(
        texture, texels_per_mm, gloss, corners, (_CARD_MM[0] * enlarged, _CARD_MM[1] * enlarged), screen=True
    )


def _corners(place: Place) -> Matrix:
    """Corners of a card in mm, float64 (4, 2)."""
    half_x, half_y = _CARD_MM[0] / 2, _CARD_MM[1] / 2
    own = np.array([[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]])
    angle = np.radians(place.turn)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(own @ turn.T + np.array([place.x, place.y]))


def _lay(
    texture: Image3,
    gloss: Plane,
    card: Image3,
    place: Place,
    texels_per_mm: float,
    *,
    gloss_of_card: float,
    corner_mm: float,
    thick_mm: float,
) -> None:
    """Paint a card at 300 dpi with its shadow onto a plane and its gloss onto the plane's gloss, in place."""
    scale = texels_per_mm / PIXELS_PER_MM
    h, w = card.shape[:2]
    fit = cv2.resize(card, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA) if scale < 1 else card
    rest_x, rest_y = w * scale / fit.shape[1], h * scale / fit.shape[0]
    angle = np.radians(place.turn)
    across = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([rest_x, rest_y])
    middle = (np.array(texture.shape[1::-1]) - 1) / 2 + texels_per_mm * np.array([place.x, place.y])
    thick = thick_mm * texels_per_mm
    # Work in the card's surroundings only: as far as its shadow falls.
    reach = np.abs(across) @ np.array(fit.shape[1::-1]) / 2 + 12 * thick
    x0, y0 = (max(0, int(v)) for v in middle - reach)
    x1, y1 = (int(v) for v in middle + reach)
    part = texture[y0:y1, x0:x1]
    size = part.shape[1::-1]
    shift = middle - (x0, y0) - across @ np.array([(fit.shape[1] - 1) / 2, (fit.shape[0] - 1) / 2])
    matrix = np.column_stack([across, shift])
    mask = _rounded(fit.shape[1], fit.shape[0], corner_mm * texels_per_mm)
    cover = np.asarray(cv2.warpAffine(mask, matrix, size), np.float32)
    drop_shadow(part, cover, (0.5 * thick, 0.8 * thick), 0.6 * thick + 0.5, 0.5)
    drop_shadow(part, cover, (2.0 * thick, 3.0 * thick), 3.0 * thick + 1, 0.18)
    moved = np.asarray(cv2.warpAffine(fit, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    blend(part, moved, cover)
    whole = np.zeros(texture.shape[:2], np.float32)
    whole[y0:y1, x0:x1] = cover
    small = cv2.resize(whole, gloss.shape[::-1], interpolation=cv2.INTER_AREA)
    gloss += small * (gloss_of_card - gloss)


def _rounded(width: int, height: int, radius: float) -> Plane:
    """A rectangle with rounded corners: float32 (height, width) 0..1, smooth at the edge."""
    x = np.abs(np.arange(width) - (width - 1) / 2)[None, :] - (width / 2 - radius)
    y = np.abs(np.arange(height) - (height - 1) / 2)[:, None] - (height / 2 - radius)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0)) - radius
    return np.asarray(np.clip(0.5 - outside, 0, 1), np.float32)
