"""Counts of work, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts of work, for Prometheus."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._consumed: Counter[str] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0
        self.in_flight = 0

    @contextmanager
    def flight(self) -> Iterator[None]:
        """Count work as under way."""
        with self._lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def answered(self, code: str, seconds: float) -> int:
        """Count an answer, and say how many there have been."""
        with self._lock:
            self._codes[code] += 1
            self._seconds += seconds
            self._buckets.update(bound for bound in BUCKETS if seconds <= bound)
            return self._codes.total()

    def failed(self, dependency: str) -> None:
        """Count an error of a dependency."""
        with self._lock:
            self._errors[dependency] += 1

    def consumed(self, topic: str) -> None:
        """Count a record that was read."""
        with self._lock:
            self._consumed[topic] += 1

    def text(self) -> str:
        """Prometheus' text format."""
        with self._lock:
            total = self._codes.total()
            return "\n".join(
                [
                    "# TYPE requests_total counter",
                    *(f'requests_total{{code="{c}"}} {n}' for c, n in sorted(self._codes.items())),
                    "# TYPE request_seconds histogram",
                    *(f'request_seconds_bucket{{le="{b:g}"}} {self._buckets[b]}' for b in BUCKETS),
                    f'request_seconds_bucket{{le="+Inf"}} {total}',
                    f"request_seconds_sum {self._seconds:.6f}",
                    f"request_seconds_count {total}",
                    "# TYPE dependency_errors_total counter",
                    *(
                        f'dependency_errors_total{{dependency="{name}"}} {count}'
                        for name, count in sorted(self._errors.items())
                    ),
                    "# TYPE consumed_total counter",
                    *(
                        f'consumed_total{{topic="{topic}"}} {count}'
                        for topic, count in sorted(self._consumed.items())
                    ),
                    "# TYPE in_flight gauge",
                    f"in_flight {self.in_flight}\n",
                ]
            )
