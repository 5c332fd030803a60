"""Embedders: texts to vectors of length one.

    embedder()                                  # offline, no torch: static vectors of `wordllama`
    embedder("minilm")                          # offline, no torch: all-MiniLM-L6-v2 as int8 ONNX; better on prose, 50 × slower
    embedder("sentence-transformers:NAME")      # any model or folder sentence-transformers loads
    embedder("openai:MODEL"), embedder("openai:MODEL@http://host/v1")   # any OpenAI-compatible endpoint
    embedder(function)                          # texts -> vectors, plain or async; or an object with embed_documents

Every one checks what comes back, keeps the vectors of the last texts, and can be shared between threads and event loops.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from memctx.errors import ConfigError, EmbeddingError, MemctxError

if TYPE_CHECKING:
    from memctx.stores import Vectors

KEPT = 20_000  # vectors kept by content: 20 MB at 256 numbers


@runtime_checkable
class Embedder(Protocol):
    """`name` says which model and version made a vector; only vectors of one name are ever compared."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, rows of length one. Raises `EmbeddingError`."""
        ...


class Backend(Protocol):
    """What makes vectors, unchecked. An async one has `aembed` as well, one that keeps something of the texts `clear`."""

    name: str
    dim: int | None  # None: found by embedding one text
    batch: int  # texts in one call

    def embed(self, texts: Sequence[str]) -> Any: ...


