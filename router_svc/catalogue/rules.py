"""What the models of one catalogue must agree on."""

from collections.abc import Iterator, Mapping, Sequence

from router_svc.catalogue.models import Catalogue, Model

Path = tuple[str | int, ...]


def problems_of(catalogue: Catalogue) -> list[tuple[Path, str]]:
    """Returns what is wrong between the models, each with the path of the faulty field.

    A name used twice, a fallback that is unknown or the model itself, fallbacks that
    form a cycle.
    """
    models = catalogue.models
    problems = [*_doubled_names(models), *_unknown_fallbacks(models)]
    return problems or list(_cycles(models))


def _doubled_names(models: Sequence[Model]) -> Iterator[tuple[Path, str]]:
    first: dict[str, int] = {}
    for index, model in enumerate(models):
        if model.name in first:
            yield ("models", index, "name"), f"already used by models[{first[model.name]}]"
        first.setdefault(model.name, index)


def _unknown_fallbacks(models: Sequence[Model]) -> Iterator[tuple[Path, str]]:
    names = {model.name for model in models}
    for index, model in enumerate(models):
        for fallback in model.fallbacks:
            if fallback not in names:
                yield ("models", index, "fallbacks"), f"no model is called {fallback!r}"


def _cycles(models: Sequence[Model]) -> Iterator[tuple[Path, str]]:
    """Yields one problem for each cycle, at the first model of the file that is on it."""
    fallbacks = {model.name: model.fallbacks for model in models}
    done: set[str] = set()
    for index, model in enumerate(models):
        cycle = _cycle_from(model.name, fallbacks, path=(), done=done)
        if cycle:
            yield ("models", index, "fallbacks"), f"form a cycle: {' -> '.join(cycle)}"


def _cycle_from(
    name: str, fallbacks: Mapping[str, Sequence[str]], *, path: tuple[str, ...], done: set[str]
) -> tuple[str, ...]:
    if name in path:
        return (*path[path.index(name) :], name)
    if name in done:
        return ()
    found: tuple[str, ...] = ()
    for fallback in fallbacks[name]:
        found = found or _cycle_from(fallback, fallbacks, path=(*path, name), done=done)
    done.add(name)
    return found
