"""Finds labels and their values in the printed text of a page, and dates in any notation.

Layouts differ from card to card, so nothing is read at fixed coordinates. A value belongs to the label directly above
it or directly left of it, or continues the value above. Text is recognised by `models.text.reader` and values are
compared by `models.fields.consistency`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np

from models.mrz.names import transliterate

if TYPE_CHECKING:
    from models.text.reader import Text, TextLine

Field = Literal["surname", "given_names", "document_number", "birth_date", "expiry_date", "sex", "nationality", "other"]

_LABELS: dict[Field, tuple[str, ...]] = {
    "surname": (
        "SURNAME", "SURNAMES", "LASTNAME", "FAMILYNAME", "NAME", "NOM", "NACHNAME", "FAMILIENNAME", "APELLIDO", "LN",
        "APELLIDOS", "COGNOME", "APELIDO", "NAAM", "ACHTERNAAM",
    ),
    "given_names": (
        "GIVENNAME", "GIVENNAMES", "FORENAME", "FORENAMES", "FIRSTNAME", "FIRSTNAMES", "PRENOM", "PRENOMS", "VORNAME",
        "VORNAMEN", "NOMBRE", "NOMBRES", "NOME", "NOMES", "VOORNAAM", "VOORNAMEN", "FN",
    ),
    "document_number": (
        "DOCUMENTNO", "DOCUMENTNUMBER", "DOCNO", "CARDNO", "CARDNUMBER", "IDNO", "IDNUMBER", "IDENTITYCARDNO", "DLNO",
        "PASSPORTNO", "PASSPORTNUMBER", "LICENCENO", "LICENSENO", "LICENCENUMBER", "LICENSENUMBER", "NUMERO", "NO",
        "NUMERODUDOCUMENT", "DOCUMENTONO", "NUMERODEDOCUMENTO", "AUSWEISNUMMER", "DOKUMENTNUMMER", "DOCUMENTNUMMER",
        "PASSNR", "AUSWEISNR", "PASSEPORTNO", "NUMSOPORT", "NUMERODOCUMENTO", "DL", "DLN",
    ),
    "birth_date": (
        "DATEOFBIRTH", "BIRTHDATE", "DOB", "BORN", "DATEDENAISSANCE", "NELE", "NEELE", "GEBURTSDATUM", "GEBURTSTAG",
        "GEBOREN", "FECHADENACIMIENTO", "FECHANACIMIENTO", "DATADINASCITA", "DATADENASCIMENTO", "GEBOORTEDATUM",
    ),
    "expiry_date": (
        "DATEOFEXPIRY", "DATEOFEXPIRATION", "EXPIRYDATE", "EXPIRATIONDATE", "EXPIRES", "EXPIRY", "EXP", "VALIDUNTIL",
        "VALIDTHRU", "VALIDTO", "DATEDEXPIRATION", "DATEDEXPIRY", "VALABLEJUSQUAU", "GUELTIGBIS", "FECHADECADUCIDAD",
        "FECHADEVENCIMIENTO", "VALIDOHASTA", "SCADENZA", "DATADISCADENZA", "DATADEVALIDADE", "GELDIGTOT",
    ),
    "sex": ("SEX", "SEXE", "SEXO", "SESSO", "GESCHLECHT", "GESLACHT", "GENDER"),
    "nationality": (
        "NATIONALITY", "NATIONALITE", "NACIONALIDAD", "STAATSANGEHOERIGKEIT", "NACIONALIDADE", "CITTADINANZA",
        "NATIONALITEIT",
    ),
    "other": (
        "DATEOFISSUE", "ISSUEDATE", "ISSUED", "ISS", "DATEDEDELIVRANCE", "DATEDEEMISSION", "AUSSTELLUNGSDATUM",
        "FECHADEEXPEDICION", "FECHADEEMISION", "DATADIRILASCIO", "DATADEEMISSAO", "PLACEOFBIRTH", "LIEUDENAISSANCE",
        "GEBURTSORT", "LUGARDENACIMIENTO", "LUOGODINASCITA", "AUTHORITY", "AUTORITE", "BEHOERDE", "HEIGHT", "SIGNATURE",
        "ADDRESS", "PERSONALNO", "PERSONALNUMBER",
    ),
}  # fmt: skip
"""Labels as printed in the languages of most cards, in MRZ letters without spaces."""

_FIELD_OF = {label.replace("RN", "M"): name for name, labels in _LABELS.items() for label in labels}
"""Small letters r and n side by side are read as m more often than as themselves; so on both sides they are."""

_MONTHS = (
    ("JAN", "JANV", "ENE", "GEN", "JANUARY", "JANVIER", "JANUAR", "JANNER", "ENERO", "GENNAIO", "JANEIRO", "JANUARI"),
    ("FEB", "FEV", "FEVR", "FEBRUARY", "FEVRIER", "FEBRUAR", "FEBRERO", "FEBBRAIO", "FEVEREIRO", "FEBRUARI"),
    ("MAR", "MARS", "MRZ", "MRT", "MARCH", "MARZ", "MAERZ", "MARZO", "MARCO", "MAART"),
    ("APR", "AVR", "ABR", "APRIL", "AVRIL", "ABRIL", "APRILE"),
    ("MAY", "MAI", "MAG", "MEI", "MAJ", "MAYO", "MAGGIO", "MAIO"),
    ("JUN", "JUIN", "GIU", "JUNE", "JUNI", "JUNIO", "GIUGNO", "JUNHO"),
    ("JUL", "JUIL", "LUG", "JULY", "JUILLET", "JULI", "JULIO", "LUGLIO", "JULHO"),
    ("AUG", "AOUT", "AOU", "AGO", "AUGUST", "AGOSTO", "AUGUSTUS"),
    ("SEP", "SEPT", "SET", "SEPTEMBER", "SEPTEMBRE", "SEPTIEMBRE", "SETTEMBRE", "SETEMBRO"),
    ("OCT", "OKT", "OTT", "OUT", "OCTOBER", "OCTOBRE", "OKTOBER", "OCTUBRE", "OTTOBRE", "OUTUBRO"),
    ("NOV", "NOVEMBER", "NOVEMBRE", "NOVIEMBRE", "NOVEMBRO"),
    ("DEC", "DEZ", "DIC", "DECEMBER", "DECEMBRE", "DEZEMBER", "DICIEMBRE", "DICEMBRE", "DEZEMBRO"),
)
_MONTH_OF = {name: number for number, names in enumerate(_MONTHS, 1) for name in names}

_TO_DIGIT = str.maketrans("OQDILSBZG", "000115826")
_TO_LETTER = str.maketrans("015826", "OISBZG")
_D = "[0-9OQILSBZ]"
_GAP = r"[ .,/\-:]"
_WORDED = re.compile(
    rf"(?<![0-9A-Z])({_D}{{1,2}}){_GAP}{{0,3}}([A-Z0-9]{{3,4}}?)(?:{_GAP}{{1,2}}[A-Z0-9]{{3,4}})?"
    rf"{_GAP}{{0,3}}({_D}{{4}}|[0-9]{_D})(?![0-9A-Z])"  # of 1 APRIL the end could be a year of two letters
)
_LONG = re.compile(
    rf"(?<![0-9A-Z])({_D}{{1,2}}){_GAP}{{1,3}}(?:DE )?([A-Z]{{4,10}})(?:{_GAP}{{1,3}}[A-Z]{{3,10}})?"
    rf"{_GAP}{{1,3}}(?:DE )?({_D}{{4}}|{_D}{{2}})(?![0-9A-Z])"
)
_MONTH_FIRST = re.compile(
    rf"(?<![0-9A-Z])([A-Z]{{3,10}}){_GAP}{{1,3}}({_D}{{1,2}}){_GAP}{{1,3}}({_D}{{4}})(?![0-9A-Z])"
)
_YEAR_FIRST = re.compile(
    rf"(?<![0-9A-Z])([12]{_D}{{3}}){_GAP}{{1,3}}({_D}{{1,2}}){_GAP}{{1,3}}({_D}{{1,2}})(?![0-9A-Z])"
)
_YEAR_LAST = re.compile(
    rf"(?<![0-9A-Z])({_D}{{1,2}}){_GAP}{{1,3}}({_D}{{1,2}}){_GAP}{{1,3}}([0-9]{_D}{{3}}|[0-9]{_D})(?![0-9A-Z])"
)
_RUN = re.compile(r"(?<![0-9A-Z])([0-9]{8})(?![0-9A-Z])")


@dataclass(frozen=True)
class PrintedDate:
    """One date. days: all it can mean (day or month first, century of a year of two digits); separated: whether parts
    stand apart, as nothing but a date does.
    """

    days: frozenset[date]
    separated: bool


@dataclass(frozen=True)
class PrintedValue:
    """One line, or the rest of a line that begins with its label. field: what its label says, None without a label;
    score: of the recogniser, 0..1.
    """

    text: str
    field: Field | None
    score: float
    dates: tuple[PrintedDate, ...]


def printed_values(text: Text) -> tuple[PrintedValue, ...]:
    """Every line of a page that is neither a label nor of a machine readable zone, with the field it belongs to."""
    lines = [line for line in text.lines if line.text.count("<") < 2]
    places = [_place(line, text.upside_down) for line in lines]
    split = [_split_label(line.text) for line in lines]
    labels = [
        (field, place) for (field, rest), place in zip(split, places, strict=True) if field is not None and not rest
    ]
    values: list[tuple[PrintedValue, _Place]] = []
    for line, place, (field, rest) in zip(lines, places, split, strict=True):
        if rest:
            owner = field or _nearest(place, labels) or _continued(place, values)
            values.append((PrintedValue(rest, owner, line.score, find_dates(rest)), place))
    return tuple(value for value, _ in values)


def find_dates(text: str) -> tuple[PrintedDate, ...]:
    """The dates in a text: 12 AUG 1974, 12 August 1974, August 12, 1974, 12.08.74, 08/12/1974, 1974-08-12, 12081974;
    letters that recognition confuses with digits are taken as digits. A month's name may be short or whole, in one of
    seven languages, or in two with a slash.
    """
    upper = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().upper()
    found = []
    for match in _overlapping(_WORDED, upper):
        month = _MONTH_OF.get(match[2].translate(_TO_LETTER))
        if month is not None:
            found.append(PrintedDate(_days([(match[3], str(month), match[1])]), separated=True))
    named = [(match[3], match[2], match[1]) for match in _overlapping(_LONG, upper)]
    named += [(match[3], match[1], match[2]) for match in _overlapping(_MONTH_FIRST, upper)]
    found += [
        PrintedDate(_days([(year, str(_MONTH_OF[name]), day)]), separated=True)
        for year, name, day in named
        if name in _MONTH_OF
    ]
    found += [
        PrintedDate(_days([(year, month, day)]), separated=True) for year, month, day in _YEAR_FIRST.findall(upper)
    ]
    for match in _YEAR_LAST.finditer(upper):
        first, second, year = match.groups()
        found.append(PrintedDate(_days([(year, second, first), (year, first, second)]), separated=True))
    for match in _RUN.finditer(upper):
        run = match[1]
        ways = [(run[4:], run[2:4], run[:2]), (run[4:], run[:2], run[2:4]), (run[:4], run[4:6], run[6:])]
        found.append(PrintedDate(_days(ways), separated=False))
    return tuple(printed for printed in found if printed.days)


def _overlapping(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """All matches, also those that begin inside of another: BORN 01 looks like a day, a month and a year as well."""
    match = pattern.search(text)
    while match is not None:
        yield match
        match = pattern.search(text, match.start() + 1)


def letters(text: str) -> str:
    """In MRZ characters (ICAO Doc 9303 part 3, section 6), without spaces."""
    return transliterate(text).replace("<", "")


def edit_distance(a: str, b: str) -> int:
    """Least number of characters to insert, delete or replace (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def _days(ways: Sequence[tuple[str, str, str]]) -> frozenset[date]:
    days = set()
    for year, month, day in ways:
        digits = year.translate(_TO_DIGIT)
        for full in [digits] if len(digits) == 4 else [f"19{digits}", f"20{digits}"]:
            try:
                found = date(int(full), int(month.translate(_TO_DIGIT)), int(day.translate(_TO_DIGIT)))
            except ValueError:
                continue
            if 1900 <= found.year <= 2100:
                days.add(found)
    return frozenset(days)


def _split_label(text: str) -> tuple[Field | None, str]:
    """The field that a line's label names, and the value after it on the same line; ("other" when labels of several
    fields share the line); (None, whole text) when the line begins with no label.
    """
    rest, fields = text.strip(), set()
    while rest:
        words = re.split(r"(?<=[\s:/|])(?=[^\s:/|])", rest)
        for count in range(len(words), 0, -1):
            field = _label(letters("".join(words[:count])))
            if field is not None:
                fields.add(field)
                rest = "".join(words[count:]).strip(" :/|")
                break
        else:
            break
    if not fields:
        return None, rest
    # A single short rest is a number sign or the end of a label that was read badly, except where it is the sex.
    if len(rest) <= 1 and "sex" not in fields:
        rest = ""
    return (fields.pop() if len(fields) == 1 else "other"), rest


def _label(compact: str) -> Field | None:
    """The field of a label in MRZ letters; one character may be misread in a label of six or more, two of twelve."""
    compact = compact.replace("RN", "M")
    exact = _FIELD_OF.get(compact)
    if exact is not None or len(compact) < 6:
        return exact
    allowed, characters = len(compact) // 6, set(compact)
    near = (
        (edit_distance(compact, label), name)
        for label, name in _FIELD_OF.items()
        # The cheap bounds first: both are at most the distance (twice the distance for the characters).
        if len(label) >= 6 and abs(len(label) - len(compact)) <= allowed and len(characters ^ set(label)) <= 2 * allowed
    )
    distance, name = min(near, default=(len(compact), None))
    return name if distance <= allowed else None


@dataclass(frozen=True)
class _Place:
    """A line's box as read: left, top, right, bottom in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def _place(line: TextLine, upside_down: bool) -> _Place:
    box = -line.box if upside_down else line.box
    (left, top), (right, bottom) = np.min(box, axis=0), np.max(box, axis=0)
    return _Place(float(left), float(top), float(right), float(bottom))


def _nearest(value: _Place, labels: Sequence[tuple[Field, _Place]]) -> Field | None:
    """The label that a value stands under (aligned left, within its own height) or right of (on its row, within four
    times its height), the nearest by distance between the boxes.
    """
    height = value.bottom - value.top
    best: tuple[float, Field] | None = None
    for field, label in labels:
        above = value.top - label.bottom
        beside = value.left - label.right
        middle = abs((value.top + value.bottom) - (label.top + label.bottom)) / 2
        if -0.6 * height < above < height and abs(value.left - label.left) < 1.5 * height:
            distance = max(above, 0.0)
        elif middle < 0.6 * height and -0.5 * height < beside < 4 * height:
            distance = max(beside, 0.0)
        else:
            continue
        if best is None or distance < best[0]:
            best = (distance, field)
    return best[1] if best else None


def _continued(value: _Place, before: Sequence[tuple[PrintedValue, _Place]]) -> Field | None:
    """The field of the value just above (aligned left, within half a height, of about the same height) that goes on
    here: long names take two lines.
    """
    height = value.bottom - value.top
    for above, place in before:
        gap, tall = value.top - place.bottom, (place.bottom - place.top) / height
        if -0.5 < gap / height < 0.5 and abs(value.left - place.left) < height and 0.7 < tall < 1.4:
            return above.field
    return None
