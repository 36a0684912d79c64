"""The specimen document: its data, and its front and back as pictures at 300 dpi (ID1_SIZE).

The layout follows ICAO Doc 9303-5 (TD1): machine readable zone in the lowest 23.2 mm of the back, three lines of 30.
What changes with the light is not printed here but added to each frame (`models.specimens.security.shine`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
import zxingcpp
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import CubicSpline

from models.mrz.compose import compose_td1
from models.page.quad import ID1_SIZE
from models.specimens.designs import DESIGNS, Box, Design, DesignName
from models.specimens.glyphs import PITCH_MM, mrz_ink
from models.specimens.person import Holder, PortraitName, make_holder, portrait_image
from models.specimens.security import PIXELS_PER_MM, guilloche, rgb

Image3 = npt.NDArray[np.uint8]

_OVERSAMPLING = 2  # text is drawn at 600 dpi and averaged down
_DPMM = PIXELS_PER_MM * _OVERSAMPLING
_MRZ_SPACING_MM = 6.35
_MRZ_ZONE_MM = 23.2
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True)
class Specimen:
    """One document. printed: what the front says; encoded: what the barcode says; mrz: the three lines of the back.

    They agree on a genuine document. seed gives the signature; shown_on: the day on which it is presented.
    """

    seed: int
    design: DesignName
    printed: Holder
    encoded: Holder
    mrz: tuple[str, str, str]
    shown_on: date


def make_specimen(seed: int, *, design: DesignName, portrait: PortraitName, today: date) -> Specimen:
    """A genuine, valid document of a fictional holder; the same arguments give the same document."""
    holder = make_holder(seed, portrait=portrait, today=today)
    return Specimen(seed=seed, design=design, printed=holder, encoded=holder, mrz=mrz_of(holder), shown_on=today)


def mrz_of(holder: Holder) -> tuple[str, str, str]:
    """The holder's TD1 lines, 30 characters each."""
    return compose_td1(
        "I",
        "UTO",
        holder.number,
        holder.birth_date,
        holder.sex,
        holder.expiry_date,
        "UTO",
        holder.surname,
        holder.given_names,
    )


def aamva_payload(holder: Holder) -> bytes:
    """The barcode's content: elements of the AAMVA card design standard (annex D, version 10) in one ID subfile.

    Utopia has no issuer number: 636000 is the standard's own example. DAJ (a state of two letters) is left out.
    """
    first, _, middle = holder.given_names.partition(" ")
    us_date = "%m%d%Y"
    elements = {
        "DAQ": holder.number,
        "DCS": holder.surname,
        "DDE": "N",
        "DAC": first,
        "DDF": "N",
        "DAD": middle or "NONE",
        "DDG": "N",
        "DBD": holder.issue_date.strftime(us_date),
        "DBB": holder.birth_date.strftime(us_date),
        "DBA": holder.expiry_date.strftime(us_date),
        "DBC": {"M": "1", "F": "2"}.get(holder.sex, "9"),
        "DAG": holder.address,
        "DAI": holder.birth_place,
        "DCG": "UTO",
    }
    subfile = "ID" + "\n".join(name + value for name, value in elements.items()) + "\r"
    header = "@\n\x1e\rANSI 636000100001"
    return f"{header}ID{len(header) + 10:04d}{len(subfile):04d}{subfile}".encode("ascii")


def render_front(specimen: Specimen) -> Image3:
    """The front as printed, without what the light adds: uint8 (638, 1012, 3) RGB."""
    design, holder = DESIGNS[specimen.design], specimen.printed
    canvas = _canvas(specimen.design)
    _paste(canvas, portrait_image(holder.portrait), design.portrait, opacity=1.0, tint=None)
    _paste(canvas, portrait_image(holder.portrait), design.ghost, opacity=0.42, tint=design.band)
    sheet = _Sheet(canvas)
    _band(sheet, design)
    for place in design.fields:
        sheet.text(place.x, place.y, place.label, 1.35, design.label)
        value = printed_value(holder, place.key, design)
        sheet.text(place.x, place.y + 2.15, value, 2.2, design.ink, bold=True, fit=place.width)
    picture = sheet.picture()
    _sign(picture, design.signature, specimen.seed, design.ink)
    return _finished(picture)


