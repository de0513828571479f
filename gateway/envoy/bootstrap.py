"""The bootstrap: everything that one Envoy process is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from gateway.envoy.cluster import Cluster
from gateway.envoy.core import Address, TypedConfig
from gateway.envoy.listener import Listener
from gateway.envoy.message import Message
from gateway.envoy.observe import ApplicationLogConfig


@dataclass(frozen=True, kw_only=True)
class Node(Message):
    """config.core.v3.Node."""

    id: str
    cluster: str


@dataclass(frozen=True, kw_only=True)
class Admin(Message):
    """config.bootstrap.v3.Admin."""

    address: Address


@dataclass(frozen=True, kw_only=True)
class RuntimeLayer(Message):
    """config.bootstrap.v3.RuntimeLayer, of its kinds the static one."""

    name: str
    static_layer: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LayeredRuntime(Message):
    """config.bootstrap.v3.LayeredRuntime."""

    layers: tuple[RuntimeLayer, ...]


@dataclass(frozen=True, kw_only=True)
class FixedHeap(Message):
    """extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig."""

    TYPE: ClassVar[str] = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"

    max_heap_size_bytes: int


@dataclass(frozen=True, kw_only=True)
class DownstreamConnections(Message):
    """extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig."""

    TYPE: ClassVar[str] = (
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    )

    max_active_downstream_connections: int


@dataclass(frozen=True, kw_only=True)
class ThresholdTrigger(Message):
    """config.overload.v3.ThresholdTrigger; a share of the limit, from 0 to 1."""

    value: float


@dataclass(frozen=True, kw_only=True)
class Trigger(Message):
    """config.overload.v3.Trigger."""

    name: str
    threshold: ThresholdTrigger


@dataclass(frozen=True, kw_only=True)
class OverloadAction(Message):
    """config.overload.v3.OverloadAction."""

    name: str
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True, kw_only=True)
class OverloadManager(Message):
    """config.overload.v3.OverloadManager."""

    refresh_interval: timedelta
    resource_monitors: tuple[TypedConfig, ...]
    actions: tuple[OverloadAction, ...]


@dataclass(frozen=True, kw_only=True)
class StaticResources(Message):
    """config.bootstrap.v3.Bootstrap.StaticResources."""

    listeners: tuple[Listener, ...]
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Message):
    """config.bootstrap.v3.Bootstrap."""

    node: Node
    admin: Admin
    application_log_config: ApplicationLogConfig
    layered_runtime: LayeredRuntime
    overload_manager: OverloadManager
    static_resources: StaticResources
