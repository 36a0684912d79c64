"""Names in the machine readable zone: transliterates, truncates and parses them (ICAO Doc 9303 part 3)."""

from __future__ import annotations

import re
import unicodedata

_LATIN = {
    "Ä": "AE", "Å": "AA", "Æ": "AE", "Ð": "D", "Đ": "D", "Ħ": "H", "ı": "I", "Ĳ": "IJ", "ĸ": "Q", "Ł": "L", "Ŋ": "N",
    "Ö": "OE", "Ø": "OE", "Œ": "OE", "Þ": "TH", "Ŧ": "T", "Ü": "UE", "ß": "SS", "ẞ": "SS",
}  # fmt: skip
"""ICAO Doc 9303 part 3, section 6.A, where it differs from leaving the accent out."""

_CYRILLIC = {
    "А": "A", "Б": "B", "В": "V", "Г": "G", "Ґ": "G", "Д": "D", "Ђ": "D", "Ѓ": "G", "Е": "E", "Ё": "E", "Є": "IE",
    "Ж": "ZH", "З": "Z", "Ѕ": "DZ", "И": "I", "І": "I", "Ї": "I", "Й": "I", "Ј": "J", "К": "K", "Ќ": "K", "Л": "L",
    "Љ": "LJ", "М": "M", "Н": "N", "Њ": "NJ", "О": "O", "П": "P", "Р": "R", "С": "S", "Т": "T", "Ћ": "C", "У": "U",
    "Ў": "U", "Ф": "F", "Х": "KH", "Ц": "TS", "Ч": "CH", "Џ": "DZ", "Ш": "SH", "Щ": "SHCH", "Ъ": "IE", "Ы": "Y",
    "Ь": "", "Э": "E", "Ю": "IU", "Я": "IA",
}  # fmt: skip
"""ICAO Doc 9303 part 3, section 6.B. National exceptions (Ukrainian Г as H) are left out: the state is unknown."""

_TABLE = _LATIN | _CYRILLIC


def transliterate(text: str) -> str:
    """`text` in MRZ characters, of whatever length: spaces and hyphens become fillers, apostrophes and commas go.

    A character without a known transliteration is left out (ICAO Doc 9303 part 3, sections 4.6 and 6).
    """
    out = []
    for character in unicodedata.normalize("NFC", text):
        upper = _TABLE.get(character) or _TABLE.get(character.upper())
        if upper is None:
            upper = unicodedata.normalize("NFKD", character.upper()).upper()
        out.append(re.sub(r"[\s\-‐-―<]", "<", upper))
    return re.sub(r"[^A-Z0-9<]", "", "".join(out))


def pad(text: str, length: int) -> str:
    """`text` cut or filled with "<" to `length` characters."""
    return text[:length].ljust(length, "<")


def compose_names(surname: str, given_names: str, length: int) -> str:
    """The name field: surname, "<<", given names, filled or truncated to `length` (part 3, section 4.6; part 4, 4.2.3).

    A name that does not fit is shortened from its last component backwards, each to no less than its initial, so that
    some of every component stays.
    """
    groups = [[part for part in transliterate(name).split("<") if part] for name in (surname, given_names)]

    def joined() -> str:
        return "<<".join("<".join(group) for group in groups) if groups[1] else "<".join(groups[0])

    for group in reversed(groups):
        for index in range(len(group) - 1, -1, -1):
            excess = len(joined()) - length
            if excess > 0:
                group[index] = group[index][: max(1, len(group[index]) - excess)]
    return pad(joined(), length)


def split_names(field: str) -> tuple[str, str]:
    """Surname and given names of a name field, components parted by a space. Without "<<" all is the surname."""
    surname, _, given_names = field.partition("<<")
    return spaced(surname), spaced(given_names)


def spaced(field: str) -> str:
    """A field as people write it: fillers at the ends go, runs of fillers inside become one space."""
    return " ".join(part for part in field.split("<") if part)