def render_back(specimen: Specimen) -> Image3:
    """The back with barcode and machine readable zone: uint8 (638, 1012, 3) RGB."""
    design, holder = DESIGNS[specimen.design], specimen.printed
    canvas = _canvas(specimen.design)
    zone = round((ID1_SIZE[1] / PIXELS_PER_MM - _MRZ_ZONE_MM) * _DPMM)
    canvas[zone:] = 0.25 * canvas[zone:] + 0.75 * rgb((250, 250, 248))
    _barcode(canvas, aamva_payload(specimen.encoded), design.barcode_top)
    ink = mrz_ink(specimen.mrz, pixels_per_mm=_DPMM, line_spacing_mm=_MRZ_SPACING_MM)[..., None]
    # ICAO Doc 9303-5 §4.2.4: the left edge of the first character is about 4 mm from the card's edge.
    left = round((4.0 + 0.8 - PITCH_MM) * _DPMM)
    top = canvas.shape[0] - ink.shape[0] - round(2.1 * _DPMM)
    ink = ink[:, : canvas.shape[1] - left]
    area = canvas[top : top + ink.shape[0], left : left + ink.shape[1]]
    area[:] += ink * (rgb((22, 22, 26)) - area)
    sheet = _Sheet(canvas)
    notes = (
        ("Place of birth", holder.birth_place, 4.0, 26.0),
        ("Address", holder.address, 32.0, 26.0),
        ("Date of issue", _date(holder.issue_date, design), 62.0, 20.0),
    )
    for label, value, x, width in notes:
        sheet.text(x, 3.0, label, 1.2, design.label)
        sheet.text(x, 4.9, value, 1.8, design.ink, fit=width)
    sheet.text(4.0, 9.2, "This card is the property of the State of Utopia. If found, return to any post office.", 1.1,
               design.label)  # fmt: skip
    return _finished(sheet.picture())


class _Sheet:
    """Text on a canvas, measured in mm."""

    def __init__(self, canvas: npt.NDArray[np.float32]) -> None:
        self._image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
        self._draw = ImageDraw.Draw(self._image)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        capital_height: float,
        colour: tuple[int, int, int],
        *,
        bold: bool = False,
        fit: float | None = None,
    ) -> None:
        """Draw text whose capitals reach from y down to y + capital_height; set smaller when wider than `fit` mm."""
        size = capital_height / 0.729  # DejaVu's capitals are 0.729 em high
        if fit is not None:
            size *= min(1.0, fit * _DPMM / max(1.0, _font(size, bold).getlength(text)))
        at = (x * _DPMM, (y + capital_height) * _DPMM)
        self._draw.text(at, text, font=_font(size, bold), fill=colour, anchor="ls")

    def rectangle(self, box: Box, colour: tuple[int, int, int]) -> None:
        self._draw.rectangle([v * _DPMM for v in box], fill=colour)

    def picture(self) -> Image3:
        return np.array(self._image)


@lru_cache(maxsize=128)
def _font(size_mm: float, bold: bool) -> ImageFont.FreeTypeFont:
    # DejaVu Sans lies inside matplotlib's package, so that no font of the machine is needed.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size_mm * _DPMM)


@cache
def _paper(name: DesignName) -> npt.NDArray[np.float32]:
    size = (ID1_SIZE[0] * _OVERSAMPLING, ID1_SIZE[1] * _OVERSAMPLING)
    # Its lines are four pixels wide at 300 dpi and smooth: drawing them at 600 dpi costs four times more for nothing.
    paper = np.asarray(cv2.resize(guilloche(DESIGNS[name], ID1_SIZE), size), np.float32)
    paper.setflags(write=False)
    return paper


def _canvas(name: DesignName) -> npt.NDArray[np.float32]:
    return _paper(name).copy()


def _finished(picture: Image3) -> Image3:
    return np.asarray(cv2.resize(picture, ID1_SIZE, interpolation=cv2.INTER_AREA), np.uint8)


def printed_value(holder: Holder, key: str, design: Design) -> str:
    """What stands in the field `key` of a front."""
    if key == "nationality":
        return "UTO"
    value = getattr(holder, key)
    return _date(value, design) if isinstance(value, date) else str(value)


