"""Error rates with confidence intervals, and thresholds fitted on scores. Pure functions.

Terms: ISO/IEC 19795-1 for face comparison (false match rate FMR and false non-match rate FNMR), ISO/IEC 30107-3 for
attacks (APCER, the share of an attack's presentations that pass, and BPCER, the share of genuine ones that do not).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
_Z = 1.959964
"""Quantile of the normal distribution for a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Rate:
    """An error rate: `errors` of `of` items."""

    errors: int
    of: int

    @property
    def share(self) -> float:
        """The rate, 0..1; nan without items."""
        return self.errors / self.of if self.of else float("nan")

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate (Wilson 1927); 0 to 1 without items."""
        if not self.of:
            return 0.0, 1.0
        middle = (self.share + _Z**2 / (2 * self.of)) / (1 + _Z**2 / self.of)
        half = _Z / (1 + _Z**2 / self.of) * (self.share * (1 - self.share) / self.of + _Z**2 / (4 * self.of**2)) ** 0.5
        # Rounding could leave the rate itself just outside its interval.
        return min(self.share, max(0.0, middle - half)), max(self.share, min(1.0, middle + half))

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.errors}/{self.of} = {100 * self.share:.3g} % ({100 * low:.2g} to {100 * high:.2g})"


def at_false_match_rate(impostor: F64, rate: float) -> float:
    """The largest threshold at which at most `rate` of the impostors' distances (N,) match (distance <= threshold);
    infinity if all of them may match.
    """
    allowed = int(rate * len(impostor))
    ordered = np.sort(impostor)
    return float(np.nextafter(ordered[allowed], -np.inf)) if len(ordered) > allowed else float("inf")


def fewest_errors(distances: F64, same: npt.NDArray[np.bool_]) -> float:
    """The threshold that classifies most pairs correctly: the middle of the best interval between two distances.

    distances: (N,), infinite if a face was missed. same: (N,), whether the pair shows one person.
    """
    finite = np.unique(distances[np.isfinite(distances)])
    middles = (finite[:-1] + finite[1:]) / 2 if len(finite) > 1 else finite
    if not len(middles):
        return 0.0
    right = ((distances[None] <= middles[:, None]) == same[None]).sum(axis=1)
    return float(np.median(middles[right == right.max()]))


def at_genuine_error_rate(genuine: F64, rate: float, *, higher_is_genuine: bool) -> float:
    """The strictest threshold at which at most `rate` of the genuine scores (N,) are rejected.

    A score below the threshold is rejected; if lower scores are genuine, a score above it. Raises ValueError without
    scores.
    """
    if not len(genuine):
        raise ValueError("no genuine scores to fit a threshold on")
    ordered = np.sort(genuine if higher_is_genuine else -genuine)
    threshold = float(ordered[int(rate * len(ordered))])
    return threshold if higher_is_genuine else -threshold


def error_curve(genuine: F64, impostor: F64) -> tuple[list[float], list[float]]:
    """FMR and FNMR at each distance where one of them changes, thinned to at most 400 points."""
    steps = np.unique(np.concatenate([genuine[np.isfinite(genuine)], impostor[np.isfinite(impostor)]]))
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, 400).astype(int))] if len(steps) else steps
    false_match = np.searchsorted(np.sort(impostor), steps, side="right") / max(len(impostor), 1)
    false_non_match = 1 - np.searchsorted(np.sort(genuine), steps, side="right") / max(len(genuine), 1)
    return [float(v) for v in false_match], [float(v) for v in false_non_match]
