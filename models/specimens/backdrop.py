"""What a document lies on: wood, cloth, laminate or stone, with the clutter of a desk. All drawn from seeds."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image3 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

_WOODS = ((148, 104, 66), (112, 74, 46), (186, 150, 108), (84, 58, 44), (168, 128, 92))
_CLOTHS = ((70, 84, 104), (126, 50, 48), (150, 146, 136), (52, 74, 60), (196, 188, 172), (40, 42, 50))
_PLAINS = ((206, 204, 200), (88, 90, 96), (58, 62, 70), (168, 172, 176), (226, 224, 218))
_THINGS = (
    (34, 36, 40),
    (238, 236, 228),
    (246, 222, 110),
    (60, 96, 150),
    (176, 60, 54),
    (90, 140, 100),
    (150, 150, 156),
)

_OWN_COLOURS = {"coin": (186, 160, 104), "sheet": (240, 239, 234), "phone": (26, 27, 30)}


def desk(rng: np.random.Generator, size: tuple[int, int], pixels_per_mm: float) -> Image3:
    """A desk without anything on it: uint8 (H, W, 3) for size = (width, height)."""
    kind = rng.integers(4)
    width, height = size
    if kind == 0:
        picture = _wood(rng, width, height, pixels_per_mm)
    elif kind == 1:
        picture = _cloth(rng, width, height, pixels_per_mm)
    elif kind == 2:
        base = np.array(_PLAINS[rng.integers(len(_PLAINS))], np.float32)
        speckle = 5.0 * noise(rng, width, height, 2) + 3.0 * noise(rng, width, height, 24)
        picture = base + speckle[..., None]
    else:
        base = np.array(_PLAINS[rng.integers(len(_PLAINS))], np.float32)
        stone = 3 * noise(rng, width, height, 3) + 4 * noise(rng, width, height, 14) + 7 * noise(rng, width, height, 90)
        picture = base + stone[..., None] * np.array([1.0, 0.96, 0.9], np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def clutter(
    rng: np.random.Generator, picture: Image3, pixels_per_mm: float, *, count: int, keep_clear_mm: float
) -> None:
    """Lay `count` things on a desk, in place: sheets with writing, notes, pens, phones, coins, each with its shadow.

    keep_clear_mm: the centres of things stay so far from the middle, in a direction-dependent oval as wide as a card.
    """
    height, width = picture.shape[:2]
    for _ in range(count):
        angle = rng.uniform(0, 2 * np.pi)
        away = keep_clear_mm * rng.uniform(1.0, 1.5) * pixels_per_mm
        centre = (width / 2 + 1.45 * away * np.cos(angle), height / 2 + away * np.sin(angle))
        _thing(rng, picture, centre, pixels_per_mm)


def noise(rng: np.random.Generator, width: int, height: int, cell: float, stretch: float = 1.0) -> Plane:
    """Smooth noise of unit variance or a little less: float32 (height, width), features of `cell` pixels.

    stretch: how much longer features are along x.
    """
    rows, columns = max(2, round(height / cell) + 1), max(2, round(width / (cell * stretch)) + 1)
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def drop_shadow(picture: Image3, mask: Plane, offset: tuple[float, float], blur: float, depth: float) -> None:
    """Darken, in place, around something that covers `mask` (float32 (H, W) 0..1). Lengths in pixels; depth 0..1."""
    coarse = max(1, int(blur / 2))  # a wide shadow has no detail: a coarse one, enlarged, is the same and cheaper
    height, width = mask.shape
    size = (max(1, width // coarse), max(1, height // coarse))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    shift = np.array([[1, 0, offset[0] * size[0] / width], [0, 1, offset[1] * size[1] / height]], np.float64)
    soft = cv2.GaussianBlur(cv2.warpAffine(small, shift, size), (0, 0), blur / coarse)
    shade = np.asarray(cv2.resize(1 - depth * soft, (width, height)))
    picture[:] = cv2.multiply(picture, cv2.merge([shade] * 3), dtype=cv2.CV_8U)


def blend(picture: Image3, face: npt.NDArray[np.uint8] | Plane, mask: Plane) -> None:
    """Paint `face` (H, W, 3) over a picture where `mask` (float32 (H, W) 0..1) says, in place."""
    x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    part = picture[y : y + height, x : x + width]
    if not part.size:
        return
    cover = cv2.merge([mask[y : y + height, x : x + width]] * 3)
    over = cv2.multiply(face[y : y + height, x : x + width], cover, dtype=cv2.CV_32F)
    under = cv2.multiply(part, 1 - cover, dtype=cv2.CV_32F)
    part[:] = cv2.add(over, under, dtype=cv2.CV_8U)


def _wood(rng: np.random.Generator, width: int, height: int, pixels_per_mm: float) -> Plane:
    base = np.array(_WOODS[rng.integers(len(_WOODS))], np.float32)
    mm = pixels_per_mm
    bend = noise(rng, width, height, 14 * mm, 5.0)
    rows = (np.arange(height, dtype=np.float32) / mm)[:, None]
    rings = np.sin(2 * np.pi * (rows * rng.uniform(0.12, 0.3) + 1.6 * bend))
    grain = noise(rng, width, height, 0.25 * mm, 60.0) + 0.7 * noise(rng, width, height, 0.8 * mm, 25.0)
    pores = np.clip(noise(rng, width, height, 0.2 * mm, 9.0) - 1.6, 0, 1)
    shade = 1 + 0.07 * rings + 0.05 * grain + 0.06 * noise(rng, width, height, 40 * mm, 3.0) - 0.35 * pores
    seam = np.abs(rows % rng.uniform(70, 120) - rng.uniform(5, 60)) < 0.35
    return np.asarray(base * (shade * np.where(seam, 0.55, 1.0))[..., None], np.float32)


def _cloth(rng: np.random.Generator, width: int, height: int, pixels_per_mm: float) -> Plane:
    base = np.array(_CLOTHS[rng.integers(len(_CLOTHS))], np.float32)
    x = (np.arange(width, dtype=np.float32) / pixels_per_mm)[None, :]
    y = (np.arange(height, dtype=np.float32) / pixels_per_mm)[:, None]
    threads = rng.uniform(0.9, 1.6)  # per mm
    wobble = 0.12 * noise(rng, width, height, 12 * pixels_per_mm)
    weave = np.sin(2 * np.pi * threads * (x + wobble)) * np.sin(2 * np.pi * threads * (y + wobble))
    fold = noise(rng, width, height, 55 * pixels_per_mm)
    shade = 1 + 0.1 * weave + 0.08 * fold + 0.05 * noise(rng, width, height, 2)
    return np.asarray(base * shade[..., None], np.float32)


def _thing(rng: np.random.Generator, picture: Image3, centre: tuple[float, float], mm: float) -> None:
    """One thing, centred at a pixel; mm: pixels a millimetre."""
    kind = str(rng.choice(["sheet", "note", "pen", "phone", "coin"], p=[0.3, 0.2, 0.25, 0.1, 0.15]))
    colour = np.array(_THINGS[rng.integers(len(_THINGS))], np.float32)
    w, h = {
        "sheet": (rng.uniform(90, 210), rng.uniform(110, 200)),
        "note": (rng.uniform(30, 76), rng.uniform(30, 76)),
        "pen": (rng.uniform(110, 145), rng.uniform(7, 11)),
        "phone": (rng.uniform(140, 160), rng.uniform(68, 76)),
        "coin": (24.0, 24.0),
    }[kind]
    colour = np.array(_OWN_COLOURS.get(kind, tuple(colour)), np.float32)
    thick = {"sheet": 0.3, "note": 0.4, "pen": 4.0, "phone": 5.0, "coin": 1.5}[kind] * mm
    turn = rng.uniform(0, np.pi)
    reach = int(np.hypot(w, h) / 2 * mm + 4 * thick + 8)  # work inside the thing's bounding square only
    x0, y0 = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    part = picture[y0 : int(centre[1]) + reach, x0 : int(centre[0]) + reach]
    if part.size == 0:
        return
    middle = (centre[0] - x0, centre[1] - y0)
    mask = np.zeros(part.shape[:2], np.uint8)
    if kind == "coin":
        cv2.circle(mask, (round(middle[0]), round(middle[1])), round(w * mm / 2), 255, -1, cv2.LINE_AA)
    else:
        box = cv2.boxPoints((middle, (w * mm, h * mm), float(np.degrees(turn))))
        cv2.fillPoly(mask, [np.round(box * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    cover = np.asarray(mask / 255, np.float32)
    drop_shadow(part, cover, (0.5 * thick, 0.6 * thick), 0.5 * thick + 0.8, 0.45)
    y = (np.arange(part.shape[0], dtype=np.float32) - middle[1])[:, None] / mm
    x = (np.arange(part.shape[1], dtype=np.float32) - middle[0])[None, :] / mm
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    shade: Plane = np.ones(part.shape[:2], np.float32)
    if kind == "sheet":
        page = _writing(rng, w, h, mm)
        aim = cv2.getRotationMatrix2D(((page.shape[1] - 1) / 2, (page.shape[0] - 1) / 2), -float(np.degrees(turn)), 1.0)
        aim[:, 2] = aim[:, 2] + np.array(middle) - (np.array(page.shape[::-1]) - 1) / 2
        shade = np.asarray(1 - 0.8 / 255 * cv2.warpAffine(page, aim, part.shape[1::-1]), np.float32)
    elif kind == "pen":
        shade = np.asarray(0.55 + 0.6 * np.cos(across / h * 2.6), np.float32)
    elif kind == "coin":
        radius = np.hypot(along, across)
        shade = np.asarray(0.9 + 0.25 * np.sin(radius * 2.2) * (radius > 8), np.float32)
    blend(part, np.asarray(colour * shade[..., None], np.float32), cover)


def _writing(rng: np.random.Generator, w: float, h: float, mm: float) -> npt.NDArray[np.uint8]:
    """A printed letter in no language: ink uint8 (h, w), 0 to 255; w and h in mm, mm: pixels a millimetre."""
    page = np.zeros((round(h * mm), round(w * mm)), np.uint8)
    size = 1.9 * mm / 21  # Hershey's capitals are 21 units high
    for line in range(int((h - 30) / 5)):
        letters = rng.choice(list("aeionrstlcdmpu   "), size=int(w / 2))
        text = "".join(letters)[: int((w - 30) / 1.6 * rng.choice([1.0, 1.0, 1.0, 0.5]))]
        at = (round(15 * mm), round((18 + 5 * line) * mm))
        cv2.putText(page, text, at, cv2.FONT_HERSHEY_COMPLEX, size, 255, max(1, round(0.25 * mm)), cv2.LINE_AA)
    return page
