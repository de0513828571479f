"""The counters of the catalogue's models: one per tokenizer, not per model."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from router_svc.requests.records import Request
from router_svc.tokens.estimate import EstimatedTokens
from router_svc.tokens.exact import ExactTokens, load_tokenizer
from router_svc.tokens.ports import TokenCounter

ESTIMATE = "estimate"

# What a chat template adds around a message, and around a numbered source.
MESSAGE_TOKENS = 4
DOCUMENT_TOKENS = 12
# The instruction in front of all sources; 65 by MiniLM's vocabulary.
SOURCES_TOKENS = 84
# What a tool adds around its JSON, by the templates that are published.
TOOL_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one request, without its pictures.

    Attributes:
        tokens: How many.
        exact: Whether the model's own tokenizer counted them. What a chat template adds
            is an estimate all the same.
    """

    tokens: int
    exact: bool


class TokenCounters:
    """Counts for any tokenizer that a catalogue names; loads each once. Thread-safe."""

    def __init__(self) -> None:
        self._estimate = EstimatedTokens()
        self._loaded: dict[str, ExactTokens] = {}
        self._lock = Lock()

    def of(self, tokenizer: str) -> TokenCounter:
        """Returns the counter of a tokenizer.

        Raises:
            ValueError: It cannot be loaded.
        """
        if tokenizer == ESTIMATE:
            return self._estimate
        counter = self._loaded.get(tokenizer)
        if counter is None:
            with self._lock:
                counter = self._loaded.get(tokenizer) or load_tokenizer(tokenizer)
                self._loaded[tokenizer] = counter
        return counter

    def estimate(self, text: str) -> int:
        """Returns the estimated number of tokens of a text."""
        return self._estimate.count(text)

    def count(self, tokenizer: str, request: Request) -> Counted:
        """Returns the number of tokens that a model with this tokenizer reads for `request`."""
        tokens = count_request(self.of(tokenizer), request)
        return Counted(tokens, exact=tokenizer != ESTIMATE)


def count_request(counter: TokenCounter, request: Request) -> int:
    """Returns the number of tokens that a model reads for the texts of `request`."""
    return _sum(counter.count, request)


def most_tokens(request: Request) -> int:
    """Returns a number of tokens that no tokenizer exceeds for the texts of `request`.

    Those in use make at most one token of each byte.
    """
    return _sum(_bytes_of, request)


def length_of(request: Request) -> int:
    """Returns the characters of `request`, as a measure of the work of counting."""
    return _sum(len, request)


def _sum(count: Callable[[str], int], request: Request) -> int:
    messages = sum(MESSAGE_TOKENS + count(each.content) for each in request.messages)
    documents = sum(
        DOCUMENT_TOKENS + count(each.title) + count(each.text) for each in request.documents
    )
    if request.documents:
        documents += SOURCES_TOKENS
    calls = sum(
        TOOL_TOKENS + count(call.name) + count(call.arguments_json)
        for each in request.messages
        for call in each.tool_calls
    )
    tools = TOOL_TOKENS * len(request.tools) + count(request.specification)
    return messages + documents + calls + tools


def _bytes_of(text: str) -> int:
    return len(text.encode("utf-8", errors="replace"))
