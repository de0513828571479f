"""What is answered on each path."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from router_svc.catalogue.holder import CatalogueHolder
from router_svc.generate.ports import Answering
from router_svc.generate.records import Piece
from router_svc.openai_api import embeddings, models
from router_svc.openai_api.chat_answer import Chunks, completion, headers_of
from router_svc.openai_api.chat_request import Chat, read_chat
from router_svc.openai_api.embeddings import Embedder
from router_svc.openai_api.faults import renamed
from router_svc.openai_api.models import Served
from stepwire.call import current_call
from stepwire.errors import StepwireError
from stepwire.http import Answer, Asked, Route, Stream


class Handlers:
    """The paths.

    Args:
        router: Generates.
        holder: The catalogue.
        embedder: Embeds.
    """

    def __init__(self, router: Answering, holder: CatalogueHolder, embedder: Embedder) -> None:
        self._router = router
        self._holder = holder
        self._embedder = embedder

    def routes(self) -> Sequence[Route]:
        """Returns the paths, each with what answers on it."""
        return (
            Route("POST", models.CHAT_PATH, "openai/CreateChatCompletion", self.chat),
            Route("POST", models.EMBEDDINGS_PATH, "openai/CreateEmbedding", self.embed),
            Route("GET", "/v1/models", "openai/ListModels", self.list_models),
            Route("GET", "/v1/models/", "openai/RetrieveModel", self.get_model),
        )

    async def chat(self, asked: Asked) -> Answer | Stream:
        """Answers a chat completion, whole or as a stream."""
        chat = read_chat(asked.body, asked.headers)
        if chat.stream:
            return Stream(self._events(chat))
        answer = await self._router.generate(chat.request, deadline=current_call().deadline)
        return Answer(completion(answer, chat), headers=headers_of(answer))

    async def embed(self, asked: Asked) -> Answer:
        """Answers with vectors."""
        wanted = embeddings.read_wanted(asked.body)
        try:
            embedded = await self._embedder.embed(wanted)
        except StepwireError as error:
            raise renamed(error) from error
        return Answer(embeddings.written(embedded, wanted))

    async def list_models(self, asked: Asked) -> Answer:
        """Lists what requests may name as their model."""
        del asked
        return Answer(models.listed(await self._served()))

    async def get_model(self, asked: Asked) -> Answer:
        """Answers with one model of that list."""
        return Answer(models.one(await self._served(), asked.rest))

    async def _served(self) -> Served:
        catalogue = self._holder.catalogue
        try:
            return Served(catalogue, await self._embedder.models())
        except StepwireError as error:
            return Served(catalogue, missing=error)

    async def _events(self, chat: Chat) -> AsyncGenerator[bytes]:
        chunks = Chunks(chat)
        async with aclosing(self._pieces(chat)) as pieces:
            async for piece in pieces:
                for event in chunks.of(piece):
                    yield event

    def _pieces(self, chat: Chat) -> AsyncGenerator[Piece]:
        return self._router.stream(chat.request, deadline=current_call().deadline)
