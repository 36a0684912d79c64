"""The card designs of Utopia as data: colours and the position of each item, in millimetres on ID-1 (85.60 × 53.98).

There are two issues of the card. They share no position, so nothing can be read at fixed coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
DesignName = Literal["azure", "ochre"]
DESIGN_NAMES: tuple[DesignName, ...] = get_args(DesignName)


@dataclass(frozen=True)
class FieldPlace:
    """One labelled field of the front: label at (x, y), value below it; y is the label's top. width: it must fit."""

    key: str
    label: str
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Patch:
    """One optically variable element. kind: its drawing; box: left, top, right, bottom in mm; grating: direction of
    its diffraction grating in radians; phase: its hue offset in cycles.
    """

    kind: Literal["rosette", "letters", "waves", "stars"]
    box: Box
    grating: float
    phase: float


@dataclass(frozen=True)
class Design:
    """One issue of the card. Boxes are left, top, right, bottom in mm."""

    name: DesignName
    title: str
    subtitle: str
    paper: Colour
    paper_far: Colour
    lines: tuple[Colour, Colour, Colour]
    band: Colour
    band_text: Colour
    band_height: float
    label: Colour
    ink: Colour
    months_in_words: bool
    portrait: Box
    ghost: Box
    signature: Box
    fields: tuple[FieldPlace, ...]
    patches: tuple[Patch, ...]
    barcode_top: float
    pattern: int


AZURE = Design(
    name="azure",
    title="UTOPIA",
    subtitle="IDENTITY CARD",
    paper=(226, 236, 244),
    paper_far=(206, 222, 240),
    lines=((120, 164, 206), (206, 150, 172), (132, 190, 186)),
    band=(28, 62, 120),
    band_text=(240, 244, 250),
    band_height=8.6,
    label=(52, 84, 140),
    ink=(24, 26, 34),
    months_in_words=True,
    portrait=(3.6, 11.4, 29.6, 44.8),
    ghost=(66.6, 30.6, 80.6, 48.6),
    signature=(33.0, 45.2, 60.0, 52.4),
    fields=(
        FieldPlace("surname", "Surname", 33.0, 11.2, 34.0),
        FieldPlace("given_names", "Given names", 33.0, 17.6, 34.0),
        FieldPlace("nationality", "Nationality", 33.0, 24.0, 14.0),
        FieldPlace("sex", "Sex", 51.0, 24.0, 6.0),
        FieldPlace("birth_date", "Date of birth", 60.0, 24.0, 24.0),
        FieldPlace("number", "Document No.", 33.0, 30.4, 30.0),
        FieldPlace("expiry_date", "Date of expiry", 33.0, 36.8, 26.0),
    ),
    patches=(
        Patch("rosette", (15.0, 33.0, 33.0, 51.0), 0.4, 0.0),
        Patch("waves", (68.0, 10.0, 84.4, 21.0), 1.9, 0.35),
        Patch("letters", (60.0, 31.0, 84.6, 47.0), 1.1, 0.7),
    ),
    barcode_top=14.4,
    pattern=3,
)

OCHRE = Design(
    name="ochre",
    title="STATE OF UTOPIA",
    subtitle="RESIDENT CARD",
    paper=(244, 238, 222),
    paper_far=(226, 234, 212),
    lines=((196, 160, 98), (120, 168, 124), (190, 136, 118)),
    band=(94, 52, 40),
    band_text=(250, 242, 226),
    band_height=7.4,
    label=(124, 70, 46),
    ink=(30, 24, 20),
    months_in_words=False,
    portrait=(56.6, 10.4, 82.0, 43.0),
    ghost=(40.6, 31.4, 53.0, 47.4),
    signature=(55.0, 44.2, 82.0, 51.8),
    fields=(
        FieldPlace("number", "Document number", 4.0, 9.8, 30.0),
        FieldPlace("surname", "Surname", 4.0, 16.2, 48.0),
        FieldPlace("given_names", "Given names", 4.0, 22.6, 48.0),
        FieldPlace("birth_date", "Date of birth", 4.0, 29.0, 22.0),
        FieldPlace("sex", "Sex", 30.0, 29.0, 6.0),
        FieldPlace("nationality", "Nationality", 4.0, 35.4, 14.0),
        FieldPlace("expiry_date", "Date of expiry", 4.0, 41.8, 22.0),
    ),
    patches=(
        Patch("stars", (44.0, 29.0, 64.0, 49.0), 2.6, 0.2),
        Patch("letters", (28.0, 37.6, 52.0, 51.6), 0.2, 0.55),
        Patch("waves", (38.0, 8.6, 55.6, 15.6), 1.3, 0.85),
    ),
    barcode_top=13.2,
    pattern=8,
)

DESIGNS: dict[DesignName, Design] = {"azure": AZURE, "ochre": OCHRE}
