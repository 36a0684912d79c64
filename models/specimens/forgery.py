"""Forges a genuine front: pastes another portrait over the first, or removes the letters of a field and replaces them.

Neither leaves a marker. The forger's print has its own resolution, colours and edges. Where letters were scraped off,
the security printing is gone too, and the paint over it only nearly matches the paper's colour. All drawn.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from models.specimens.designs import DESIGNS, FieldPlace
from models.specimens.document import Specimen, printed_value, printed_width
from models.specimens.person import PORTRAITS, portrait_image
from models.specimens.security import PIXELS_PER_MM

Image3 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

EDITED = ("birth_date", "expiry_date", "number", "surname")
"""Fields worth editing."""
_FONTS = (
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans.ttf",
    "DejaVuSansMono-Bold.ttf",
    "STIXGeneralBol.ttf",
)
"""The document's own twice: a forger looks for it."""
_OVERSAMPLING = 4


def portrait_replaced(front: Image3, specimen: Specimen, seed: int) -> tuple[Image3, Plane]:
    """Another person's photo, printed and glued over the portrait.

    front: uint8 (638, 1012, 3) RGB. Gives the new front, and how much of what was there is covered, float32 (638, 1012)
    0..1: variable elements under the photo are not seen any more.
    """
    rng = np.random.default_rng([seed, 21])
    other = next(name for name in PORTRAITS if name != specimen.printed.portrait)
    left, top, right, bottom = (v * PIXELS_PER_MM for v in DESIGNS[specimen.design].portrait)
    grow = rng.uniform(-0.1, 0.5) * PIXELS_PER_MM  # it must not leave an edge of the old one
    width, height = right - left + 2 * grow, bottom - top + 2 * grow
    photo = _printed_photo(rng, portrait_image(other), (round(width), round(height)))
    angle = float(rng.normal(0, 0.5))
    middle = ((left + right) / 2 + rng.normal(0, 2.0), (top + bottom) / 2 + rng.normal(0, 2.0))
    place = cv2.getRotationMatrix2D(((photo.shape[1] - 1) / 2, (photo.shape[0] - 1) / 2), angle, 1.0)
    place[:, 2] = place[:, 2] + np.array(middle) - (np.array(photo.shape[1::-1]) - 1) / 2
    size = front.shape[1::-1]
    mask = np.pad(np.ones((photo.shape[0] - 4, photo.shape[1] - 4), np.float32), 2)
    cover = np.asarray(cv2.warpAffine(mask, place, size, flags=cv2.INTER_LINEAR), np.float32)
    cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.3, 2.5)))  # cut, or its rim thinned
    laid = cv2.warpAffine(photo, place, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    # A sheet of photo paper is a tenth to a quarter of a millimetre thick, or thinned and burnished: a faint shadow.
    shadow = cv2.GaussianBlur(np.roll(cover, (1, 1), (0, 1)), (0, 0), 1.2)[..., None] * rng.uniform(0.0, 0.3)
    under = front.astype(np.float32) * (1 - shadow)
    done = under + cover[..., None] * (laid - under)
    return np.clip(done, 0, 255).astype(np.uint8), cover


def text_edited(front: Image3, specimen: Specimen, seed: int) -> Image3:
    """One field's letters taken off and others printed in their place: uint8 (638, 1012, 3) RGB.

    A date becomes one some years off, a number another number, a name another name.
    """
    rng = np.random.default_rng([seed, 22])
    design, holder = DESIGNS[specimen.design], specimen.printed
    places = {field.key: field for field in design.fields}
    field = places[EDITED[int(rng.integers(len(EDITED)))]]
    old = printed_value(holder, field.key, design)
    new = _another(rng, old)
    done = front.astype(np.float32)
    _scrape(rng, done, field, old)
    ink, colour = _letters(rng, field, new, front.shape[:2])
    # Its own ink: a little lighter or bluer than the issuer's, printed at a little less resolution.
    colour = colour + np.asarray(design.ink, np.float32)
    done += ink[..., None] * (colour - done)
    return np.clip(done, 0, 255).astype(np.uint8)


def _printed_photo(rng: np.random.Generator, portrait: Image3, size: tuple[int, int]) -> Image3:
    """A portrait off the net, printed at home: less resolution, a printer's colours, its dots, its banding."""
    share = rng.uniform(0.45, 0.9)
    few = cv2.resize(portrait, (round(share * size[0]), round(share * size[1])), interpolation=cv2.INTER_AREA)
    picture = cv2.resize(few, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    mean = picture.mean(axis=2, keepdims=True)
    picture = mean + rng.uniform(0.75, 1.1) * (picture - mean)
    picture = rng.uniform(5, 25) + rng.uniform(0.85, 0.95) * picture * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32) * (rng.uniform(110, 180) / 300 * np.pi * 2**0.5)
    picture += (rng.uniform(1, 5) * np.cos(x + y) * np.cos(x - y))[..., None]
    picture += rng.normal(0, rng.uniform(0.5, 2.5), (size[1], 1, 1)) + rng.normal(0, 2.0, (size[1], size[0], 1))
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _another(rng: np.random.Generator, old: str) -> str:
    """A text of the same kind: digits for digits, letters for letters; at least one character differs."""
    letters = list(old)
    at = [i for i, letter in enumerate(letters) if letter.isdigit()] or list(range(1, len(letters)))
    for i in rng.choice(at, size=min(len(at), int(rng.integers(1, 4))), replace=False):
        letter = letters[i]
        if letter.isdigit():
            letters[i] = str((int(letter) + int(rng.integers(1, 9))) % 10)
        elif letter.isalpha():
            letters[i] = chr(ord("A") + (ord(letter) - ord("A") + int(rng.integers(1, 25))) % 26)
    return "".join(letters)


def _scrape(rng: np.random.Generator, front: Plane, field: FieldPlace, old: str) -> None:
    """Take the old letters off, in place: filled from around, painted flat, or drawn on again with a soft brush."""
    mm = PIXELS_PER_MM
    end = field.x + printed_width(old, field.width) + rng.uniform(0.4, 1.5)
    x0, x1 = round((field.x - 0.5) * mm), round(end * mm)
    y0, y1 = round((field.y + 1.75) * mm), round((field.y + 4.85) * mm)
    area = front[y0:y1, x0:x1]
    paper = np.percentile(area, 75, axis=(0, 1)) if rng.random() < 0.5 else np.median(area[:2], axis=(0, 1))
    around = np.asarray(cv2.GaussianBlur(front, (0, 0), 9)[y0:y1, x0:x1])
    how = rng.integers(3)
    new: npt.NDArray[np.generic]
    if how == 0:  # painted
        new = np.broadcast_to(paper, area.shape)
    elif how == 1:  # filled in from the sides
        mask = np.zeros(front.shape[:2], np.uint8)
        mask[y0:y1, x0:x1] = 255
        box = np.s_[max(0, y0 - 12) : y1 + 12, max(0, x0 - 12) : x1 + 12]
        part = np.clip(front[box], 0, 255).astype(np.uint8)
        filled = cv2.inpaint(part, mask[box], 4, cv2.INPAINT_TELEA)
        new = filled[y0 - max(0, y0 - 12) :, x0 - max(0, x0 - 12) :][: y1 - y0, : x1 - x0]
    else:  # bleached: what was printed shines through weakly
        keep = rng.uniform(0.0, 0.25)
        new = paper + keep * (area - around)
    colour = np.asarray(new, np.float32) + rng.normal(0, 2.5, 3) + rng.normal(0, 1.5, (*area.shape[:2], 1))
    inner = np.zeros(area.shape[:2], np.float32)
    inner[2:-2, 2:-2] = 1
    soft = cv2.GaussianBlur(inner, (0, 0), rng.uniform(0.8, 2.0))[..., None]
    area[:] = area + soft * (colour - area)


def _letters(
    rng: np.random.Generator, field: FieldPlace, text: str, shape: tuple[int, ...]
) -> tuple[Plane, npt.NDArray[np.floating]]:
    """The forger's letters: cover float32 (H, W) 0..1, and how their ink differs from the issuer's, in levels (3,)."""
    mm = PIXELS_PER_MM * _OVERSAMPLING
    name = _FONTS[int(rng.integers(len(_FONTS)))]
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    font = ImageFont.truetype(path, 2.2 / 0.729 * rng.uniform(0.95, 1.06) * mm)
    if (wide := font.getlength(text)) > field.width * mm:
        font = font.font_variant(size=font.size * field.width * mm / wide)
    canvas = Image.new("L", (shape[1] * _OVERSAMPLING, round(6 * mm)))
    at = ((field.x + rng.normal(0, 0.15)) * mm, (4.35 + rng.normal(0, 0.1)) * mm)
    ImageDraw.Draw(canvas).text(at, text, font=font, fill=255, anchor="ls")
    drawn = np.array(canvas, np.float32) / 255
    turned = cv2.warpAffine(
        drawn,
        cv2.getRotationMatrix2D((field.x * mm, 4.35 * mm), float(rng.normal(0, 0.35)), 1.0),
        drawn.shape[1::-1],
    )
    small = cv2.resize(turned, (shape[1], round(6 * PIXELS_PER_MM)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 0.9))
    ink = np.zeros(shape, np.float32)
    top = round(field.y * PIXELS_PER_MM)
    rows = min(small.shape[0], shape[0] - top)
    ink[top : top + rows] = small[:rows]
    return ink * rng.uniform(0.85, 1.0), rng.uniform(-5, 30) + rng.uniform(-5, 5, 3)
