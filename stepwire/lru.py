"""Values in memory, bounded by bytes; the least recently used goes first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# What an entry takes beside its value: key, dictionary slot, objects.
ENTRY_BYTES = 256


class LruCache(Generic[K, V]):
    """Values by key.

    Args:
        max_bytes: Of all values and a little for each entry.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the entries take."""
        return self._bytes

    def get(self, key: K) -> V | None:
        """Returns a value that is there; it counts as used now."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, *, size_bytes: int) -> None:
        """Keeps a value, in place of an earlier one; one that is too large is not kept.

        Args:
            key: Its key.
            value: The value.
            size_bytes: What value and key take.
        """
        self.drop(key)
        size = size_bytes + ENTRY_BYTES
        if size > self._max_bytes:
            return
        self._entries[key] = (value, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed

    def drop(self, key: K) -> None:
        """Removes a value, if it is there."""
        found = self._entries.pop(key, None)
        if found is not None:
            self._bytes -= found[1]

    def drop_if(self, condition: Callable[[V], bool]) -> int:
        """Removes the values that fulfil `condition`; returns how many there were."""
        gone = [key for key, (value, _) in self._entries.items() if condition(value)]
        for key in gone:
            self.drop(key)
        return len(gone)

    def values(self) -> list[V]:
        """Returns all values, the least recently used first; none counts as used now."""
        return [value for value, _ in self._entries.values()]