def printed_width(value: str, fit: float) -> float:
    """Width in mm that a field's value takes on a front, set smaller when wider than `fit`."""
    return min(fit, _font(2.2 / 0.729, True).getlength(value) / _DPMM)


def _date(day: date, design: Design) -> str:
    if design.months_in_words:
        return f"{day.day:02d} {_MONTHS[day.month - 1]} {day.year}"
    return f"{day.day:02d}.{day.month:02d}.{day.year}"


def _band(sheet: _Sheet, design: Design) -> None:
    sheet.rectangle((0, 0, 86, design.band_height), design.band)
    middle = design.band_height / 2
    sheet.text(4.0, middle - 1.5, design.title, 3.0, design.band_text, bold=True, fit=44.0)
    sheet.text(50.0, middle - 0.9, design.subtitle, 1.9, design.band_text)
    sheet.text(77.0, middle - 1.1, "UTO", 2.2, design.band_text, bold=True)


def _paste(
    canvas: npt.NDArray[np.float32],
    portrait: Image3,
    box: Box,
    *,
    opacity: float,
    tint: tuple[int, int, int] | None,
) -> None:
    """Print a portrait into a box (mm) with edges that fade over half a millimetre; tinted: in one colour."""
    x0, y0, x1, y1 = (round(v * _DPMM) for v in box)
    picture = cv2.resize(portrait, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if tint is not None:
        shade = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] / 255.0
        picture = rgb(tint) + (255.0 - rgb(tint)) * shade
    soft = np.zeros(picture.shape[:2], np.float32)
    margin = round(0.5 * _DPMM)
    soft[margin:-margin, margin:-margin] = opacity
    soft = cv2.GaussianBlur(soft, (0, 0), margin / 2)[..., None]
    area = canvas[y0:y1, x0:x1]
    area += soft * (picture - area)


def _barcode(canvas: npt.NDArray[np.float32], payload: bytes, top_mm: float) -> None:
    """A PDF417 of 11 columns on a white field, centred; three pixels a module at 300 dpi (0.25 mm)."""
    code = zxingcpp.create_barcode(payload, zxingcpp.BarcodeFormat.PDF417, columns=11, ec_level="3")
    modules = np.array(zxingcpp.write_barcode_to_image(code, scale=1, add_quiet_zones=False))
    size = 3 * _OVERSAMPLING
    bars = np.kron(modules, np.ones((size, size), np.uint8)).astype(np.float32)
    quiet = 3 * size
    left, top = (canvas.shape[1] - bars.shape[1]) // 2, round(top_mm * _DPMM)
    canvas[top - quiet : top + bars.shape[0] + quiet, left - quiet : left + bars.shape[1] + quiet] = (248, 248, 246)
    canvas[top : top + bars.shape[0], left : left + bars.shape[1]] = (18 + bars * (230 / 255))[..., None]


def _sign(picture: Image3, box: Box, seed: int, colour: tuple[int, int, int]) -> None:
    """A signature, in place: a spline through seeded up and down strokes along a rising line."""
    rng = np.random.default_rng([seed, 3])
    left, top, right, bottom = box
    letters = int(rng.integers(5, 9))
    knots = 3 * letters
    t = np.linspace(0, knots - 1, 40 * letters)
    across = np.cumsum(rng.uniform(0.25, 1.0, knots) * np.resize([1.0, -0.35, 0.9], knots))
    across = (across - across.min()) / (across.max() - across.min())
    up = rng.uniform(0.2, 1.0, knots) * np.resize([1.0, -0.6, 0.3], knots)
    up[:3] *= 2.2  # the initial
    spline = CubicSpline(np.arange(knots), np.stack([across, up], axis=1))(t)
    x = left + 2 + (right - left - 4) * spline[:, 0]
    y = (top + bottom) / 2 + 0.8 - 1.5 * spline[:, 1] - 1.2 * spline[:, 0]
    points = np.round(np.stack([x, y], axis=1) * _DPMM * 16).astype(np.int32)
    cv2.polylines(picture, [points], False, colour, round(0.28 * _DPMM), cv2.LINE_AA, 4)
