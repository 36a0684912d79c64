"""The numbers behind a report's drawings: a score against its threshold, and when each check ran. The template draws
them as SVG, so the page needs no script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from graphs.profile import CheckPolicy
from service.pages.report.words import check_title
from service.schemas.cases import CheckView

WIDTH = 160.0
"""Width of a score's drawing, in CSS pixels."""
BARS = 420.0
"""Width of a timeline's bars, in CSS pixels."""
TITLES = 340.0
"""Width left of the bars, in CSS pixels: room for the longest title of a check and its step."""
_ROOM = 1.25
"""The axis ends at this multiple of the largest value."""
_GAP_S = 5.0
"""A gap of this many seconds starts another timeline; otherwise a day between two uploads would squeeze all bars."""
_LEAST = 2.0

Wanted = Literal["at least", "at most"]


@dataclass(frozen=True)
class Gauge:
    """A score and its threshold. score_x, threshold_x: CSS pixels from the left; good_x, good_width: the range of good
    scores, None if it is unknown; text: the same in words.
    """

    score_x: float
    threshold_x: float
    good_x: float | None
    good_width: float | None
    text: str


def gauge(check: CheckView, policy: CheckPolicy | None) -> Gauge | None:
    """A check's score against its threshold; None if the check lacks one of them. policy: the check's policy, which
    tells the good side of the threshold.
    """
    score, threshold = check.score, check.threshold
    if score is None or threshold is None or not (math.isfinite(score) and math.isfinite(threshold)):
        return None
    end = _ROOM * max(abs(score), abs(threshold)) or 1.0
    at, limit = (WIDTH * min(1.0, max(0.0, value / end)) for value in (score, threshold))
    wanted = _wanted(threshold, policy)
    text = f"{number(score)}, {wanted or 'threshold'} {number(threshold)}"
    if wanted is None:
        return Gauge(at, limit, None, None, text)
    start, stop = (limit, WIDTH) if wanted == "at least" else (0.0, limit)
    return Gauge(at, limit, start, stop - start, text)


def number(value: float) -> str:
    """A score with few digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _wanted(threshold: float, policy: CheckPolicy | None) -> Wanted | None:
    """The good side of a threshold, from the prefix of its name in the policy: `min_` or `max_`."""
    for name, value in policy.thresholds.items() if policy else ():
        if value == threshold:
            return "at least" if name.startswith("min_") else "at most" if name.startswith("max_") else None
    return None


@dataclass(frozen=True)
class Bar:
    """When a check ran. x, width: in CSS pixels; start_ms: after the first check of its timeline."""

    title: str
    x: float
    width: float
    start_ms: float
    duration_ms: float
    worker: str


@dataclass(frozen=True)
class Timeline:
    """Checks that ran close to each other, in order of their start. span_ms: until the last one ended."""

    began_at: datetime
    span_ms: float
    bars: tuple[Bar, ...]


def timelines(checks: Sequence[CheckView]) -> list[Timeline]:
    """When the checks ran: one timeline for each burst. Checks that did not run are left out."""
    ran = [check for check in checks if check.started_at and check.duration_ms is not None]
    return [_timeline(burst) for burst in _bursts(sorted(ran, key=lambda check: check.started_at or 0.0))]


def _bursts(checks: Sequence[CheckView]) -> Iterator[list[CheckView]]:
    burst: list[CheckView] = []
    end = 0.0
    for check in checks:
        if burst and _began(check) > end + _GAP_S:
            yield burst
            burst = []
        burst.append(check)
        end = max(end, _began(check) + (check.duration_ms or 0.0) / 1000)
    if burst:
        yield burst


def _began(check: CheckView) -> float:
    return check.started_at or 0.0


def _timeline(checks: Sequence[CheckView]) -> Timeline:
    first = _began(checks[0])
    starts = {check.name: (_began(check) - first) * 1000 for check in checks}
    span = max(starts[check.name] + (check.duration_ms or 0.0) for check in checks) or 1.0
    bars = tuple(
        Bar(
            check_title(check.name),
            x=BARS * starts[check.name] / span,
            width=max(_LEAST, BARS * (check.duration_ms or 0.0) / span),
            start_ms=starts[check.name],
            duration_ms=check.duration_ms or 0.0,
            worker=check.worker,
        )
        for check in checks
    )
    return Timeline(datetime.fromtimestamp(first, UTC), span, bars)


def flat(checks: Sequence[CheckView], depth: int = 0) -> Iterator[tuple[int, CheckView]]:
    """The tree of checks as a flat sequence, each with its depth."""
    for check in checks:
        yield depth, check
        yield from flat(check.breakdown, depth + 1)
