"""Which scope a path needs. Pure."""

from collections.abc import Mapping
from typing import Final

from gateway.descriptors import method_names
from gateway.mesh import MESH_SERVICES, OPENAI_PATHS
from gateway.public import Scope, scope_of


def scopes_by_path() -> Mapping[str, Scope]:
    """Returns what a key must allow for each path; one that ends with `/` stands for all below."""
    found = {}
    for service in MESH_SERVICES:
        for method in method_names(service.name):
            scope = service.scope(method)
            assert scope is not None
            found[f"/{service.name}/{method}"] = scope
    return found | {each.path: scope_of(each.behaviour) for each in OPENAI_PATHS}


_SCOPES: Final = scopes_by_path()
_BELOW: Final = tuple(path for path in _SCOPES if path.endswith("/"))


def scope_of_path(path: str) -> Scope | None:
    """Returns what a key must allow for a call; None for a path that no key opens.

    Args:
        path: As the service will see it, that of the gRPC method also for a call that came
            as JSON.
    """
    path, _, _ = path.partition("?")
    exact = _SCOPES.get(path)
    if exact is not None:
        return exact
    return next((_SCOPES[above] for above in _BELOW if path.startswith(above)), None)
