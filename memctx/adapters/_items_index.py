"""What a host's items are found by: which texts of an item, and which embedder makes vectors of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import IndexConfig, ensure_embeddings, get_text_at_path, tokenize_path

from memctx.errors import ConfigError, EmbeddingError, FilterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memctx.embed import Embedder

LONGEST_NAME = 120  # characters of an embedder's name in the store
Path = tuple[str, list[str]]


@dataclass(frozen=True, slots=True)
class Index:
    """An index configuration that was read: `paths` as (name, steps)."""

    maker: Embeddings | Embedder
    name: str
    dim: int
    paths: tuple[Path, ...]

    def texts(self, value: Mapping[str, Any], index: Any) -> list[tuple[str, str]]:
        """(path, text) of all that is searched for in an item. `index` as in `BaseStore.put`."""
        if index is False:
            return []
        paths = self.paths if index is None else _paths(index, "index")
        found = []
        for name, steps in paths:
            texts = get_text_at_path(value, steps or "$")
            found += [(name if len(texts) == 1 else f"{name}.{i}", text) for i, text in enumerate(texts)]
        return [(name, text) for name, text in found if text.strip()]

    def vectors(self, texts: list[str], queries: list[str]) -> tuple[list[bytes], list[NDArray[np.float32]]]:
        """Vectors of texts, as the store keeps them, and of queries."""
        if not isinstance(self.maker, Embeddings):
            both: Any = self.maker.embed([*texts, *queries]) if texts or queries else []
            return self._made(both[: len(texts)], both[len(texts) :], texts, queries)
        documents = self.maker.embed_documents(texts) if texts else []
        return self._made(documents, [self.maker.embed_query(query) for query in queries], texts, queries)

    async def avectors(self, texts: list[str], queries: list[str]) -> tuple[list[bytes], list[NDArray[np.float32]]]:
        """As `vectors`."""
        if not isinstance(self.maker, Embeddings):
            from memctx.embed import aembed

            both: Any = await aembed(self.maker, [*texts, *queries]) if texts or queries else []
            return self._made(both[: len(texts)], both[len(texts) :], texts, queries)
        documents = await self.maker.aembed_documents(texts) if texts else []
        return self._made(documents, [await self.maker.aembed_query(query) for query in queries], texts, queries)

    def _made(
        self, documents: Any, asked: Any, texts: list[str], queries: list[str]
    ) -> tuple[list[bytes], list[NDArray[np.float32]]]:
        kept, wanted = self._checked(documents, len(texts)), self._checked(asked, len(queries))
        return [row.astype("<f4").tobytes() for row in kept], list(wanted)

    def _checked(self, made: Any, count: int) -> NDArray[np.float32]:
        """Rows of length one. Raises `EmbeddingError`."""
        import numpy as np

        if not count:
            return np.empty((0, self.dim), np.float32)
        try:
            rows = np.asarray(made, dtype=np.float32)
        except (TypeError, ValueError):
            rows = np.empty(0, np.float32)
        if rows.shape != (count, self.dim) or not np.isfinite(rows).all():
            text = (
                f"{self.name} made {rows.shape} for {count} texts: {count} rows of {self.dim} finite numbers are needed"
            )
            raise EmbeddingError(text, embedder=self.name, expected=self.dim)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def index_of(config: IndexConfig | None, default: Embedder | None) -> Index | None:
    """Read LangGraph's index configuration; without `embed` items are found by `default`, or by memctx's own embedder.

    `embed` may also be what `memctx.embed.embedder` takes. Raises `ConfigError`.
    """
    if not config:
        return None
    maker = _maker(config.get("embed"), default)
    dim = config.get("dims") or getattr(maker, "dim", None)
    if not isinstance(dim, int) or dim < 1:
        raise ConfigError("index: give `dims`, how many numbers a vector of `embed` has", field="dims")
    if not isinstance(maker, Embeddings) and dim != maker.dim:
        raise ConfigError(f"index: dims = {dim}, and {maker.name} makes {maker.dim}", field="dims", given=dim)
    return Index(maker, _name(maker), dim, _paths(config.get("fields") or ["$"], "fields"))


def _maker(embed: Any, default: Embedder | None) -> Embeddings | Embedder:
    ours = embed is None or (isinstance(embed, str) and ":" not in embed) or hasattr(embed, "dim")
    if not ours:
        return ensure_embeddings(embed)
    if embed is None and default is not None:
        return default
    from memctx.embed import embedder

    return embedder(embed or "default")


def _name(maker: Embeddings | Embedder) -> str:
    """Vectors are compared only with those of the same name."""
    if not isinstance(maker, Embeddings):
        name = maker.name
    else:
        made_by = getattr(maker, "func", None) or getattr(maker, "afunc", None) or type(maker)
        model = getattr(maker, "model", None) or getattr(maker, "model_name", None)
        place = f"{getattr(made_by, '__module__', '')}.{getattr(made_by, '__qualname__', type(made_by).__qualname__)}"
        name = f"{place}:{model}" if isinstance(model, str) else place
    return name if len(name) <= LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()


def _paths(given: Any, field: str) -> tuple[Path, ...]:
    paths = [given] if isinstance(given, str) else given
    if not isinstance(paths, Sequence) or not all(isinstance(path, str) for path in paths):
        raise FilterError(f"{field} = {given!r:.40}: give paths such as ['text', 'notes[*].title']", field=field)
    return tuple((path, [] if path == "$" else tokenize_path(path)) for path in paths)
