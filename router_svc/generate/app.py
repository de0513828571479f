"""Wiring of Generate."""

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random

import grpc.aio

from router_svc.breakers.board import Breakers
from router_svc.catalogue.holder import CatalogueHolder
from router_svc.catalogue.models import ExtractiveProvider, HostedProvider
from router_svc.generate.hedge import HedgeBudget
from router_svc.generate.means import Means
from router_svc.generate.nothing import NoBudgets, NoObserver
from router_svc.generate.pipeline import Router
from router_svc.generate.ports import Budgets, Decider, Limits, Observer, Provider
from router_svc.generate.route import RetryRules
from router_svc.generate.telemetry import CallTelemetry
from router_svc.limits.app import own_limits
from router_svc.metrics import RouterMetrics
from router_svc.providers.extractive import ExtractiveModel
from router_svc.providers.hosted import HostedModel
from router_svc.providers.pool import ProviderPool
from router_svc.settings import RouterSettings
from router_svc.tokens.families import TokenCounters
from router_svc.tokens.ports import TokenCounter


def open_pool(
    holder: CatalogueHolder,
    breakers: Breakers,
    channel: grpc.aio.Channel,
    counter: TokenCounter,
    *,
    stack: AsyncExitStack,
) -> ProviderPool:
    """Returns the places where the catalogue's models are called; it follows its changes."""

    def of_model_svc(provider: ExtractiveProvider | HostedProvider) -> Provider:
        if isinstance(provider, HostedProvider):
            return HostedModel(channel, provider.model)
        return ExtractiveModel(channel, embedding_model=provider.embedding_model, counter=counter)

    pool = ProviderPool(breakers, of_model_svc, random=Random())  # noqa: S311  (to spread load)
    stack.callback(pool.close)
    holder.subscribe(pool.use)
    return pool


@dataclass(frozen=True, slots=True)
class Joints:
    """What else has a part in each Generate, for an installation without a database.

    Attributes:
        budgets: Hold money before it is spent, and write down what was used.
        limits: Keep calls within rates.
        observer: Learns from what became of decisions.
    """

    budgets: Budgets = field(default_factory=NoBudgets)
    limits: Limits = field(default_factory=own_limits)
    observer: Observer = field(default_factory=NoObserver)


def wire(
    decider: Decider,
    pool: ProviderPool,
    counters: TokenCounters,
    joints: Joints,
    *,
    settings: RouterSettings,
    metrics: RouterMetrics,
) -> Router:
    """Returns what generates."""
    means = Means(
        targets=pool,
        budgets=joints.budgets,
        limits=joints.limits,
        telemetry=CallTelemetry(metrics, record_content=settings.record_prompts),
        count=partial(_count, counters),
        clock=time.monotonic,
    )
    return Router(
        decider=decider,
        means=means,
        rules=RetryRules(
            max_attempts=settings.max_attempts,
            patience_seconds=settings.retry_patience_seconds,
            longest_wait_seconds=settings.retry_longest_wait_seconds,
        ),
        observer=joints.observer,
        hedging=HedgeBudget(settings.hedge_share),
    )


def _count(counters: TokenCounters, tokenizer: str, text: str) -> int:
    return counters.of(tokenizer).count(text)
