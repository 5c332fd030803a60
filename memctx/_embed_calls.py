"""Embedders that call something else: a function, sentence-transformers, an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from memctx.errors import ConfigError, EmbeddingError, require

DIMS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
TRIES = 3  # requests for one batch
SECONDS = 60.0  # for one request


class Function:
    """A function of a list of texts. `name` and `dim` are its attributes of these names, else its own name and what it gives."""

    batch = 256

    def __init__(self, function: Callable[[list[str]], Any], name: str | None = None) -> None:
        self._function = function
        self.name: str = name or getattr(function, "name", None) or _name(function)
        self.dim: int | None = getattr(function, "dim", None)

    def embed(self, texts: Sequence[str]) -> Any:
        return self._function(list(texts))


class AsyncFunction(Function):
    """An async function of a list of texts; a sync caller has it run on a loop of a thread of its own."""

    def embed(self, texts: Sequence[str]) -> Any:
        with ThreadPoolExecutor(1, thread_name_prefix="memctx-embed") as thread:
            return thread.submit(asyncio.run, self.aembed(texts)).result()

    async def aembed(self, texts: Sequence[str]) -> Any:
        return await self._function(list(texts))


class Documents:
    """An object with `embed_documents`, as LangChain's embeddings are."""

    batch = 256
    dim: int | None = None

    def __init__(self, made: Any) -> None:
        self._made = made
        model = getattr(made, "model", None) or getattr(made, "model_name", None)
        self.name = f"{type(made).__module__}.{type(made).__qualname__}" + (
            f":{model}" if isinstance(model, str) else ""
        )

    def embed(self, texts: Sequence[str]) -> Any:
        return self._made.embed_documents(list(texts))


class AsyncDocuments(Documents):
    """As `Documents`, with `aembed_documents`."""

    async def aembed(self, texts: Sequence[str]) -> Any:
        return await self._made.aembed_documents(list(texts))


class SentenceTransformers:
    """A model or folder that sentence-transformers loads."""

    batch = 64

    def __init__(self, model: str) -> None:
        package = require("sentence_transformers", extra="sentence-transformers")
        self._model: Any = package.SentenceTransformer(model)
        self.name = f"sentence-transformers:{model}"
        self.dim: int | None = self._model.get_sentence_embedding_dimension()

    def embed(self, texts: Sequence[str]) -> Any:
        return self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)


class OpenAI:
    """Any endpoint with OpenAI's `POST /embeddings`. The key is read from OPENAI_API_KEY; a local server needs none.

    A request that fails for a reason that may pass is made `TRIES` times in all, by the client.
    """

    batch = 128

    def __init__(self, model: str, url: str | None = None, key: str | None = None) -> None:
        package = require("openai", extra="openai")
        settings: dict[str, Any] = {"base_url": url, "max_retries": TRIES - 1, "timeout": SECONDS}
        if key or url:
            settings["api_key"] = key or "none"
        try:
            self._client: Any = package.OpenAI(**settings)
        except package.OpenAIError as cause:
            text = (
                "the OpenAI embedder needs OPENAI_API_KEY in the environment, or 'openai:MODEL@URL' of a local server"
            )
            raise ConfigError(text, field="embedder") from cause
        self._package, self._settings = package, settings
        self._model = model
        self.name = f"openai:{model}" + (f"@{url}" if url else "")
        self.dim: int | None = None if url else DIMS.get(model)

    def embed(self, texts: Sequence[str]) -> Any:
        return self._vectors(self._client.embeddings.create(**self._asked(texts)), len(texts))

    async def aembed(self, texts: Sequence[str]) -> Any:
        # a client of its own: its connections belong to the running loop
        async with self._package.AsyncOpenAI(**self._settings) as client:
            return self._vectors(await client.embeddings.create(**self._asked(texts)), len(texts))

    def _asked(self, texts: Sequence[str]) -> dict[str, Any]:
        # an empty text is refused by the endpoint; a space is not
        return {"model": self._model, "input": [text or " " for text in texts], "encoding_format": "float"}

    def _vectors(self, answer: Any, count: int) -> list[list[float]]:
        data = sorted(answer.data, key=lambda each: each.index)
        if [each.index for each in data] != list(range(count)):
            text = f"{self.name} answered {len(data)} vectors for {count} texts, or numbered them wrongly"
            raise EmbeddingError(text, code="wrong_shape", embedder=self.name, count=count)
        return [each.embedding for each in data]


def wrapped(what: Any) -> Function | Documents:
    """A backend of a function, or of an object with `embed_documents`. Raises `ConfigError`."""
    if hasattr(what, "embed_documents"):
        return (AsyncDocuments if hasattr(what, "aembed_documents") else Documents)(what)
    if not callable(what):
        text = f"embedder = {what!r:.80}: give a name, a function of a list of texts, or an object with name, dim and embed"
        raise ConfigError(text, field="embedder")
    awaits = inspect.iscoroutinefunction(what) or inspect.iscoroutinefunction(getattr(what, "__call__", None))  # noqa: B004
    return AsyncFunction(what) if awaits else Function(what)


def _name(function: Any) -> str:
    made_by = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(made_by, '__module__', '')}.{made_by.__qualname__}"
