"""Attacks that pass and genuine presentations that do not, by kind of presentation and by check.

Items from seeds: synthetic films of specimens, genuine and attacked, made on the workers. Documents are filmed under
random conditions (`models.specimens.conditions`), or photographed if the profile accepts only pictures. Items from a
folder, table `presentations.csv`: kind, genuine (1 or 0), front, back, face (paths of media, empty for a missing step),
challenge (actions separated by spaces; empty if there was none), item (optional name).

A presentation passes if every check of the profile that its media can feed is clear. Document kinds have a front and a
back but no face; face kinds have the scan alone. So `match` runs in neither. A genuine presentation that a quality
check asks to repeat is no error of the attack detection; such items are counted separately (non-response). Thresholds
are those of the profile. A second table fits a threshold to each check's score on the even items and reports its errors
on the odd items.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from typing import Any

import numpy as np

from graphs.evaluation.rates import Rate, at_genuine_error_rate
from graphs.evaluation.suite import Figures, Job, Measured, Report, Source, Table, spent
from graphs.profile import get_profile
from graphs.records import CaseSpec, CheckResult, Step
from models.specimens.conditions import DocumentConditions
from models.specimens.scenarios import Scenario, film_step
from workers.placement import CPU, GPU

COLUMNS = ("kind", "genuine", "front", "back", "face")
STEPS: tuple[Step, ...] = ("front", "back", "face")
TODAY = date(2026, 7, 1)
"""The date on which specimens are judged; the dates on them lie around it."""
PEOPLE = (("azure", "astronaut"), ("ochre", "grace_hopper"))
"""Document design and portrait, used in turn."""
BOTH: tuple[Step, ...] = ("front", "back")
DOCUMENT_KINDS: dict[str, tuple[str, tuple[Step, ...]]] = {
    "genuine document": ("", ()),
    "photo of a screen": ("photo_of_screen", BOTH),
    "photo of a fine screen": ("photo_of_fine_screen", BOTH),
    "grey copy": ("gray_copy", BOTH),
    "colour copy": ("document_on_printed_paper", BOTH),
    "altered MRZ": ("mrz_check_digit", ("back",)),
    "altered printed field": ("data_mismatch", ("front",)),
    "portrait replaced": ("altered_photo", ("front",)),
    "text edited": ("altered_text", ("front",)),
    "expired document": ("document_expired", BOTH),
    "blurred": ("blurred_photo", BOTH),
    "no document": ("no_document_in_image", BOTH),
    "two documents": ("two_documents_uploaded", BOTH),
}
FACE_KINDS: dict[str, str] = {
    "genuine face": "",
    "moved photo": "moved_photo",
    "bent photo": "bent_photo",
    "screen replay": "screen_replay",
    "replay on a steady screen": "steady_screen_replay",
    "recording made before": "old_recording",
    "no action": "no_action",
    "video that stands still": "frozen",
    "video that repeats": "repeated",
    "person changed half way": "swapped",
    "two people": "two_people",
    "nobody": "no_face",
}
SCORES: dict[str, tuple[bool, str]] = {
    "hologram_front": (True, "share of the page whose colour moves with the light"),
    "recapture_front": (False, "channels out of step"),
    "recapture_back": (False, "channels out of step"),
    "tampering_front": (False, "ink of one line against the others"),
    "liveness_geometric_face": (True, "parallax against a head's"),
    "liveness_active_face": (True, "strength of the weakest action"),
    "liveness_passive_face": (False, "sharpest peak of the spectrum"),
}
"""Checks whose score is fitted: whether a higher score is genuine, and what the score is."""
FITTED_ERROR = 0.03
"""BPCER allowed for a fitted threshold, on the items that it is fitted on."""


def film(kind: str, seed: int, still: bool = False) -> dict[Step, bytes]:
    """Film one presentation of specimens under random conditions: media by step. still: photograph the documents."""
    from models.specimens.face_scan import FaceConditions

    design, portrait = PEOPLE[seed % len(PEOPLE)]
    attack, attacked = DOCUMENT_KINDS.get(kind, ("", ()))
    scenario = Scenario(kind, design, portrait, "", "", attack, attacked, FACE_KINDS.get(kind, ""))
    steps: tuple[Step, ...] = BOTH if kind in DOCUMENT_KINDS else ("face",)
    step_of = partial(film_step, scenario, seed=seed, today=TODAY, still=still)
    conditions = DocumentConditions.draw(random.Random(f"document {seed}"))
    scan_conditions = FaceConditions.draw_varied(random.Random(f"{kind} {seed}"))
    return {
        step: step_of(step, challenge_of(seed), conditions=conditions, scan_conditions=scan_conditions)
        for step in steps
    }


def challenge_of(seed: int) -> tuple[str, ...]:
    """The challenge of a specimen with this seed."""
    from models.liveness.challenge import draw

    return tuple(draw(random.Random(f"challenge {seed}"), 2).to_list())


def judge(films: dict[Step, bytes], profile: str, challenge: tuple[str, ...], today: date) -> Figures:
    """Run the nodes of the graph on media by step: the reasons of all checks that are not clear, and every result."""
    from graphs.local import run_here

    spec = CaseSpec("evaluation", profile, dict.fromkeys(STEPS, 1), challenge, today)
    checks = [value for value in run_here(spec, films).values() if isinstance(value, CheckResult)]
    return {
        "codes": sorted({_why(check) for check in checks if check.result != "clear"}),
        "unusable": any(check.name.startswith("quality_") and check.result != "clear" for check in checks),
        "checks": {
            check.name: {"result": check.result, "score": check.score, "properties": dict(check.properties)}
            for check in checks
        },
    }


def _why(check: CheckResult) -> str:
    return check.reasons[0].code if check.reasons else f"{check.name} {check.result}"


class PresentationSuite:
    """Judges presentations; see the module."""

    name = "presentation"
    about = "attacks and genuine presentations (presentations.csv, or synthetic films by --seeds)"

    def jobs(self, source: Source) -> list[Job]:
        """One job for each presentation. truth: whether it is genuine."""
        if source.folder is not None:
            return list(self._recorded(source))
        accepted = get_profile(source.profile).accepts
        still = "video" not in accepted.get("front", ("video",))
        shown = (*DOCUMENT_KINDS, *(FACE_KINDS if "face" in accepted else ()))
        kinds = [kind for kind in shown if _wanted(kind, source)]
        return [
            Job(
                str(seed),
                kind,
                _judge_specimen,
                (source.profile, challenge_of(seed)),
                kind.startswith("genuine"),
                GPU if kind in FACE_KINDS else CPU,
                made_by=(film, (kind, seed, still)),
            )
            for seed in source.numbers()
            for kind in kinds
        ]

    def _recorded(self, source: Source) -> Iterator[Job]:
        for number, row in enumerate(source.rows("presentations.csv", COLUMNS)):
            if not _wanted(row["kind"], source):
                continue
            films = {step: source.media(row[step]) for step in STEPS if row[step]}
            challenge = tuple((row.get("challenge") or "").split())
            label = GPU if set(films) == {"face"} else CPU
            arguments = (films, source.profile, challenge, date.today())  # noqa: DTZ011 - as on the document
            yield Job(row.get("item") or str(number), row["kind"], judge, arguments, row["genuine"] == "1", label)

    def report(self, measured: Sequence[Measured]) -> Report:
        """Rates by kind of presentation, then by check with fitted thresholds."""
        kinds = list(dict.fromkeys(one.group for one in measured))
        rows, figures = [], dict[str, Any]()
        for kind in kinds:
            of_kind = [one for one in measured if one.group == kind]
            genuine = bool(of_kind[0].truth)
            unusable = sum(bool(one.figures.get("unusable")) for one in of_kind)
            # An item that failed did not pass; its error is listed with the reasons.
            stopped = sum(bool(one.failed or one.figures["codes"]) for one in of_kind)
            rejected = Rate(stopped - unusable, len(of_kind) - unusable)
            wrong = rejected if genuine else Rate(len(of_kind) - stopped, len(of_kind))
            codes = Counter(code for one in of_kind for code in one.figures.get("codes", (one.failed,)))
            named = ", ".join(f"{code} {count}" for code, count in codes.most_common())
            again = f"{unusable}/{len(of_kind)}"
            rows.append((kind, "BPCER" if genuine else "APCER", str(wrong), again, named, spent(of_kind)))
            figures[kind] = {"genuine": genuine, "wrong": wrong.errors, "of": wrong.of, "unusable": unusable}
        columns = (
            *("presentation", "rate", "wrong, 95 % interval", "asked for again"),
            *("reasons given (items)", "CPU ms, median / largest"),
        )
        title = "Let through (attacks, APCER) or not let through (genuine, BPCER), thresholds of the profile"
        tables = [Table(title, columns, tuple(rows))]
        if fitted := [row for check in SCORES for row in _fitted(check, measured)]:
            tables.append(
                Table(
                    f"Each score alone: threshold fitted on even items at BPCER {FITTED_ERROR:.0%}, quoted on odd ones",
                    ("check", "score", "threshold", "presentation", "wrong on the odd items"),
                    tuple(fitted),
                )
            )
        return Report(self.name, tuple(tables), figures=figures)


def _judge_specimen(profile: str, challenge: tuple[str, ...], films: dict[Step, bytes]) -> Figures:
    return judge(films, profile, challenge, TODAY)


def _wanted(kind: str, source: Source) -> bool:
    return not source.only or any(part in kind for part in source.only)


def _fitted(check: str, measured: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    """Table rows of one check, one for each kind of presentation with a score."""
    higher, what = SCORES[check]
    scored: dict[tuple[str, bool], tuple[list[float], list[float]]] = {}
    place: Counter[str] = Counter()
    for one in measured:
        place[one.group] += 1
        score = one.figures.get("checks", {}).get(check, {}).get("score")
        if score is not None and np.isfinite(score):
            scored.setdefault((one.group, bool(one.truth)), ([], []))[place[one.group] % 2].append(float(score))
    fit = [score for (_, genuine), (even, _) in scored.items() if genuine for score in even]
    if not fit:
        return
    threshold = at_genuine_error_rate(np.array(fit), FITTED_ERROR, higher_is_genuine=higher)
    for (kind, genuine), (_, odd) in scored.items():
        let_through = sum(score >= threshold if higher else score <= threshold for score in odd)
        wrong = Rate(len(odd) - let_through if genuine else let_through, len(odd))
        yield check, what, f"{threshold:.3g}", kind, str(wrong)
