"""Rate limits: one token bucket for each API key and one for each case.

Each API process counts on its own. Behind a load balancer, N processes together let through up to N times the rate.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from service.errors import TooManyRequestsError
from service.observability.metrics import Metrics

_MOST = 100_000
"""Most buckets in memory: about 20 MB. The least recently used one is removed first; it is full again by then."""


class Buckets:
    """One token bucket per name. Each holds at most `burst` requests and refills by `rate` per second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left = OrderedDict[str, tuple[float, float]]()

    def take(self, name: str, now: float) -> float:
        """Take one request. Returns 0, or the seconds until the next one if the bucket is empty."""
        left, at = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return wait


class Limits:
    """The rate limits of a service, in requests per second. Short bursts of ten times as many are allowed."""

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
