"""Machine-readable zones on pictures of documents: read exactly, accepted but wrong, or not read.

Table `mrz_images.csv`: path, line1, line2, line3, and two optional columns. check_digits: `all-ok`, or which of the
printed check digits are wrong; the zone of such a document is exact if its characters are right and its check digits
are reported as wrong. same_text_group: the same value for pictures that show the same text. Pictures may have any
orientation, which the reader has to find.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from graphs.evaluation.suite import Figures, Job, Measured, Report, Source, Table, spent
from workers.pool import models

COLUMNS = ("path", "line1", "line2", "line3")


def read_picture(media: bytes) -> Figures:
    """Read one picture: its lines, whether they were accepted, and why not."""
    from models.media.decoding import MediaLimits, sample_frames

    frames = sample_frames(media, rate_hz=1, max_frames=1, max_side=4096, limits=MediaLimits())
    reading = models().mrz_reader.read([frames.images[0]], any_angle=True)
    if reading is None:
        return {"lines": (), "accepted": False, "refusal": ""}
    return {"lines": reading.lines, "accepted": reading.accepted, "refusal": reading.refusal}


def outcome(one: Measured) -> str:
    """`exact`, `wrong` (accepted with a wrong character), `refused` or `unread`."""
    if one.failed or not one.figures["lines"]:
        return "unread"
    lines, valid = one.truth
    accepted = one.figures["accepted"]
    if tuple(one.figures["lines"]) == lines:
        return "exact" if accepted == valid else "refused"
    return "wrong" if accepted else "refused"


class MrzSuite:
    """Reads machine-readable zones; see the module."""

    name = "mrz"
    about = "machine readable zones on pictures of documents (mrz_images.csv)"

    def jobs(self, source: Source) -> list[Job]:
        """One job for each picture."""
        return [
            Job(
                row["path"],
                row.get("same_text_group") or row["path"],
                read_picture,
                (source.media(row["path"]),),
                # Spain prints Ñ where ICAO Doc 9303-3 (table 6) has N; recognition is masked to the standard's letters.
                (
                    tuple(row[name].replace("Ñ", "N") for name in ("line1", "line2", "line3") if row[name]),
                    row.get("check_digits", "all-ok") == "all-ok",
                ),
            )
            for row in source.rows("mrz_images.csv", COLUMNS)
        ]

    def report(self, measured: Sequence[Measured]) -> Report:
        """Counts by distinct text and by picture."""
        texts: dict[str, list[str]] = defaultdict(list)
        for one in measured:
            texts[one.group].append(outcome(one))
        wrong = sum("wrong" in found for found in texts.values())
        exact = sum(set(found) == {"exact"} for found in texts.values())
        pictures = sum(outcome(one) == "exact" for one in measured)
        row = (
            *(str(n) for n in (len(texts), exact, wrong, len(texts) - exact - wrong)),
            f"{pictures} of {len(measured)}",
            spent(measured),
        )
        columns = ("texts", "exact", "accepted but wrong", "not read", "pictures exact", "CPU ms, median / largest")
        others = tuple(
            (one.item, outcome(one), str(one.figures.get("refusal", "")) or one.failed)
            for one in measured
            if outcome(one) != "exact"
        )
        tables = [Table("Machine readable zones, by distinct text", columns, (row,))]
        if others:
            tables.append(Table("Not exact", ("picture", "outcome", "why"), others))
        return Report(
            self.name,
            tuple(tables),
            figures={"texts": len(texts), "exact": exact, "accepted_but_wrong": wrong, "pictures_exact": pictures},
            notes=("A text is exact when every picture of it is, and wrong when one was accepted with an error.",),
        )
