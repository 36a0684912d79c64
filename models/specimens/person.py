"""Fictional holders: seeded names, dates and numbers of the state of Utopia, and the two portraits that they share.

The portraits come with libraries and show real, public persons (NASA, public domain): `astronaut` (scikit-image) and
`grace_hopper` (matplotlib). Both show women, so every holder's sex is F.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from matplotlib import cbook
from PIL import Image
from skimage import data as samples

PortraitName = Literal["astronaut", "grace_hopper"]
PORTRAITS: tuple[PortraitName, ...] = get_args(PortraitName)

# Left, top, right, bottom in the library's picture: head and shoulders at 35:45 (ICAO Doc 9303-3 §3.9, face centred).
_CROPS: dict[PortraitName, tuple[int, int, int, int]] = {
    "astronaut": (118, 2, 332, 277),
    "grace_hopper": (98, 10, 448, 460),
}

# fmt: off
_SURNAMES = (
    "ERIKSSON", "LINDQVIST", "MORETTI", "CASTELLAN", "DUBOIS", "OKAFOR", "HALVORSEN", "NAKAMURA", "PETROVIC",
    "FERNANDES", "KOWALSKI", "BRANDT", "OYELARAN", "THORNFIELD", "VESTERGAARD", "MACKENZIE", "SALGADO", "HOFFMANN",
    "ZIMMER", "ABERNATHY", "KRISHNAN", "RASMUSSEN", "DELACROIX", "WINTERS", "ADEYEMI", "BJORNSTAD", "CALLOWAY",
    "QUINTERO", "FITZGERALD", "YAMAGUCHI", "VAN DER MEER", "DE LA CRUZ", "SAINT-CLAIR", "LOPEZ RIVERA",
)
_GIVEN_NAMES = (
    "ANNA", "MARIA", "SOFIA", "INGRID", "HELENA", "CLARA", "LUCIA", "MARTHA", "FREYA", "JOHANNA", "AMARA", "NADIA",
    "YUKI", "BEATRIZ", "ELENA", "ROSALIND", "VICTORIA", "KATARINA", "GWENDOLYN", "ISABEL", "MIRIAM", "OLIVIA",
    "PRIYA", "TAMSIN", "URSULA", "WILMA", "ZORA", "EDITH", "FLORENCE", "DAGNY",
)
# fmt: on
_TOWNS = ("NEW AMAUROT", "ANYDER BAY", "PORT HYTHLODAY", "UTOPUS HILL", "MORETOWN", "SAINT RAPHAEL")
_STREETS = ("HARBOUR LANE", "MILL ROAD", "CRESCENT WALK", "ORCHARD STREET", "LIGHTHOUSE WAY", "OLD MARKET")


@dataclass(frozen=True)
class Holder:
    """What an identity document says of a person, in capitals. sex is "F" (see the module)."""

    surname: str
    given_names: str
    birth_date: date
    sex: str
    number: str
    issue_date: date
    expiry_date: date
    birth_place: str
    address: str
    portrait: PortraitName


def make_holder(seed: int, *, portrait: PortraitName, today: date) -> Holder:
    """A fictional adult (21–70 years on `today`) with a document issued 0.5–8 years ago, valid for ten years.

    The same arguments give the same holder; nobody real is meant.
    """
    rng = np.random.default_rng([seed, 1])
    given = rng.choice(_GIVEN_NAMES, size=int(rng.integers(1, 3)), replace=False)
    issued = date.fromordinal(today.toordinal() - int(rng.integers(180, 8 * 365)))
    letters = rng.choice(list("ABCDEFGHJKLMNPRSTUVWXYZ"), size=2)
    digits = rng.integers(0, 10, size=7)
    return Holder(
        surname=str(rng.choice(_SURNAMES)),
        given_names=" ".join(given),
        birth_date=date.fromordinal(today.toordinal() - int(rng.integers(21 * 366, 70 * 365))),
        sex="F",
        number="".join(letters) + "".join(str(d) for d in digits),
        issue_date=issued,
        expiry_date=years_later(issued, 10),
        birth_place=str(rng.choice(_TOWNS)),
        address=f"{int(rng.integers(1, 180))} {rng.choice(_STREETS)}",
        portrait=portrait,
    )


def years_later(day: date, years: int) -> date:
    """The same day `years` later (or earlier, when negative); 29 February becomes 28 in a common year."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return day.replace(year=day.year + years, day=28)


@cache
def portrait_image(name: PortraitName) -> npt.NDArray[np.uint8]:
    """Head and shoulders: uint8 (H, W, 3) RGB at 35:45, read-only because it is shared."""
    if name == "astronaut":
        whole = np.asarray(samples.astronaut())  # type: ignore[no-untyped-call]
    else:
        path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        with Image.open(str(path)) as picture:
            whole = np.asarray(picture.convert("RGB"))
    left, top, right, bottom = _CROPS[name]
    crop = np.ascontiguousarray(whole[top:bottom, left:right])
    crop.setflags(write=False)
    return crop
