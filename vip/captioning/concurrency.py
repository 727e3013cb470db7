"""Concurrency: how many requests in flight a server can use."""

from dataclasses import dataclass

_GAIN = 1.05
_SHORTEST = 24
_HOLD = 60.0
_FEWEST = 4
_QUICKLY = 256
"""As far as a server's own metrics lead: vLLM runs that many side by side by default."""
_LOOKS = 40
"""Looks at a level after which the metrics no longer lead, but the rate of answers."""
_PATIENCE = 30.0
"""Seconds that an answer may be expected to take at the next level; slow servers are not led to their deadline."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a vLLM says of its load: requests, share of the cache in use (0..1), preemptions so far."""

    running: float
    waiting: float
    cache: float
    preemptions: float


class Concurrency:
    """Finds the number in flight at which a server is full and its queue short.

    A server whose metrics show no queue is filled quickly: the number doubles at every look until 256 are in flight or
    some wait. Beyond, and where there are no metrics, it doubles for as long as that brings at least 5% more answers a
    second, measured over as many answers as are in flight, after those of the level before are through; then it goes
    back one level and stays for a minute. A queue, a full cache or preemptions that the server itself reports, and 429,
    lower it at once.

    Args:
        first, most: where it begins, and the upper bound.
        fixed: stay there instead.
    """

    def __init__(self, first: int, most: int, fixed: int | None = None) -> None:
        self.limit = fixed or min(first, most)
        self._most, self._fixed = most, fixed is not None
        self._best_limit, self._best_rate = self.limit, 0.0
        self._seen, self._skip, self._peak = 0, 0, 0
        self._started: float | None = None
        self._hold_until = 0.0
        self._halved_at = -1.0
        self._load: Load | None = None
        self._first_look: float | None = None
        self._answers = self._looks = 0
        self.filling = not self._fixed
        """Whether the server's metrics still lead."""

    def answered(self, now: float, in_flight: int) -> None:
        """Note one answer; ``in_flight`` counts it."""
        if self._fixed:
            return
        self._answers += 1
        if self.filling and self._load is not None:
            return
        self._peak = max(self._peak, in_flight)
        self._seen += 1
        if self._started is None:
            if self._seen > self._skip:
                self._started, self._seen = now, 0
        elif self._seen >= max(self.limit, _SHORTEST):
            self._judge(self._seen / max(now - self._started, 1e-6), now)

    def told(self, load: Load | None, now: float) -> None:
        """Heed the server's own metrics."""
        before, self._load = self._load, load
        if self._fixed or load is None:
            return
        preempted = before is not None and load.preemptions > before.preemptions
        if preempted or (load.cache > 0.98 and load.waiting > 0):
            self._lower(int(0.8 * self.limit), now)
        elif load.waiting > max(8.0, 0.25 * load.running):
            self._lower(self.limit - max(1, int(load.waiting / 2)), now)
        elif self.filling:
            self._fill(load, now)

    def throttled(self, now: float) -> None:
        """The server said 429: halve, once a second at most."""
        if not self._fixed and now >= self._halved_at + 1.0:
            self._halved_at = now
            self._lower(self.limit // 2, now, fewest=1)

    def _fill(self, load: Load, now: float) -> None:
        """Double where the server runs all it was given, none waits, and answers come soon enough."""
        if self._first_look is None:
            self._first_look, self._answers = now, 0
            return
        rate = self._answers / max(now - self._first_look, 1e-6)
        self._looks += 1
        if load.waiting <= 2 and load.running >= 0.8 * self.limit and 2 * self.limit <= rate * _PATIENCE:
            self._move(min(self._most, _QUICKLY, 2 * self.limit))
            self._best_limit, self._looks = self.limit, 0
        self.filling = self.limit < min(self._most, _QUICKLY) and self._looks < _LOOKS

    def _judge(self, rate: float, now: float) -> None:
        if self._peak < 0.9 * self.limit:
            self._move(self.limit)  # there was not enough to send; nothing was learnt
        elif self.limit == self._best_limit:
            self._best_rate = rate if not self._best_rate else 0.7 * self._best_rate + 0.3 * rate
            self._move(min(self._most, 2 * self.limit) if now >= self._hold_until else self.limit)
        elif rate > _GAIN * self._best_rate:
            self._best_limit, self._best_rate = self.limit, rate
            self._move(min(self._most, 2 * self.limit))
        else:
            self._hold_until = now + _HOLD
            self._move(self._best_limit)

    def _lower(self, limit: int, now: float, fewest: int = _FEWEST) -> None:
        self._hold_until = now + _HOLD / 4
        self.filling = False
        self._move(max(fewest, min(limit, self.limit)))
        self._best_limit, self._best_rate = self.limit, 0.0

    def _move(self, limit: int) -> None:
        """Go to a level and measure once the answers of the old one are through."""
        self._skip = self.limit if limit != self.limit else 0
        self.limit = limit
        self._seen, self._peak, self._started = 0, 0, None
