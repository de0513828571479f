"""Versions of workflows, as plain values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class VersionState(StrEnum):
    """Whether a version takes new tasks; see workflow_service.proto."""

    ACTIVE = "ACTIVE"
    DEPRECATED = "DEPRECATED"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What tasks get where their requests say nothing; priority 0 means nothing here too."""

    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class VersionKey:
    """Names a version. Where one is read, an empty `version` means the newest."""

    tenant_id: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What a version is to hold."""

    graph_hash: bytes
    defaults: Defaults
    description: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is recorded.

    Attributes:
        place: position among the workflow's versions, from 1, in the order in which they
            were first registered.
        used_at: when a task or a schedule named it first; since then graph and defaults
            are fixed.
    """

    key: VersionKey
    place: int
    state: VersionState
    draft: Draft
    created_at: datetime
    updated_at: datetime
    used_at: datetime | None

    def holds(self, draft: Draft) -> bool:
        """Whether it has the graph and the defaults of `draft`; descriptions may differ."""
        mine = self.draft
        return (mine.graph_hash, mine.defaults) == (draft.graph_hash, draft.defaults)


@dataclass(frozen=True, slots=True)
class Last:
    """Where a workflow's versions end; zeros for a name that has none.

    Attributes:
        place: place of the version that was registered last.
        number: highest version that is a whole number.
    """

    place: int
    number: int
