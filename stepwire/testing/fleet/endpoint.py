"""One simulated server: takes a request, decides what becomes of it, answers."""

import asyncio
from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any, Self

import orjson
from pydantic import ValidationError

from stepwire.testing.fleet import bodies
from stepwire.testing.fleet.account import Account, SeenRequest
from stepwire.testing.fleet.answers import count_prompt, count_text
from stepwire.testing.fleet.chat import ChatAnswer
from stepwire.testing.fleet.plan import EndpointPlan, Fault, FaultKind, ModelPlan, Turn
from stepwire.testing.fleet.refusals import Refusal, refusal_of, refuse
from stepwire.testing.fleet.wire import HttpConnection, HttpRequest, Reply

LOOPBACK = "127.0.0.1"
ADMIN = "/_fleet"
_OK = 200


class SimulatedEndpoint:
    """Listens within its `async with` block.

    Attributes:
        plan: How it behaves; may be replaced at any time.
        account: What it has seen and sold.
        port: Where it listens; 0 before it does.
    """

    def __init__(self, plan: EndpointPlan, *, seed: int = 1) -> None:
        self.plan = plan
        self.account = Account()
        self.port = 0
        self._seed = f"{seed}/{plan.name}"
        self._random = Random(self._seed)  # noqa: S311  (to be repeated, not to be secret)
        self._script: deque[Turn] = deque()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.BaseTransport] = set()
        self.then(*plan.script)

    @property
    def base_url(self) -> str:
        """Root of the API, as clients want it."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    @property
    def seen(self) -> list[SeenRequest]:
        """The requests to the API that came, the oldest first."""
        return list(self.account.seen)

    def then(self, *turns: Turn) -> None:
        """Adds to the script: what becomes of the next requests, before chance decides."""
        for turn in turns:
            self._script.extend([turn] * turn.times)

    def fail(self, kind: FaultKind | str, *, times: int = 1, **fields: Any) -> None:
        """Adds `times` equal faults to the script."""
        self.then(Turn(times=times, fault=Fault(kind=FaultKind(kind), **fields)))

    def reset(self, plan: EndpointPlan | None = None) -> None:
        """Forgets everything, and begins anew with `plan` or the same one."""
        self.plan = plan or self.plan
        self.account = Account()
        self._random = Random(self._seed)  # noqa: S311
        self._script.clear()
        self.then(*self.plan.script)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpConnection(self._handle, self._connections), LOOPBACK, self.plan.port
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self._connections):
            transport.close()
        await self._server.wait_closed()

    async def _handle(self, request: HttpRequest, reply: Reply) -> None:
        if request.path.startswith(ADMIN):
            _refuse(reply, self._administer(request, reply))
            return
        totals = self.account.totals
        totals.requests += 1
        totals.in_flight += 1
        totals.most_in_flight = max(totals.most_in_flight, totals.in_flight)
        account = self.account
        try:
            outcome = await self._answer(request, reply)
            account.outcomes[outcome] += 1
        except asyncio.CancelledError:
            totals.abandoned += 1
            account.outcomes["abandoned"] += 1
            raise
        finally:
            totals.in_flight -= 1

    async def _answer(self, request: HttpRequest, reply: Reply) -> str:
        try:
            body = orjson.loads(request.body) if request.body else None
        except orjson.JSONDecodeError:
            return _refuse(reply, refuse(400, "The body is not JSON"))
        self.account.seen.append(SeenRequest(request.path, dict(request.headers), body))
        if self.plan.keys and _key(request) not in self.plan.keys:
            return _refuse(reply, refusal_of(Fault(kind=FaultKind.UNAUTHORIZED)))
        if request.path.endswith("/models"):
            names = [model.name for model in self.plan.models]
            reply.whole(_OK, bodies.models(names, owner=self.plan.name))
            return "models"
        return await self._use_model(request.path, body, reply)

    async def _use_model(self, path: str, body: Any, reply: Reply) -> str:
        model = self._model(body)
        if isinstance(model, Refusal):
            return _refuse(reply, model)
        if path.endswith("/embeddings"):
            return await self._embed(body, model, reply)
        if path.endswith("/chat/completions"):
            return await self._chat(body, model, reply)
        return _refuse(reply, refuse(404, f"No such path: {path}"))

    def _model(self, body: Any) -> ModelPlan | Refusal:
        name = body.get("model") if isinstance(body, dict) else None
        found = next((model for model in self.plan.models if model.name == name), None)
        message = f"The model {name!r} does not exist"
        return found or refuse(404, message, code="model_not_found")

    def _turn(self) -> Turn:
        """Returns what becomes of the next request: limits, then script, then chance."""
        limited = self.account.limit(self.plan)
        if limited is not None:
            return Turn(fault=limited)
        if self._script:
            return self._script.popleft()
        chance = self._random.random()
        for each in self.plan.faults:
            if chance < each.share:
                return Turn(fault=each.fault)
            chance -= each.share
        return Turn()

    async def _chat(self, body: dict[str, Any], model: ModelPlan, reply: Reply) -> str:
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            return _refuse(reply, refuse(400, "messages must not be empty"))
        turn = self._turn()
        prompt_tokens = count_prompt(body)
        if turn.fault is None and prompt_tokens > model.context_window:
            turn = Turn(fault=Fault(kind=FaultKind.CONTEXT_TOO_LONG))
        answer = ChatAnswer(
            body,
            turn=turn,
            prompt_tokens=prompt_tokens,
            length=round(self.plan.answer_tokens.draw(self._random)),
            random=self._random,
            token_seconds=self.plan.token_seconds,
        )
        await self._wait(turn)
        if (refusal := answer.refusal) is not None:
            return _refuse(reply, refusal)
        try:
            return await answer.send(reply)
        finally:
            self.account.sold(*answer.sold)

    async def _embed(self, body: dict[str, Any], model: ModelPlan, reply: Reply) -> str:
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return _refuse(reply, refuse(400, "input must be a text or a list of texts"))
        turn = self._turn()
        await self._wait(turn)
        if turn.fault is not None and (refusal := refusal_of(turn.fault)) is not None:
            return _refuse(reply, refusal)
        tokens = sum(count_text(text) for text in texts)
        dimensions = body.get("dimensions") or model.dimensions
        reply.whole(
            _OK, bodies.embeddings(texts, model=model.name, dimensions=dimensions, tokens=tokens)
        )
        self.account.sold(tokens, 0)
        return "embeddings"

    async def _wait(self, turn: Turn) -> None:
        seconds = turn.latency_seconds
        if seconds is None:
            seconds = self.plan.latency_seconds.draw(self._random)
        if seconds > 0:
            await asyncio.sleep(seconds)

    def _administer(self, request: HttpRequest, reply: Reply) -> Refusal | None:
        """Answers a call of the fleet's own API, or returns why it is refused."""
        try:
            match (request.method, request.path.removeprefix(ADMIN).strip("/")):
                case "GET", "":
                    pass
                case "PUT", "plan":
                    self.reset(EndpointPlan.model_validate_json(request.body))
                case "POST", "script":
                    self.then(*_turns(orjson.loads(request.body)))
                case "POST", "reset":
                    self.reset()
                case _:
                    return refuse(404, f"No such path: {request.method} {request.path}")
        except (ValidationError, orjson.JSONDecodeError) as error:
            return refuse(400, str(error))
        reply.whole(_OK, orjson.dumps({"name": self.plan.name, **self.account.as_json()}))
        return None


def _turns(value: Any) -> Iterable[Turn]:
    return [Turn.model_validate(each) for each in (value if isinstance(value, list) else [value])]


def _key(request: HttpRequest) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _refuse(reply: Reply, refusal: Refusal | None) -> str:
    """Sends a refusal, if there is one, and returns how it is counted."""
    if refusal is None:
        return ""
    reply.whole(refusal.status, refusal.body, headers=refusal.headers)
    return str(refusal.status)
