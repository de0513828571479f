"""What a cache is asked, what it keeps, and what is removed from it."""

from dataclasses import dataclass
from uuid import UUID

from router_svc.generate.records import Completion, HitKind
from router_svc.generate.usage import Usage


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks of the cache.

    Attributes:
        key: Digest of all that an answer depends on, the tenant included.
        partition: The same without the text of the last message.
        tenant_id: Whose answers may be given.
        question: The text of the last message, where one of the same meaning may stand for
            it; empty otherwise.
        max_age_seconds: Oldest answer accepted.
    """

    key: bytes
    partition: bytes
    tenant_id: str
    question: str
    max_age_seconds: float


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that may be given again.

    Attributes:
        key: As in `Ask`.
        partition: As in `Ask`.
        tenant_id: Whose it is.
        question: As in `Ask`.
        model: Name of the model that gave it.
        completion: What it answered; `completion.model` is the model's version.
        usage: What it used then.
        cost_micro_usd: What it cost then.
        decision_id: The decision that it followed.
        tags: Names by which it is removed.
        kept_at: When it was given, in seconds of the wall clock.
    """

    key: bytes
    partition: bytes
    tenant_id: str
    question: str
    model: str
    completion: Completion
    usage: Usage
    cost_micro_usd: int
    decision_id: UUID
    tags: tuple[str, ...]
    kept_at: float

    @property
    def model_version(self) -> str:
        """What the provider called itself; empty when it did not say."""
        return self.completion.model


@dataclass(frozen=True, slots=True)
class Marked:
    """A kept answer, and the mark of the last invalidation that it is known to have outlived."""

    kept: Kept
    mark: str


@dataclass(frozen=True, slots=True)
class Found:
    """A kept answer, and how it was found."""

    kept: Kept
    kind: HitKind
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a text means.

    Attributes:
        space: Which vectors it can be compared with: those of the same model.
        vector: Little-endian float32 values, of length 1.
        dimension: Their number.
    """

    space: str
    vector: bytes
    dimension: int


@dataclass(frozen=True, slots=True)
class Near:
    """A kept question near to another: the key of its answer, and their cosine."""

    key: bytes
    similarity: float


@dataclass(frozen=True, slots=True)
class Selection:
    """Which answers of a tenant go; None of each condition means any.

    Attributes:
        tenant_id: Whose.
        tag: Those kept with it.
        model: Those of the model called so.
        model_version: Those of this version.
        older_than_seconds: Those that are older.
    """

    tenant_id: str
    tag: str | None = None
    model: str | None = None
    model_version: str | None = None
    older_than_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Invalidation:
    """A selection that was removed.

    Attributes:
        number: Rises from one to the next.
        selection: What was removed.
        kept_until: Answers kept later, in seconds of the wall clock, stay; None for none.
        mark: Drawn at random, so that none of another database, or of this one before it was
            restored, has the same; empty without a database.
    """

    number: int
    selection: Selection
    kept_until: float | None
    mark: str = ""

    def removes(self, kept: Kept) -> bool:
        """Returns whether it is about `kept`."""
        wanted = self.selection
        return (
            kept.tenant_id == wanted.tenant_id
            and (wanted.tag is None or wanted.tag in kept.tags)
            and wanted.model in (None, kept.model)
            and wanted.model_version in (None, kept.model_version)
            and (self.kept_until is None or kept.kept_at <= self.kept_until)
        )


@dataclass(frozen=True, slots=True)
class ModelShare:
    """Kept answers of one version of a model."""

    model: str
    model_version: str
    answers: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What is kept for a tenant; `oldest` is in seconds of the wall clock, None for nothing."""

    shares: tuple[ModelShare, ...]
    oldest: float | None
