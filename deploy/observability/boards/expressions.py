"""Expressions of PromQL that boards share."""


def rate(metric: str, matchers: str = "") -> str:
    """Returns a counter's growth per second."""
    return (
        f"rate({metric}{{{matchers}}}[$__rate_interval])"
        if matchers
        else (f"rate({metric}[$__rate_interval])")
    )


def total(metric: str, matchers: str = "", *, by: str = "") -> str:
    """Returns the growth per second of all instances together."""
    return f"sum by ({by}) ({rate(metric, matchers)})" if by else f"sum({rate(metric, matchers)})"


def quantile(share: float, histogram: str, matchers: str = "", *, by: str = "") -> str:
    """Returns a quantile of all instances together."""
    of = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {total(f'{histogram}_bucket', matchers, by=of)})"


def mean(histogram: str, matchers: str = "", *, by: str = "") -> str:
    """Returns the mean of what a histogram was told."""
    above = total(f"{histogram}_sum", matchers, by=by)
    return f"{above} / {total(f'{histogram}_count', matchers, by=by)}"


def quantiles(histogram: str, matchers: str = "") -> tuple[tuple[str, str], ...]:
    """Returns median, 95th and 99th percentile, each with its name."""
    return tuple(
        (quantile(share, histogram, matchers), name)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )
