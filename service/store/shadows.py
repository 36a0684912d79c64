"""What shadows came to, in the case store's database: written once a case and its attempts, counted when asked."""

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
"""Cases that differ which a comparison names."""


@dataclass(frozen=True)
class Which:
    """Of which comparisons; what is None asks for nothing. Times are UTC and those of the cases' creation."""

    profile: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None

    def holds(self) -> list[ColumnElement[bool]]:
        """As conditions."""
        found: list[ColumnElement[bool]] = []
        if self.profile is not None:
            found.append(ShadowRow.profile == self.profile)
        if self.created_from is not None:
            found.append(CaseRow.created_at >= self.created_from)
        if self.created_before is not None:
            found.append(CaseRow.created_at < self.created_before)
        return found


@dataclass(frozen=True)
class Differing:
    """A case of which both come to another outcome. live_reasons, reasons: codes."""

    case_id: str
    live_outcome: str
    live_reasons: list[str]
    outcome: str
    reasons: list[str]


@dataclass
class Comparison:
    """A shadow beside the live policy. outcomes: how often, by the live one and the shadow's; reviewed: of cases that
    the live policy left to a person who then decided, by that person's outcome and the shadow's; checks: by the check
    of which they differ, its live result and the shadow's; failed: shadows that failed, counted nowhere else.
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
        """How many."""
        return self.outcomes.total()

    @property
    def agreeing(self) -> int:
        """Of how many both come to one outcome."""
        return sum(count for (live, shadow), count in self.outcomes.items() if live == shadow)


class ShadowStore:
    """Each call raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing

    @in_a_thread
    def add(self, spec: CaseSpec, verdict: ShadowVerdict) -> bool:
        """Write down what a shadow came to. False, and nothing is written, when that was done or the case is redacted
        or unknown.
        """
        attempts = ".".join(f"{step}{number}" for step, number in spec.attempts.items())
        with self._writing() as session:
            # Locked as by a redaction: it must not come between this look and the row.
            case = session.get(CaseRow, spec.case_id, with_for_update=True)
            gone = case is None or case.status == "redacted"
            if gone or session.get(ShadowRow, (spec.case_id, verdict.shadow, attempts)) is not None:
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
                    said=_said(verdict),
                )
            )
        return True

    @in_a_thread
    def comparisons(self, which: Which) -> list[Comparison]:
        """One for each profile, shadow and version of it, in that order. Only rows that differ are read one by one."""
        found: dict[tuple[str, str, str], Comparison] = {}
        kind = (ShadowRow.profile, ShadowRow.shadow, ShadowRow.version)
        holds = which.holds()
        pair = (ShadowRow.live_outcome, ShadowRow.outcome)
        counted = select(*kind, ShadowRow.failed, *pair, func.count()).join(CaseRow).where(*holds)
        # A reviewer's decision takes the place of the policy's in the case; what the policy said stays here.
        decided = (ShadowRow.live_outcome == "review") & CaseRow.outcome.in_(("approved", "declined"))
        reviewed = select(*kind, CaseRow.outcome, ShadowRow.outcome, func.count()).join(CaseRow).where(*holds, decided)
        differs = (ShadowRow.live_outcome != ShadowRow.outcome) & ~ShadowRow.failed
        one_by_one = select(ShadowRow).join(CaseRow).where(*holds, ~ShadowRow.failed).order_by(ShadowRow.case_id.desc())
        counts = counted.group_by(*kind, ShadowRow.failed, *pair)
        reviews = reviewed.where(~ShadowRow.failed).group_by(*kind, CaseRow.outcome, ShadowRow.outcome)
        with self._reading() as session:
            for profile, shadow, version, failed, live, outcome, count in session.execute(counts).all():
                one = found.setdefault((profile, shadow, version), Comparison(profile, shadow, version))
                if failed:
                    one.failed += count
                else:
                    one.outcomes[live, outcome] += count
            for profile, shadow, version, person, outcome, count in session.execute(reviews).all():
                found[profile, shadow, version].reviewed[str(person), outcome] += count
            query = one_by_one.where(differs).execution_options(yield_per=_AT_ONCE)
            for row in session.scalars(query):
                _add_differing(found[row.profile, row.shadow, row.version], row)
        return [found[key] for key in sorted(found)]


def _add_differing(one: Comparison, row: ShadowRow) -> None:
    for each in row.said["checks"]:
        one.checks[each["check"], each["live"], each["shadow"]] += 1
    if len(one.differing) < NEWEST:
        said = row.said
        one.differing.append(
            Differing(row.case_id, row.live_outcome, said["live_reasons"], row.outcome, said["reasons"])
        )


def _said(verdict: ShadowVerdict) -> dict[str, Any]:
    return {
        "live_reasons": list(verdict.live_reasons),
        "reasons": list(verdict.reasons),
        "checks": [{"check": d.check, "live": d.live, "shadow": d.shadow} for d in verdict.differences],
    }
