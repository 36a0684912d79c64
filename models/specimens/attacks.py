"""Attacks with a document. Some change what it says (here), others change what is in front of the camera (`surfaces`).

The values are reason codes of the API where one names exactly this attack.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

from models.specimens.document import Specimen, mrz_of
from models.specimens.person import years_later


class DocumentAttack(StrEnum):
    """What is wrong with the documents shown."""

    PHOTO_OF_SCREEN = "photo_of_screen"
    """The card as a picture on a tablet: pixel grid, moiré, bezel, nothing that moves with the light."""
    FINE_SCREEN = "photo_of_fine_screen"
    """The same on a screen whose pixels the camera does not tell apart; only nothing moves with the light."""
    GREY_COPY = "gray_copy"
    """A black-and-white photocopy, cut out."""
    COLOUR_COPY = "document_on_printed_paper"
    """A colour print, cut out."""
    ALTERED_MRZ = "mrz_check_digit"
    """One digit of the birth date in the machine readable zone was changed, its check digit was not."""
    ALTERED_FIELD = "data_mismatch"
    """The birth date on the front is not the one in the machine readable zone and the barcode."""
    PORTRAIT_REPLACED = "altered_photo"
    """Somebody else's photo, printed and glued over the portrait (`forgery`)."""
    TEXT_EDITED = "altered_text"
    """A field's letters were taken off the front and others printed in their place (`forgery`)."""
    EXPIRED = "document_expired"
    """A genuine document past its day."""
    BLURRED = "blurred_photo"
    """Never in focus."""
    NO_DOCUMENT = "no_document_in_image"
    """A desk with other things on it."""
    TWO_DOCUMENTS = "two_documents_uploaded"
    """Somebody else's document lies beside."""


def tampered(specimen: Specimen, attack: DocumentAttack | None) -> Specimen:
    """The document after the attack: another one for ALTERED_MRZ, ALTERED_FIELD and EXPIRED, else the same."""
    holder = specimen.printed
    if attack is DocumentAttack.ALTERED_MRZ:
        first, second, third = specimen.mrz
        # Three more in the unit of the birth year: no digit is mistaken for the one three above it, and any change of
        # a single digit changes the check digit, because the weights 7, 3, 1 share no factor with 10.
        changed = str((int(second[1]) + 3) % 10)
        return replace(specimen, mrz=(first, second[0] + changed + second[2:], third))
    if attack is DocumentAttack.ALTERED_FIELD:
        younger = years_later(holder.birth_date, 3 + specimen.seed % 3)
        return replace(specimen, printed=replace(holder, birth_date=younger))
    if attack is DocumentAttack.EXPIRED:
        ended = specimen.shown_on - timedelta(days=30 + 97 * (specimen.seed % 12))
        old = replace(holder, expiry_date=ended, issue_date=years_later(ended, -10))
        return replace(specimen, printed=old, encoded=old, mrz=mrz_of(old))
    return specimen