class Checked:
    """A backend whose vectors are checked, brought to length one, and kept by content."""

    def __init__(self, backend: Backend, kept: int = KEPT) -> None:
        self.backend = backend
        self.name = backend.name
        self._dim = backend.dim
        self._kept: OrderedDict[bytes, Vectors] = OrderedDict()
        self._room = kept
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<embedder {self.name}>"

    @property
    def dim(self) -> int:
        """Numbers in a vector; asks the backend once where it does not say."""
        if self._dim is None:
            self._dim = int(_rows(self._call(["a"]), 1, None, self.name).shape[1])
        return self._dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, rows of length one; a text seen before is not embedded again. Raises `EmbeddingError`."""
        keys = _keys(texts)
        found, missing = self._look(keys, texts)
        for start in range(0, len(missing), self.backend.batch):
            part = missing[start : start + self.backend.batch]
            self._take(part, self._call([text for _, text in part]), found)
        return self._stacked(keys, found)

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """As `embed`: awaits an async backend, runs another off the loop."""
        ask = getattr(self.backend, "aembed", None)
        if ask is None:
            return await asyncio.to_thread(self.embed, texts)
        keys = _keys(texts)
        found, missing = self._look(keys, texts)
        for start in range(0, len(missing), self.backend.batch):
            part = missing[start : start + self.backend.batch]
            try:
                made = await ask([text for _, text in part])
            except Exception as cause:
                raise _failed(self.name, cause) from cause
            self._take(part, made, found)
        return await asyncio.to_thread(self._stacked, keys, found)

    def clear(self) -> None:
        """Forget every vector: what a text was made into may be erased with it."""
        with self._lock:
            self._kept.clear()
        forget = getattr(self.backend, "clear", None)
        if forget is not None:
            forget()

    def _call(self, texts: list[str]) -> Any:
        try:
            return self.backend.embed(texts)
        except Exception as cause:
            raise _failed(self.name, cause) from cause

    def _look(self, keys: list[bytes], texts: Sequence[str]) -> tuple[dict[bytes, Vectors], list[tuple[bytes, str]]]:
        """The vectors that are kept, and the texts that need one, each once."""
        found: dict[bytes, Vectors] = {}
        missing: dict[bytes, str] = {}
        with self._lock:
            for key, text in zip(keys, texts, strict=True):
                vector = self._kept.get(key)
                if vector is None:
                    missing[key] = text.encode("utf-8", "replace").decode()  # a lone surrogate is no text to anybody
                else:
                    self._kept.move_to_end(key)
                    found[key] = vector
        return found, list(missing.items())

    def _take(self, part: list[tuple[bytes, str]], made: Any, found: dict[bytes, Vectors]) -> None:
        rows = _rows(made, len(part), self._dim, self.name)
        self._dim = int(rows.shape[1])
        with self._lock:
            for (key, _), row in zip(part, rows, strict=True):
                found[key] = self._kept[key] = row
            while len(self._kept) > self._room:
                self._kept.popitem(last=False)

    def _stacked(self, keys: list[bytes], found: dict[bytes, Vectors]) -> Vectors:
        import numpy as np

        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self.dim), np.float32)


def _keys(texts: Sequence[str]) -> list[bytes]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise EmbeddingError("give a list of texts, each a str", code="not_texts")
    return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]


def _rows(made: Any, count: int, dim: int | None, name: str) -> Vectors:
    """What a backend gave, as (count, dim) float32 rows of length one."""
    import numpy as np

    try:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.asarray(made, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as cause:
        raise EmbeddingError(f"{name} gave what is not an array of numbers: {cause!s:.200}", embedder=name) from cause
    width = f"{dim}" if dim else "some"
    if rows.ndim != 2 or len(rows) != count or not rows.shape[1] or (dim and rows.shape[1] != dim):
        text = (
            f"{name} gave vectors of shape {rows.shape} for {count} texts: {count} rows of {width} numbers are needed"
        )
        raise EmbeddingError(text, code="wrong_shape", embedder=name, given=list(rows.shape), count=count, dim=dim)
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if bad.size:
        text = f"{name} gave a vector that is not finite, or all zero, for text {bad[0]} of {count}"
        raise EmbeddingError(text, code="not_finite", embedder=name, row=int(bad[0]))
    ready: Vectors = (wide / lengths).astype(np.float32)
    return ready


def _failed(name: str, cause: Exception) -> MemctxError:
    """An error of a backend as one kind; its message may hold a key, so only its type and status are told."""
    if isinstance(cause, MemctxError):
        return cause
    status = getattr(cause, "status_code", None)
    told = f"{type(cause).__name__}{f', status {status}' if status else ''}"
    return EmbeddingError(f"{name} failed: {told}", code="embedder_failed", embedder=name, status=status)


def embedder(what: str | Embedder | Callable[..., Any] = "default") -> Embedder:
    """The embedder that `what` names or is; see the top of this file.

    Raises `ConfigError` for a name that is not known and `MissingDependency` for a package that is not installed.
    """
    if isinstance(what, str):
        return Checked(_named(what))
    if all(hasattr(what, field) for field in ("name", "dim", "embed")):
        return what if isinstance(what, Checked) else Checked(_Given(what))
    from memctx._embed_calls import wrapped

    return Checked(wrapped(what))


def _named(what: str) -> Backend:
    kind, _, rest = what.partition(":")
    if what in ("default", "wordllama"):
        from memctx._embed_static import Static

        return Static()
    if what == "minilm":
        from memctx._embed_onnx import MiniLM

        return MiniLM()
    if kind == "sentence-transformers" and rest:
        from memctx._embed_calls import SentenceTransformers

        return SentenceTransformers(rest)
    if kind == "openai" and rest:
        from memctx._embed_calls import OpenAI

        model, _, url = rest.partition("@")
        return OpenAI(model, url or None)
    known = "'default', 'minilm', 'sentence-transformers:NAME', 'openai:MODEL' or 'openai:MODEL@URL'"
    raise ConfigError(f"embedder {what!r:.80} is not known; use {known}, a function, or an Embedder", field="embedder")


class _Given:
    """Somebody's own embedder; its vectors are checked as every other's."""

    def __init__(self, made: Any) -> None:
        self.name: str = made.name
        self.dim: int | None = made.dim
        self.batch: int = getattr(made, "batch", 256)
        self.embed = made.embed
        if hasattr(made, "aembed"):
            self.aembed = made.aembed


async def aembed(chosen: Embedder, texts: Sequence[str]) -> Vectors:
    """`chosen.embed(texts)` off the event loop, or its own `aembed` awaited."""
    ask = getattr(chosen, "aembed", None)
    vectors: Vectors = await (ask(texts) if ask else asyncio.to_thread(chosen.embed, texts))
    return vectors
