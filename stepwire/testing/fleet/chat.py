"""Sends one chat completion, whole or streamed, with the fault that its turn has."""

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any

from stepwire.testing.fleet import bodies
from stepwire.testing.fleet.answers import Said, say
from stepwire.testing.fleet.latency import Constant, Distribution
from stepwire.testing.fleet.plan import FaultKind, Turn
from stepwire.testing.fleet.refusals import Refusal, refusal_of
from stepwire.testing.fleet.wire import Reply

_OK = 200
_JSON = "application/json"
_EVENTS = "text/event-stream"


class ChatAnswer:
    """The answer to one request.

    Args:
        body: The request's body.
        turn: What becomes of it.
        prompt_tokens: Tokens of the request.
        length: Tokens that the answer has when nothing else decides.
        random: Where chance comes from.
        token_seconds: Time of each token after the first.
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        *,
        turn: Turn,
        prompt_tokens: int,
        length: int,
        random: Random,
        token_seconds: Distribution,
    ) -> None:
        self._body = body
        self._turn = turn
        self._fault = turn.fault
        self._kind = None if turn.fault is None else turn.fault.kind
        self._prompt_tokens = prompt_tokens
        self._said = say(body, turn, length=length, random=random)
        self._random = random
        self._token_seconds = token_seconds
        self._identity = f"chatcmpl-{random.getrandbits(48):012x}"
        self._sent_tokens = 0
        self._begun = False

    @property
    def refusal(self) -> Refusal | None:
        """The error that is sent in place of an answer; None when there is one."""
        if self._fault is None:
            return None
        if self._kind is FaultKind.CONTENT_FILTERED and self._fault.after_tokens is not None:
            return None
        return refusal_of(self._fault)

    @property
    def sold(self) -> tuple[int, int]:
        """Tokens read and written so far: none of a request that was never answered."""
        return (self._prompt_tokens, self._sent_tokens) if self._begun else (0, 0)

    async def send(self, reply: Reply) -> str:
        """Sends it, and returns how it is counted."""
        match self._kind:
            case FaultKind.DISCONNECT:
                reply.abort()
                return "disconnect"
            case FaultKind.EMPTY:
                self._said = Said(())
            case FaultKind.CONTENT_FILTERED:
                assert self._fault is not None
                self._said = Said(self._said.tokens[: self._fault.after_tokens])
        if self._body.get("stream"):
            return await self._stream(reply)
        return await self._whole(reply)

    async def _whole(self, reply: Reply) -> str:
        if self._kind is FaultKind.HANG:
            await asyncio.Event().wait()
        if self._kind is FaultKind.GARBAGE:
            reply.whole(_OK, bodies.GARBAGE, content_type="text/html")
            return "garbage"
        await self._pause(self._said.count - 1)
        self._begun, self._sent_tokens = True, self._said.count
        body = bodies.completion(
            identity=self._identity,
            model=str(self._body["model"]),
            said=self._said,
            finish=self._finish,
            usage=self._usage if self._turn.usage else None,
        )
        if self._kind is FaultKind.CUT:
            reply.start(_OK, _JSON, length=len(body))
            reply.piece(body[: len(body) // 2])
            reply.abort()
            return "cut"
        reply.whole(_OK, body)
        return "answered"

    async def _stream(self, reply: Reply) -> str:
        chunks = bodies.Chunks(identity=self._identity, model=str(self._body["model"]))
        reply.start(_OK, _EVENTS)
        self._begun = True
        broken = self._kind in (FaultKind.CUT, FaultKind.HANG, FaultKind.GARBAGE)
        stop = (self._fault.after_tokens or 0) if broken and self._fault is not None else None
        waits = self._token_seconds != Constant()
        pieces: list[bytes] = []
        for index, piece in enumerate(chunks.of(self._said)):
            if stop is not None and index >= stop:
                break
            if waits and index:
                await self._pause(1)
            self._sent_tokens += 1
            # Without pauses all goes out in one write, as fast servers batch.
            if waits:
                reply.piece(piece)
            else:
                pieces.append(piece)
        if stop is not None:
            return await self._break(reply, b"".join(pieces))
        self._sent_tokens = self._said.count
        pieces.append(chunks.finish(self._finish))
        options = self._body.get("stream_options") or {}
        if options.get("include_usage") and self._turn.usage:
            pieces.append(chunks.usage(self._usage))
        reply.piece(b"".join(pieces) + bodies.DONE)
        reply.end()
        return "streamed"

    async def _break(self, reply: Reply, sent: bytes) -> str:
        if self._kind is FaultKind.GARBAGE:
            reply.piece(sent + bodies.GARBAGE_EVENT + bodies.DONE)
            reply.end()
            return "garbage"
        if sent:
            reply.piece(sent)
        if self._kind is FaultKind.HANG:
            await asyncio.Event().wait()
        reply.abort()
        return "cut"

    @property
    def _finish(self) -> str:
        if self._kind is FaultKind.CONTENT_FILTERED:
            return "content_filter"
        if self._said.calls:
            return "tool_calls"
        return "length" if self._said.cut else "stop"

    @property
    def _usage(self) -> dict[str, Any]:
        return bodies.usage_of(self._prompt_tokens, self._said.count)

    async def _pause(self, tokens: int) -> None:
        seconds = sum(self._token_seconds.draw(self._random) for _ in range(tokens))
        if seconds > 0:
            await asyncio.sleep(seconds)
