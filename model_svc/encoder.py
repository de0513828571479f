"""Runs a sentence encoder on batches of token rows."""

from collections.abc import Sequence

import numpy as np

from model_svc.embedding import ATTENTION_MASK, INPUT_IDS, SENTENCE_EMBEDDING
from model_svc.sessions import Runner, Session
from model_svc.tensors import Tokens, Vectors


class SessionEncoder:
    """An `Encode` over a session of ONNX Runtime, in a thread."""

    def __init__(self, session: Session, runner: Runner) -> None:
        self._session = session
        self._runner = runner

    async def __call__(self, rows: Sequence[Tokens]) -> Vectors:
        """See `Encode`."""
        return await self._runner.run(self._encode, rows)

    def _encode(self, rows: Sequence[Tokens]) -> Vectors:
        ids, mask = padded(rows)
        return self._session.run({INPUT_IDS: ids, ATTENTION_MASK: mask}, [SENTENCE_EMBEDDING])[0]


def padded(rows: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Returns rows as one [rows, longest] tensor of ids, zeros at the end, and its mask."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)
