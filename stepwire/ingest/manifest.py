"""What a collection holds of which files: kept beside it, so that only changes are read.

The vector service has no list of a collection's points. The manifest is therefore kept in
a collection of its own, `NAME-manifest`: a point `head`, and the files spread over a fixed
number of points by a hash of their names, since a payload is limited in size.
"""

import hashlib
import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.payload import struct_to_json
from stepwire.sdk.vector_requests import point
from stepwire.sdk.vectors import Vectors

_SHARDS: Final = 64
_HEAD: Final = "head"
# A point must have a vector; nobody searches for these.
_VECTOR: Final = struct.pack("<f", 1.0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as it was last ingested.

    Attributes:
        digest: Of its bytes.
        sections: How many sections it had.
    """

    digest: str
    sections: int


@dataclass(slots=True)
class Manifest:
    """The files of a collection.

    Attributes:
        generation: Differs whenever the collection was made anew.
        revision: Number of completed ingests.
        folders: The folder that each label stands for.
        files: The files by name.
    """

    generation: str = field(default_factory=lambda: uuid.uuid4().hex)
    revision: int = 0
    folders: dict[str, str] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    _touched: set[int] = field(default_factory=set)

    def put(self, name: str, entry: Entry) -> None:
        """Notes that a file was ingested."""
        self.files[name] = entry
        self._touched.add(_shard(name))

    def remove(self, name: str) -> None:
        """Notes that a file's passages were deleted."""
        del self.files[name]
        self._touched.add(_shard(name))

    def changes(self) -> list[Point]:
        """Returns the points to write after an ingest, the head last."""
        shards = [
            point(
                _shard_id(number),
                _VECTOR,
                {
                    "files": {
                        name: [entry.digest, entry.sections]
                        for name, entry in self.files.items()
                        if _shard(name) == number
                    }
                },
            )
            for number in sorted(self._touched)
        ]
        head = {
            "generation": self.generation,
            "revision": self.revision,
            "folders": self.folders,
        }
        return [*shards, point(_HEAD, _VECTOR, head)]


def manifest_name(collection: str) -> str:
    """Returns the name of the collection that holds the manifest of another."""
    return f"{collection}-manifest"


async def open_manifest(vectors: Vectors, collection: str) -> Manifest:
    """Reads the manifest of a collection, or begins one.

    Args:
        vectors: The vector service.
        collection: A collection that exists.

    Raises:
        StepwireError: A call was refused.
    """
    name = manifest_name(collection)
    await vectors.create(name, dimension=1)
    points = await vectors.get(name, [_HEAD, *map(_shard_id, range(_SHARDS))])
    manifest = decode(points)
    if not points:
        # Written now, so that an ingest which is broken off is taken up again by the next.
        await save_manifest(vectors, collection, manifest)
    return manifest


async def save_manifest(vectors: Vectors, collection: str, manifest: Manifest) -> None:
    """Writes what has changed in a manifest, the head last.

    Raises:
        StepwireError: A call was refused.
    """
    for changed in manifest.changes():
        await vectors.upsert(manifest_name(collection), [changed])


def decode(points: Iterable[Point]) -> Manifest:
    """Returns the manifest that points hold; a new one if there is no head."""
    manifest = Manifest()
    for stored in points:
        payload: dict[str, Any] = struct_to_json(stored.payload)
        if stored.id == _HEAD:
            manifest.generation = payload["generation"]
            manifest.revision = payload["revision"]
            manifest.folders = payload["folders"]
        else:
            manifest.files |= {
                name: Entry(digest, sections)
                for name, (digest, sections) in payload["files"].items()
            }
    return manifest


def _shard(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0] % _SHARDS


def _shard_id(number: int) -> str:
    return f"shard-{number:02}"
