"""How busy and how quick one endpoint is, as this process sees it."""

# Weight of the newest call in the average.
_WEIGHT = 0.1
# Steps by which the estimated percentile follows; see `Load.end`.
_QUANTILE = 0.95
_STEP = 0.05
# Calls before the percentile is taken at its word.
MIN_CALLS = 20


class Load:
    """Calls under way, and how long they take."""

    __slots__ = ("_calls", "_p95", "average_seconds", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.average_seconds = 0.0
        self._p95 = 0.0
        self._calls = 0

    @property
    def p95_seconds(self) -> float | None:
        """What one call in twenty takes longer than; None while too few were seen."""
        return self._p95 if self._calls >= MIN_CALLS else None

    def begin(self) -> None:
        """Counts a call that begins."""
        self.in_flight += 1

    def end(self, seconds: float | None) -> None:
        """Counts a call that ended; `seconds` is what an answer took, None without one."""
        self.in_flight -= 1
        if seconds is None:
            return
        if not self._calls:
            self.average_seconds = self._p95 = seconds
        self._calls += 1
        self.average_seconds += _WEIGHT * (seconds - self.average_seconds)
        # Stochastic approximation of a quantile (Robbins and Monro): at rest when one in
        # twenty is above. The step is relative, since latencies span magnitudes.
        step = _STEP * max(self._p95, 1e-4)
        self._p95 += step * (_QUANTILE if seconds > self._p95 else _QUANTILE - 1.0)
