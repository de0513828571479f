"""Turns the catalogue into that of the API."""

from datetime import UTC, datetime

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.catalogue.kinds import Tier
from router_svc.catalogue.models import Model
from router_svc.catalogue.prices import Price
from stepwire.api.router.v1 import catalogue_pb2 as pb
from stepwire.api.router.v1.requirements_pb2 import TIER_BALANCED, TIER_LARGE, TIER_SMALL
from stepwire.api.router.v1.router_service_pb2 import ListModelsResponse

TIERS = {
    Tier.SMALL: TIER_SMALL,
    Tier.BALANCED: TIER_BALANCED,
    Tier.LARGE: TIER_LARGE,
}


def encode_catalogue(holder: CatalogueHolder) -> ListModelsResponse:
    """Returns the models without what is the operator's: addresses and keys."""
    snapshot, now = holder.current, datetime.now(UTC)
    return ListModelsResponse(
        models=[_model(model, now) for model in snapshot.catalogue.models],
        catalogue_version=snapshot.version,
        refused=holder.refused,
    )


def _model(model: Model, now: datetime) -> pb.CatalogueModel:
    price = model.price_at(now)
    assert price is not None, f"{model.name} has no price"
    return pb.CatalogueModel(
        name=model.name,
        provider=model.provider.kind,
        context_window=model.context_window,
        quality=model.quality,
        capabilities=sorted(model.capabilities),
        input_price_micro_usd=price.input_micro_usd,
        output_price_micro_usd=price.output_micro_usd,
        tier=TIERS[model.tier],
        max_output_tokens=model.max_output_tokens,
        languages=model.languages,
        prices=[_price(each) for each in model.prices],
        limits=pb.ModelLimits(
            requests_per_minute=model.limits.requests_per_minute or 0,
            tokens_per_minute=model.limits.tokens_per_minute or 0,
            concurrency=model.limits.concurrency or 0,
        ),
        quality_by_kind={kind.value: quality for kind, quality in model.quality_by_kind.items()},
        tokenizer=model.tokenizer,
        endpoints=[endpoint.name for endpoint in model.endpoints],
    )


def _price(price: Price) -> pb.Price:
    encoded = pb.Price(
        input_micro_usd=price.input_micro_usd,
        cached_input_micro_usd=price.cached_input_micro_usd,
        output_micro_usd=price.output_micro_usd,
        reasoning_micro_usd=price.reasoning_micro_usd,
    )
    if price.valid_from is not None:
        encoded.valid_from.FromDatetime(price.valid_from)
    return encoded
