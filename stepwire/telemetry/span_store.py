"""Writing spans to files that are bounded in size and number."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from stepwire.telemetry.spans import Span, encode_span, span_files


class SpanStore:
    """Appends spans to the newest file; the oldest go when the total is too large."""

    def __init__(self, folder: Path, *, max_file_bytes: int, max_total_bytes: int) -> None:
        """Opens the newest file of `folder`, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._max_total_bytes = max_total_bytes
        files = span_files(folder)
        self._file = self._open(files[-1] if files else self._path(1))

    def append(self, spans: Iterable[Span]) -> None:
        """Writes spans; they can be read when the call returns."""
        data = b"".join(map(encode_span, spans))
        if self._file.tell() > 0 and self._file.tell() + len(data) > self._max_file_bytes:
            self._rotate()
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        files = span_files(self._folder)
        self._file = self._open(self._path(int(files[-1].stem.rpartition("-")[2]) + 1))
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total + self._max_file_bytes <= self._max_total_bytes:
                break
            total -= path.stat().st_size
            path.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"spans-{number:08}.jsonl"

    def _open(self, path: Path) -> BinaryIO:
        return path.open("ab")
