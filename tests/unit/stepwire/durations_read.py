"""Reading what code under test records in histograms of durations."""

from types import ModuleType

import pytest

from stepwire.telemetry import Durations


def histograms(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> dict[str, Durations]:
    """Give a module's code histograms of its own; return those that it makes, by name."""
    made: dict[str, Durations] = {}

    def make(name: str, **options: object) -> Durations:
        made[name] = Durations(name, **options)  # type: ignore[arg-type]
        return made[name]

    monkeypatch.setattr(module, "durations", make)
    return made


def counts(histogram: Durations, *attributes: str) -> dict[tuple[str, ...], int]:
    """Return how many durations were recorded, by the values of some attributes."""
    places = [histogram.attributes.index(attribute) for attribute in attributes]
    return {
        tuple(values[place] for place in places): sum(cell.counts)
        for values, cell in histogram.cells()
    }
