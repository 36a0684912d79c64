"""Turns character probabilities over time into exactly N characters, each with its alternatives (connectionist temporal
classification, CTC).

An MRZ line is 30, 36 or 44 characters of equal width. Greedy decoding drops or doubles fillers in a run of them. Then
the best path that emits exactly N characters is searched, with a prior that characters are equally spaced.
CTC: Graves et al. 2006, "Connectionist temporal classification", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.mrz.check_digits import ALPHABET

Float = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

_FILLER = len(ALPHABET)  # column in log probabilities that begin with the blank
_REPEAT = float(np.log(0.05))  # price of two fillers without a blank between them: readers fuse them, CTC forbids it
_PITCH_WEIGHTS = (0.5, 2.0)  # per squared pitch from the expected place; weak at first, then on the fitted grid
_EVEN = 0.8  # pitches; characters of a plain reading that is right stand this near to an even grid


@dataclass(frozen=True)
class Line:
    """One line as read. probabilities: float32 (N, 37) over `ALPHABET`, rows sum to 1."""

    probabilities: Float

    @property
    def text(self) -> str:
        """The likeliest character at each place."""
        return "".join(ALPHABET[index] for index in self.probabilities.argmax(axis=1))


@dataclass(frozen=True)
class Plain:
    """The plain (greedy) reading. symbols: columns of the log probabilities, (N,); times: the step at which each is
    surest, (N,); sureness: geometric mean of their probabilities, 0..1.
    """

    symbols: Ints
    times: Ints
    sureness: float


def read_plainly(log_probabilities: Float) -> Plain:
    """The likeliest symbol of each step without repeats and blanks. log_probabilities: float32 (T, 38), blank first."""
    best = log_probabilities.argmax(axis=1)
    starts = np.flatnonzero(np.concatenate(([True], best[1:] != best[:-1])))
    ends = np.append(starts[1:], len(best))
    runs = [(start, end) for start, end in zip(starts, ends, strict=True) if best[start] != 0]
    symbols = np.array([best[start] for start, _ in runs], np.intp)
    times = np.array([start + log_probabilities[start:end, best[start]].argmax() for start, end in runs], np.intp)
    sureness = float(np.exp(log_probabilities[times, symbols].mean())) if runs else 0.0
    return Plain(symbols, times, sureness)


def decode(log_probabilities: Float, length: int) -> Line | None:
    """The best reading of exactly `length` characters; None when there are too few time steps or no text at all.

    log_probabilities: float32 (T, 38), the blank first, then `ALPHABET`.
    """
    plain = read_plainly(log_probabilities)
    if len(plain.times) < 2 or len(log_probabilities) < length:
        return None
    times = plain.times
    if len(times) != length or not _is_even(times):
        times = _fit_length(log_probabilities, length, np.linspace(times[0], times[-1], length))
    chosen = np.exp(log_probabilities[times, 1:])
    return Line(np.asarray(chosen / chosen.sum(axis=1, keepdims=True), np.float32))


def _is_even(times: Ints) -> bool:
    places = np.arange(len(times))
    slope, start = np.polyfit(places, times, 1)
    return bool(np.abs(times - (start + slope * places)).max() < _EVEN * slope)


def _fit_length(log_probabilities: Float, length: int, expected: npt.NDArray[np.float64]) -> Ints:
    """The steps of exactly `length` characters; the grid is fitted to the sure ones of a first search."""
    # symbols that are nowhere likely only cost time
    columns = np.flatnonzero(log_probabilities.max(axis=0) > np.log(0.01))
    columns = np.union1d(columns, [0, _FILLER])
    emit = log_probabilities[:, columns]
    times = np.zeros(length, np.intp)
    for weight in _PITCH_WEIGHTS:
        pitch = max((expected[-1] - expected[0]) / (length - 1), 1e-3)
        places = (np.arange(len(emit))[:, None] - expected[None]) / pitch
        symbols, times = _best_path(emit, (-weight * places**2).astype(np.float32))
        sure = emit[times, symbols + 1] > np.log(0.8)
        if np.count_nonzero(sure) >= 4:
            slope, start = np.polyfit(np.flatnonzero(sure), times[sure], 1)
            expected = start + slope * np.arange(length)
    return times


def _best_path(emit: Float, prior: Float) -> tuple[Ints, Ints]:
    """Viterbi over (characters so far, the last of them or a blank). emit: (T, 1 + S), the blank first, the filler
    last; prior: (T, N), for the k-th character to begin at t. Returns symbols 0..S-1 (N,) and the step at which each is
    surest (N,).
    """
    (steps, length), classes = prior.shape, emit.shape[1] - 1
    rows = np.arange(length)
    blank = np.full(length + 1, -np.inf, np.float32)  # k characters done, now blank
    blank[0] = emit[0, 0]
    on = np.full((length, classes), -np.inf, np.float32)  # in character k
    on[0] = emit[0, 1:] + prior[0, 0]
    price = np.full(classes, -np.inf, np.float32)
    price[-1] = _REPEAT
    # where each state came from: -2 itself, -1 blank, c >= 0 the character c
    came_on = np.full((steps, length, classes), -2, np.int8)
    came_blank = np.full((steps, length + 1), -2, np.int8)
    for t in range(1, steps):
        first = on.argmax(axis=1)
        top = on[rows, first]
        others = on.copy()
        others[rows, first] = top + price[first]
        second = others.argmax(axis=1)
        # entering character k from character k-1: any other symbol freely, the same one at its price
        source = np.repeat(first[:, None], classes, axis=1)
        source[rows, first] = second
        value = np.repeat(top[:, None], classes, axis=1)
        value[rows, first] = others[rows, second]
        enter = np.full_like(on, -np.inf)
        enter[1:] = value[:-1]
        origin = np.full((length, classes), -1, np.int8)
        origin[1:] = source[:-1]
        from_blank = blank[:-1, None] >= enter
        enter = np.where(from_blank, blank[:-1, None], enter) + prior[t][:, None]
        origin[from_blank] = -1
        stays = on >= enter
        came_on[t] = np.where(stays, -2, origin)
        leave = np.concatenate(([np.float32(-np.inf)], top))
        came_blank[t] = np.where(blank >= leave, -2, np.concatenate(([-2], first)))
        blank = np.maximum(blank, leave) + emit[t, 0]
        on = np.where(stays, on, enter) + emit[t, 1:]
    return _trace(emit, came_on, came_blank, int(on[-1].argmax()), bool(blank[-1] >= on[-1].max()))


def _trace(
    emit: Float, came_on: npt.NDArray[np.int8], came_blank: npt.NDArray[np.int8], symbol: int, in_blank: bool
) -> tuple[Ints, Ints]:
    """Follow the path back from its last state: the last character `symbol`, or the blank after it."""
    length = came_on.shape[1]
    symbols, times = np.zeros(length, np.intp), np.full(length, -1, np.intp)
    k = length - 1
    for t in range(len(emit) - 1, -1, -1):
        if in_blank:
            came = int(came_blank[t, k + 1])
            if came >= 0:
                in_blank, symbol = False, came
            continue
        symbols[k] = symbol
        if times[k] < 0 or emit[t, symbol + 1] > emit[times[k], symbol + 1]:
            times[k] = t
        came = int(came_on[t, k, symbol])
        if came != -2:
            k -= 1
            in_blank, symbol = came == -1, max(came, 0)
        if k < 0:
            break
    return symbols, times
