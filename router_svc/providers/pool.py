"""All places where models can be called, and the choice of one for a call."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from router_svc.breakers.board import Breakers
from router_svc.breakers.records import BreakerKey, Scope
from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.models import (
    Endpoint,
    ExtractiveProvider,
    HostedProvider,
    Model,
    OpenAIProvider,
)
from router_svc.decide.records import Standing
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.load import Load
from router_svc.generate.ports import Permit, Provider, Target
from router_svc.providers.http import HttpClient
from router_svc.providers.openai import CONNECT_TIMEOUT_SECONDS, OpenAIModel
from stepwire.version import installed_version

MODEL_SVC = "model_svc"


@dataclass(frozen=True, slots=True)
class _Place:
    """One place, and the breakers before it."""

    target: Target
    keys: tuple[BreakerKey, ...]
    secret: str | None


class ProviderPool:
    """The places of all models of the catalogue. See `Targets` and `Availability`.

    Args:
        breakers: Stand before the places.
        of_model_svc: Makes the providers that model_svc is behind.
        random: Which two of many places are compared.
    """

    def __init__(
        self,
        breakers: Breakers,
        of_model_svc: Callable[[ExtractiveProvider | HostedProvider], Provider],
        *,
        random: Random,
    ) -> None:
        self._breakers = breakers
        self._of_model_svc = of_model_svc
        self._random = random
        self._places: dict[str, tuple[_Place, ...]] = {}
        self._clients: dict[str, HttpClient] = {}

    def use(self, snapshot: Snapshot) -> None:
        """Goes over to another catalogue; what it has in common with the last one stays."""
        models = snapshot.catalogue.models
        urls = {endpoint.base_url for model in models for endpoint in model.endpoints}
        gone = [client for url, client in self._clients.items() if url not in urls]
        self._clients = {url: self._clients.get(url) or _client(url) for url in urls}
        self._places = {model.name: self._open(model, snapshot) for model in models}
        self._breakers.keep(
            key for places in self._places.values() for place in places for key in place.keys
        )
        for client in gone:
            client.close()

    def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            client.close()

    def take(self, model: Model, *, avoid: Sequence[str] = ()) -> tuple[Target, Permit]:
        """Returns the less busy of two places that let a call through; see `Targets`."""
        places = self._places.get(model.name, ())
        if not places or _served(places[0].target.model) != _served(model):
            # Another one would be called at the price, and for the quality, of this one.
            raise ProviderFailure(
                FailureKind.MISCONFIGURED, "the catalogue no longer has it", called=False
            )
        refusals = {place.target.endpoint: self._refusal(place) for place in places}
        let_through = [place for place in places if refusals[place.target.endpoint] is None]
        if not let_through:
            raise _first_over([failure for failure in refusals.values() if failure is not None])
        fresh = [place for place in let_through if place.target.endpoint not in avoid]
        place = self._less_busy(fresh or let_through)
        return place.target, self._breakers.permit(place.keys, place.target.load)

    def of(self, model: Model) -> Standing:
        """Returns how `model` stands at its best place; see `Availability`."""
        places = self._places.get(model.name, ())
        resting = ""
        best: Load | None = None
        for place in places:
            failure = self._refusal(place)
            if failure is not None:
                resting = resting or str(failure)
            elif best is None or place.target.load.in_flight < best.in_flight:
                best = place.target.load
        if best is None:
            return Standing(resting=resting)
        return Standing(in_flight=best.in_flight, latency_seconds=best.average_seconds)

    def _refusal(self, place: _Place) -> ProviderFailure | None:
        return self._breakers.refusal(place.keys)

    def _less_busy(self, places: Sequence[_Place]) -> _Place:
        # Two by chance, not the best of all: many processes that all chose the best one
        # would come down on it together.
        two = places if len(places) <= 2 else self._random.sample(places, 2)  # noqa: PLR2004
        if len(two) == 1:
            return two[0]
        return min(
            self._random.sample(two, 2),
            key=lambda each: (each.target.load.in_flight, each.target.load.average_seconds),
        )

    def _open(self, model: Model, snapshot: Snapshot) -> tuple[_Place, ...]:
        known = {place.target.endpoint: place for place in self._places.get(model.name, ())}
        before = next(iter(known.values()), None)
        if not isinstance(model.provider, OpenAIProvider):
            provider = self._of_model_svc(model.provider)
            load = before.target.load if before else Load()
            keys = (BreakerKey(Scope.PROVIDER, MODEL_SVC), BreakerKey(Scope.MODEL, model.name))
            return (_Place(Target(model, "", provider, load), keys, None),)
        return tuple(
            self._place(model, endpoint, snapshot, known.get(endpoint.name))
            for endpoint in model.endpoints
        )

    def _place(
        self,
        model: Model,
        endpoint: Endpoint,
        snapshot: Snapshot,
        before: _Place | None,
    ) -> _Place:
        assert isinstance(model.provider, OpenAIProvider)
        secret = snapshot.key(endpoint)
        provider = OpenAIModel(model.provider, self._clients[endpoint.base_url], key=secret)
        load = before.target.load if before else Load()
        return _Place(Target(model, endpoint.name, provider, load), _keys(model, endpoint), secret)


def _served(model: Model) -> tuple[str, str]:
    """Returns what is called: the kind of its provider, and the provider's own name of it."""
    own = model.provider
    return own.kind, own.embedding_model if isinstance(own, ExtractiveProvider) else own.model


def _keys(model: Model, endpoint: Endpoint) -> tuple[BreakerKey, ...]:
    variable = endpoint.api_key_env or "none"
    return (
        BreakerKey(Scope.PROVIDER, endpoint.base_url),
        BreakerKey(Scope.KEY, f"{variable}@{endpoint.base_url}"),
        BreakerKey(Scope.MODEL, f"{model.name}@{endpoint.name}"),
    )


def _client(base_url: str) -> HttpClient:
    headers: Mapping[str, str] = {
        "user-agent": f"stepwire/{installed_version()}",
        "accept": "application/json, text/event-stream",
    }
    return HttpClient(base_url, headers=headers, connect_seconds=CONNECT_TIMEOUT_SECONDS)


def _first_over(failures: Sequence[ProviderFailure]) -> ProviderFailure:
    """Returns the refusal that is over first; those without an end come last."""
    return min(
        failures,
        key=lambda each: each.retry_after.total_seconds() if each.retry_after else float("inf"),
    )
