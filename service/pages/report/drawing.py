"""The drawings of a report as numbers: where a score lies against its threshold, and when each check ran. The template
draws them as SVG, so that the page needs no script.
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
"""Of a score's drawing, in CSS pixels."""
BARS = 420.0
"""Of a timeline's bars, in CSS pixels."""
TITLES = 340.0
"""Of what stands left of the bars: the longest title of a check and its step."""
_ROOM = 1.25
"""A drawing ends so far beyond what it shows."""
_GAP_S = 5.0
"""Silence that begins another timeline: a check of yesterday's upload would squeeze today's into a line."""
_LEAST = 2.0

Wanted = Literal["at least", "at most"]


@dataclass(frozen=True)
class Gauge:
    """A score beside its threshold. score_x, threshold_x: in CSS pixels from the left; good_x, good_width: where a
    score is good, None when that is not known; text: the same in words.
    """

    score_x: float
    threshold_x: float
    good_x: float | None
    good_width: float | None
    text: str


def gauge(check: CheckView, policy: CheckPolicy | None) -> Gauge | None:
    """How a check's score lies against its threshold; None for a check without either. policy: what the profile says of
    it, for which side of the threshold is good.
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
    """A score in a few digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _wanted(threshold: float, policy: CheckPolicy | None) -> Wanted | None:
    """The side of a threshold that is good, as the name of the threshold in the policy says."""
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
    """Checks that ran close to each other, the first one first. span_ms: until the last one has ended."""

    began_at: datetime
    span_ms: float
    bars: tuple[Bar, ...]


def timelines(checks: Sequence[CheckView]) -> list[Timeline]:
    """When the checks ran, in one timeline for each burst of them. Those that did not run have no time."""
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
    """The tree of checks as lines, each with its depth."""
    for check in checks:
        yield depth, check
        yield from flat(check.breakdown, depth + 1)
