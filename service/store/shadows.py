"""Verdicts of shadow policies in the case store's database, and their comparison with the live policy.

A verdict is stored once per case, shadow and set of attempts. What a shadow is, and how it runs, is in `graphs.shadow`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select

from graphs.records import CaseSpec
from graphs.shadow import ShadowVerdict
from service.store.database import Database, in_a_thread
from service.store.tables import CaseRow, ShadowRow

_AT_ONCE = 1000
NEWEST = 20
"""How many differing cases a comparison lists, the newest first."""


@dataclass(frozen=True)
class ShadowFilter:
    """Conditions on comparisons; None means no condition. Times are UTC and refer to the creation of the cases.

    created_from is inclusive, created_before exclusive.
    """

    profile: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The SQL conditions."""
        conditions: list[ColumnElement[bool]] = []
        if self.profile is not None:
            conditions.append(ShadowRow.profile == self.profile)
        if self.created_from is not None:
            conditions.append(CaseRow.created_at >= self.created_from)
        if self.created_before is not None:
            conditions.append(CaseRow.created_at < self.created_before)
        return conditions


@dataclass(frozen=True)
class Differing:
    """A case whose live and shadow outcomes differ. live_reasons, reasons: codes."""

    case_id: str
    live_outcome: str
    live_reasons: list[str]
    outcome: str
    reasons: list[str]


@dataclass
class Comparison:
    """A shadow compared with the live policy.

    outcomes: number of cases by live outcome and shadow outcome. reviewed: of cases that the live policy sent to review
    and a reviewer decided, the number by the reviewer's outcome and the shadow's. checks: number of differences by
    check, live result and shadow result. failed: shadows that failed; they are not counted elsewhere.
    """

    profile: str
    shadow: str
    version: str
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reviewed: Counter[tuple[str, str]] = field(default_factory=Counter)
    checks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    differing: list[Differing] = field(default_factory=list)
    failed: int = 0

    @property
    def compared(self) -> int:
        """The number of compared cases."""
        return self.outcomes.total()

    @property
    def agreeing(self) -> int:
        """The number of cases with equal outcomes."""
        return sum(count for (live, shadow), count in self.outcomes.items() if live == shadow)


class ShadowStore:
    """Verdicts of shadows in the database of the case store. Each method raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing

    @in_a_thread
    def add(self, spec: CaseSpec, verdict: ShadowVerdict) -> bool:
        """Store the verdict of a shadow. Returns False, and stores nothing, if it is stored already or the case is
        redacted or unknown.
        """
        attempts = ".".join(f"{step}{number}" for step, number in spec.attempts.items())
        with self._writing() as session:
            # Locked as in a redaction, which must not happen between this check and the insertion.
            case = session.get(CaseRow, spec.case_id, with_for_update=True)
            is_redacted = case is None or case.status == "redacted"
            if is_redacted or session.get(ShadowRow, (spec.case_id, verdict.shadow, attempts)) is not None:
                return False
            session.add(
                ShadowRow(
                    case_id=spec.case_id,
                    shadow=verdict.shadow,
                    attempts=attempts,
                    profile=spec.profile,
                    version=verdict.version,
                    live_outcome=verdict.live_outcome,
                    outcome=verdict.outcome,
                    failed=verdict.failed,
                    said=_details(verdict),
                )
            )
        return True

    @in_a_thread
    def comparisons(self, wanted: ShadowFilter) -> list[Comparison]:
        """One comparison per profile, shadow and version, in that order. Only rows that differ are read one by one."""
        found: dict[tuple[str, str, str], Comparison] = {}
        kind = (ShadowRow.profile, ShadowRow.shadow, ShadowRow.version)
        conditions = wanted.conditions()
        pair = (ShadowRow.live_outcome, ShadowRow.outcome)
        counted = select(*kind, ShadowRow.failed, *pair, func.count()).join(CaseRow).where(*conditions)
        # In the case, a reviewer's decision replaces that of the policy; this table still has the policy's.
        decided = (ShadowRow.live_outcome == "review") & CaseRow.outcome.in_(("approved", "declined"))
        reviewed = select(*kind, CaseRow.outcome, ShadowRow.outcome, func.count()).join(CaseRow)
        differs = (ShadowRow.live_outcome != ShadowRow.outcome) & ~ShadowRow.failed
        one_by_one = select(ShadowRow).join(CaseRow).where(*conditions, differs).order_by(ShadowRow.case_id.desc())
        counts = counted.group_by(*kind, ShadowRow.failed, *pair)
        reviews = reviewed.where(*conditions, decided, ~ShadowRow.failed)
        reviews = reviews.group_by(*kind, CaseRow.outcome, ShadowRow.outcome)
        with self._reading() as session:
            for profile, shadow, version, failed, live, outcome, count in session.execute(counts).all():
                comparison = found.setdefault((profile, shadow, version), Comparison(profile, shadow, version))
                if failed:
                    comparison.failed += count
                else:
                    comparison.outcomes[live, outcome] += count
            for profile, shadow, version, person, outcome, count in session.execute(reviews).all():
                found[profile, shadow, version].reviewed[str(person), outcome] += count
            query = one_by_one.execution_options(yield_per=_AT_ONCE)
            for row in session.scalars(query):
                _add_differing(found[row.profile, row.shadow, row.version], row)
        return [found[key] for key in sorted(found)]


def _add_differing(comparison: Comparison, row: ShadowRow) -> None:
    for each in row.said["checks"]:
        comparison.checks[each["check"], each["live"], each["shadow"]] += 1
    if len(comparison.differing) < NEWEST:
        details = row.said
        comparison.differing.append(
            Differing(row.case_id, row.live_outcome, details["live_reasons"], row.outcome, details["reasons"])
        )


def _details(verdict: ShadowVerdict) -> dict[str, Any]:
    return {
        "live_reasons": list(verdict.live_reasons),
        "reasons": list(verdict.reasons),
        "checks": [{"check": d.check, "live": d.live, "shadow": d.shadow} for d in verdict.differences],
    }
