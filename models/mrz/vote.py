"""Combines several readings of one machine readable zone into one, character by character."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
LineProbabilities = tuple[Float, ...]
"""For each line float32 (length, 37): log probabilities over `check_digits.ALPHABET`."""


def vote(readings: Sequence[LineProbabilities]) -> LineProbabilities:
    """The probabilities of all readings that have the commonest line lengths (the earlier ones in a tie), combined.

    Log probabilities are added and divided by the square root of their number: between a product, which takes the
    errors of frames for independent, and a mean, which gains nothing by looking again. Frames of one video share their
    printing, blur and glare. ValueError when there are no readings.
    """
    if not readings:
        raise ValueError("no readings to combine")
    lengths, _ = Counter(tuple(len(rows) for rows in reading) for reading in readings).most_common(1)[0]
    alike = [reading for reading in readings if tuple(len(rows) for rows in reading) == lengths]
    combined = []
    for index in range(len(lengths)):
        total = np.sum([reading[index] for reading in alike], axis=0) / np.sqrt(len(alike))
        combined.append(np.asarray(total - np.logaddexp.reduce(total, axis=1, keepdims=True), np.float32))
    return tuple(combined)
