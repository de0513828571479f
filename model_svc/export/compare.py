"""What a variant loses: cosines of its vectors to those of float32."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from model_svc.export.tensor_names import ATTENTION_MASK, INPUT_IDS, OUTPUT
from model_svc.export.variants import Accuracy
from model_svc.rows import padded
from model_svc.sessions.devices import Device
from model_svc.sessions.session import Session
from model_svc.tensors import Tokens, Vectors
from model_svc.tokenize import TextTokenizer

# Of many lengths and kinds, since both matter: words, questions, prose, code, numbers,
# other scripts.
_TEXTS: Final = (
    "invoice",
    "Which port does the gateway listen on?",
    "A task survives the death of its worker.",
    "The recipe needs two eggs, a little butter and 250 g of flour.",
    "for item in items: total += item.price * item.count",
    "Zürich, naïve café: Straßenbahn und Größenwahn.",
    "東京は日本の首都です。",
    "Error 503 at 2026-11-21T14:03:55Z, request 7f3a-99c1, retry after 30 s",
    (
        "The court held that the clause was void, since neither party had signed the amendment "
        "before the delivery of the goods, and awarded costs to the plaintiff."
    ),
    (
        "Glaciers move slowly under their own weight. Where they end in the sea, blocks of ice "
        "break off and drift away as icebergs. In warm years more is lost at the end than falls "
        "as snow at the beginning, so that the glacier becomes shorter. "
    )
    * 3,
    "a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9 " * 4,
)


def compare(exact: Path, other: Path, *, tokenizer: Path, max_tokens: int) -> Accuracy:
    """Runs two models on the same texts, one by one and all together."""
    rows = TextTokenizer(tokenizer, max_tokens).encode(_TEXTS).rows
    cosines = [
        cosine
        for batch in ([rows], [[row] for row in rows])
        for cosine in _cosines(_vectors(exact, batch), _vectors(other, batch))
    ]
    return Accuracy(len(rows), round(float(np.mean(cosines)), 4), round(min(cosines), 4))


def _vectors(path: Path, batches: Sequence[Sequence[Tokens]]) -> Vectors:
    session = Session(path, device=Device.CPU, threads=1)
    found = []
    for rows in batches:
        ids, mask = padded(rows)
        found.extend(session.run({INPUT_IDS: ids, ATTENTION_MASK: mask}, [OUTPUT]))
    return np.concatenate(found)


def _cosines(left: Vectors, right: Vectors) -> list[float]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return [float(value) for value in (left * right).sum(axis=1) / lengths]
