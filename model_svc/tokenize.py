"""Texts to token ids, cut to the model's input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from model_svc.ports import TokenizedText
from model_svc.tensors import Tokens

# A text is first cut to this many characters per token of the model's input; most texts
# have 4 to 5. If that much did not fill the input, the whole text is read.
_PREFIX_CHARACTERS_PER_TOKEN: Final = 16


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """The token ids of some texts.

    Attributes:
        rows: One row per text, special tokens included.
        truncated: The places of the texts that were cut.
    """

    rows: list[Tokens]
    truncated: list[int]

    @property
    def tokens(self) -> int:
        """Tokens in all rows together."""
        return sum(len(row) for row in self.rows)


class TextTokenizer:
    """The tokenizer of one model. Thread-safe; it runs without the interpreter's lock."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        """Loads a tokenizer.

        Args:
            path: A `tokenizer.json` of Hugging Face's tokenizers. Its own truncation and
                padding are not used.
            max_tokens: Longest row, special tokens included.

        Raises:
            ValueError: The file is no tokenizer, or puts so many tokens around a text that
                none of its own would fit.
        """
        try:
            # Not by `from_file`: that stops the whole process for as long as the disk takes.
            text = path.read_text(encoding="utf-8")
            self._whole = Tokenizer.from_str(text)
            self._cutting = Tokenizer.from_str(text)
        except Exception as error:
            # tokenizers raises bare exceptions
            raise ValueError(f"{path}: {error}") from error
        special = self._whole.num_special_tokens_to_add(is_pair=False)
        if special >= max_tokens:
            # It would not cut at all.
            raise ValueError(
                f"{path}: {max_tokens} tokens have no room for a text and the {special} around it"
            )
        for tokenizer in (self._whole, self._cutting):
            tokenizer.no_padding()
        self._whole.no_truncation()
        self._cutting.enable_truncation(max_tokens)
        self.max_tokens = max_tokens
        self._prefix = max_tokens * _PREFIX_CHARACTERS_PER_TOKEN

    def encode(self, texts: Sequence[str]) -> TokenizedTexts:
        """Turns texts into rows; about 30 microseconds for a sentence.

        A text with more tokens than fit keeps its beginning and its closing special
        token.
        """
        encodings = self._cutting.encode_batch_fast([self._shortened(text) for text in texts])
        rows, truncated = [], []
        for index, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            filled = len(encoding) == self.max_tokens
            cut = filled and bool(encoding.overflowing)
            if not cut and len(text) > self._prefix:
                # Its beginning fits, being white space for the most part, or odd.
                encoding = self._cutting.encode_batch_fast([text])[0]  # noqa: PLW2901
                cut = bool(encoding.overflowing)
            if cut:
                truncated.append(index)
            rows.append(np.array(encoding.ids, dtype=np.int64))
        return TokenizedTexts(rows, truncated)

    def tokenize(self, texts: Sequence[str], *, special: bool) -> list[TokenizedText]:
        """Returns all tokens of the texts, with what they stand for; nothing is cut."""
        encodings = self._whole.encode_batch(list(texts), add_special_tokens=special)
        return [
            TokenizedText(encoding.ids, encoding.tokens, encoding.offsets) for encoding in encodings
        ]

    def _shortened(self, text: str) -> str:
        if len(text) <= self._prefix:
            return text
        # Between two words: no token reaches across white space, so that the tokens of
        # the beginning are the beginning of the tokens.
        for end in range(self._prefix, 0, -1):
            if text[end].isspace():
                return text[:end]
        return text
