"""Wiring of decisions."""

import asyncio
from contextlib import AsyncExitStack

import grpc.aio

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.decide.choice import Policy
from router_svc.decide.decider import Decider, Surroundings
from router_svc.decide.embedding import BoundedEmbedder
from router_svc.decide.meaning import Meanings, packaged_examples
from router_svc.metrics import RouterMetrics
from router_svc.providers.embeddings import Embeddings
from router_svc.settings import RouterSettings
from router_svc.tokens.families import TokenCounters

# The examples are learnt at leisure.
EXAMPLES_DEADLINE_SECONDS = 10.0


def wire_meanings(
    channel: grpc.aio.Channel, settings: RouterSettings, stack: AsyncExitStack
) -> Meanings | None:
    """Returns what finds the meaning of texts; None when the settings want none."""
    deadline = settings.embedding_deadline_seconds
    if deadline == 0:
        return None
    # Asked only when there is a choice: a router of one model never calls model_svc.
    call = Embeddings(channel, timeout_seconds=EXAMPLES_DEADLINE_SECONDS)
    meanings = Meanings(BoundedEmbedder(call, deadline_seconds=deadline))
    patient = BoundedEmbedder(call, deadline_seconds=EXAMPLES_DEADLINE_SECONDS)
    learning = asyncio.create_task(
        meanings.prepare(packaged_examples(), patient), name="examples of kinds"
    )
    stack.callback(learning.cancel)
    return meanings


def wire(
    holder: CatalogueHolder,
    counters: TokenCounters,
    surroundings: Surroundings,
    *,
    settings: RouterSettings,
    metrics: RouterMetrics,
) -> Decider:
    """Returns what decides."""
    return Decider(
        holder,
        counters,
        surroundings,
        metrics=metrics,
        policy=Policy(explore=settings.exploration, sufficient=settings.sufficient_quality),
    )
