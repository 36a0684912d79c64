"""How often a key, and how often a case may ask: a token bucket for each.

Counted in each API process by itself: with several behind a load balancer, up to as many times the rate get through.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from service.errors import TooManyRequestsError
from service.observability.metrics import Metrics

_MOST = 100_000
"""Buckets kept: about 20 MB. The one that was asked longest ago goes first; it is full again by then."""


class Buckets:
    """A bucket for each name, that holds `burst` requests and fills by `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left = OrderedDict[str, tuple[float, float]]()

    def take(self, name: str, now: float) -> float:
        """Take one request; gives 0, or the seconds until there is one when the bucket is empty."""
        left, at = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return wait


class Limits:
    """The rates of a service, requests a second; for a moment ten times as many."""

    def __init__(self, key_rate: float, case_rate: float, metrics: Metrics | None = None) -> None:
        self._limited = (metrics or Metrics()).limited
        self._keys = Buckets(key_rate, max(1.0, 10 * key_rate))
        self._cases = Buckets(case_rate, max(1.0, 10 * case_rate))

    def count_key(self, key_id: str) -> None:
        """A key asks. Raises TooManyRequestsError."""
        self._count(
            self._keys, key_id, "key", "Too many requests with this API key. Retry after the time in Retry-After."
        )

    def count_case(self, case_id: str) -> None:
        """Something is asked about a case. Raises TooManyRequestsError."""
        self._count(
            self._cases, case_id, "case", "Too many requests for this case. Retry after the time in Retry-After."
        )

    def _count(self, buckets: Buckets, name: str, of: str, detail: str) -> None:
        if wait := buckets.take(name, time.monotonic()):
            self._limited.labels(of).inc()
            raise TooManyRequestsError(detail, wait)
