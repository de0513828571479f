"""What runs together: the two ways to make a batch of what waits."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from model_svc.running.line import Item, Line

# A text joins a batch only if its length is within this share of the first text's, and
# this many tokens: filling up with very different lengths costs more than a run of its own.
_LENGTH_SHARE: Final = 0.15
_LENGTH_TOKENS: Final = 3


class Budget(Protocol):
    """How much a batch may have."""

    @property
    def full(self) -> int:
        """The size, in the line's unit, from which waiting longer brings nothing."""

    def next_batch(self, line: Line) -> list[Item]:
        """Takes the items of the next batch; none if nothing waits."""

    def parts(self, sizes: Sequence[int]) -> Iterator[slice]:
        """Cuts a batch with items of these sizes, made for another device, into batches."""

    def padded(self, batch: Sequence[Item]) -> int:
        """Returns the size of a batch as it is run, padding included."""

    def waiting(self, line: Line) -> int:
        """Returns how much waits, in the unit of the limit: tokens, or calls."""

    def load(self, sizes: Sequence[int]) -> int:
        """Returns how much a call with items of these sizes adds to it."""


class TokenBudget:
    """Texts of nearly the same length, up to a number of tokens with their padding.

    Their size, and their group, is their number of tokens. The text whose turn it is may
    be longer than the budget; it then runs alone.
    """

    def __init__(self, tokens: int) -> None:
        self.full = tokens

    def next_batch(self, line: Line) -> list[Item]:
        """See `Budget`."""
        first = line.first()
        if first is None:
            return []
        batch = [first]
        longest = first.size
        reach = max(_LENGTH_TOKENS, first.size * _LENGTH_SHARE)
        near = (
            length
            for length in line.groups()
            if isinstance(length, int) and abs(length - first.size) <= reach
        )
        for length in sorted(near, key=lambda length: abs(length - first.size)):
            # A text may have no tokens, of a tokenizer that adds none of its own.
            room = self.full // max(longest, length, 1) - len(batch)
            if room > 0:
                before = len(batch)
                line.fill(batch, length, lambda _, end=before + room: len(batch) < end)  # type: ignore[misc]
                if len(batch) > before:
                    longest = max(longest, length)
        return batch

    def parts(self, sizes: Sequence[int]) -> Iterator[slice]:
        """See `Budget`; what this budget made is one part."""
        begin = longest = 0
        for index, size in enumerate(sizes):
            longest = max(longest, size)
            if index > begin and longest * (index + 1 - begin) > self.full:
                yield slice(begin, index)
                begin, longest = index, size
        yield slice(begin, len(sizes))

    def padded(self, batch: Sequence[Item]) -> int:
        """See `Budget`."""
        return len(batch) * max(item.size for item in batch)

    def waiting(self, line: Line) -> int:
        """See `Budget`."""
        return line.size

    def load(self, sizes: Sequence[int]) -> int:
        """See `Budget`."""
        return sum(sizes)


class RowBudget:
    """Requests whose other dimensions agree, up to a number of rows.

    Their size is their number of rows; their group is what must agree. 0 rows: each
    request runs by itself.
    """

    def __init__(self, rows: int) -> None:
        self.full = rows

    def next_batch(self, line: Line) -> list[Item]:
        """See `Budget`."""
        first = line.first()
        if first is None:
            return []
        batch = [first]
        if self.full > 1:
            line.fill(
                batch,
                first.group,
                lambda item: sum(other.size for other in batch) + item.size <= self.full,
            )
        return batch

    def parts(self, sizes: Sequence[int]) -> Iterator[slice]:
        """See `Budget`; what this budget made is one part."""
        begin = rows = 0
        for index, size in enumerate(sizes):
            if index > begin and rows + size > self.full:
                yield slice(begin, index)
                begin, rows = index, 0
            rows += size
        yield slice(begin, len(sizes))

    def padded(self, batch: Sequence[Item]) -> int:
        """See `Budget`; rows are not padded."""
        return sum(item.size for item in batch)

    def waiting(self, line: Line) -> int:
        """See `Budget`."""
        return len(line)

    def load(self, sizes: Sequence[int]) -> int:
        """See `Budget`."""
        return len(sizes)
