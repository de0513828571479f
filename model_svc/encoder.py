"""Runs a sentence encoder on batches of token rows."""

from collections.abc import Sequence

import numpy as np

from model_svc.embedding import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING
from model_svc.sessions import Runner, Session
from model_svc.tensors import Tokens, Vectors


class SessionEncoder:
    """An `Encode` over ONNX Runtime.

    A batch that runs alone is shared by all threads, for the shortest wait. Batches that
    run side by side take one thread each: they need not wait for each other's parts, and
    the same cores do more of them.
    """

    def __init__(self, *, alone: Session, beside: Session, runner: Runner) -> None:
        """Runs batches.

        Args:
            alone: The model for a batch that begins when no other runs.
            beside: The same model for other batches.
            runner: The threads that call it.
        """
        self._alone = alone
        self._beside = beside
        self._runner = runner
        self._running = 0

    async def __call__(self, rows: Sequence[Tokens]) -> Vectors:
        """See `Encode`."""
        session = self._beside if self._running else self._alone
        self._running += 1
        try:
            return await self._runner.run(_encode, session, rows)
        finally:
            self._running -= 1


def padded(rows: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Returns rows as one [rows, longest] tensor of ids, zeros at the end, and its mask."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def _encode(session: Session, rows: Sequence[Tokens]) -> Vectors:
    ids, mask = padded(rows)
    return session.run({INPUT_IDS: ids, ATTENTION_MASK: mask}, [SENTENCE_EMBEDDING])[0]
