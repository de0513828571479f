"""What agents remember, for programs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import grpc.aio

from stepwire.api.vector.v1 import memory_service_pb2 as pb
from stepwire.api.vector.v1.filter_pb2 import Condition, Filter
from stepwire.api.vector.v1.memory_pb2 import Memory, RecalledMemory, SpaceScope
from stepwire.api.vector.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub, MemoryServiceStub
from stepwire.payload import json_to_struct
from stepwire.sdk.failures import raising_ours
from stepwire.sdk.values import to_duration, to_timestamp


class Memories:
    """Memories in spaces such as `user/ann`. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._memories: MemoryServiceAsyncStub = MemoryServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def remember(
        self,
        space: str,
        memories: Sequence[str | Memory],
        *,
        ttl: timedelta | None = None,
        collection: str = "",
    ) -> Sequence[str]:
        """Keeps texts, or memories made with `memory`, in a space; returns their ids."""
        request = pb.RememberRequest(
            space=space,
            memories=[Memory(text=each) if isinstance(each, str) else each for each in memories],
            ttl=to_duration(ttl),
            collection=collection,
        )
        with raising_ours(self._target):
            response = await self._memories.Remember(request, timeout=self._timeout_seconds)
        return response.ids

    async def recall(
        self,
        space: str,
        query: str,
        *,
        limit: int = 10,
        scope: "SpaceScope.ValueType" = SpaceScope.SPACE_SCOPE_SPACE,
        metadata: Mapping[str, Any] | None = None,
        half_life: timedelta | None = None,
        recency_weight: float | None = None,
        importance_weight: float | None = None,
        collection: str = "",
    ) -> Sequence[RecalledMemory]:
        """Finds the memories that matter most for a query, best first.

        With metadata, only those whose metadata contains this object.
        """
        request = pb.RecallRequest(
            space=space,
            scope=scope,
            query=query,
            limit=limit,
            filter=_containing(metadata),
            half_life=to_duration(half_life),
            recency_weight=recency_weight,
            importance_weight=importance_weight,
            collection=collection,
        )
        with raising_ours(self._target):
            response = await self._memories.Recall(request, timeout=self._timeout_seconds)
        return response.memories

    async def latest(
        self,
        space: str,
        *,
        limit: int = 50,
        scope: "SpaceScope.ValueType" = SpaceScope.SPACE_SCOPE_SPACE,
        metadata: Mapping[str, Any] | None = None,
        collection: str = "",
    ) -> Sequence[Memory]:
        """Reads up to 1,000 memories, the latest first."""
        request = pb.ListMemoriesRequest(
            space=space,
            scope=scope,
            filter=_containing(metadata),
            page_size=limit,
            collection=collection,
        )
        with raising_ours(self._target):
            response = await self._memories.ListMemories(request, timeout=self._timeout_seconds)
        return response.memories

    async def forget(
        self,
        space: str,
        ids: Sequence[str] | None = None,
        *,
        scope: "SpaceScope.ValueType" = SpaceScope.SPACE_SCOPE_SPACE,
        metadata: Mapping[str, Any] | None = None,
        collection: str = "",
    ) -> int:
        """Deletes memories by id, or else those with the metadata, or else all of the space.

        Returns how many there were.
        """
        request = pb.ForgetRequest(space=space, scope=scope, ids=ids, collection=collection)
        if ids is None:
            request.filter.CopyFrom(_containing(metadata) or Filter())
        with raising_ours(self._target):
            response = await self._memories.Forget(request, timeout=self._timeout_seconds)
        return response.forgotten


def memory(
    text: str,
    *,
    memory_id: str = "",
    metadata: Mapping[str, Any] | None = None,
    importance: float = 0.0,
    time: datetime | None = None,
) -> Memory:
    """Makes a memory; without an id, the same text is the same memory.

    Args:
        text: The text.
        memory_id: Its id in its space; one that is there is replaced.
        metadata: A JSON object.
        importance: From 0 to 1.
        time: When what it tells was so, with a time zone; None for now.
    """
    made = Memory(id=memory_id, text=text, importance=importance, time=to_timestamp(time))
    json_to_struct(dict(metadata or {}), made.metadata)
    return made


def _containing(metadata: Mapping[str, Any] | None) -> Filter | None:
    if metadata is None:
        return None
    condition = Condition()
    json_to_struct({"metadata": dict(metadata)}, condition.contains)
    return Filter(must=[condition])
