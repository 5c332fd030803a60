"""Other memories under the same measure, with the same embedder: mem0 (FAISS store, no model) and LangGraph's InMemoryStore."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memctx._bench.conversations import Case, Entry
from memctx.errors import require

if TYPE_CHECKING:
    from memctx.embed import Embedder


class Mem0:
    """mem0's own `Memory`: `add(infer=False)`, `search`, `delete`; one user is one scope. No model, no telemetry."""

    def __init__(self, chosen: Embedder) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="memctx-mem0-"))
        os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(self._folder)}  # read when it is imported
        package = require("mem0", extra="bench")
        place = {"path": str(self._folder / "faiss"), "embedding_model_dims": chosen.dim, "distance_strategy": "cosine"}
        nobody = {"provider": "openai", "config": {"api_key": "none"}}  # made, and never asked
        self.memory: Any = package.Memory.from_config(
            {
                "vector_store": {"provider": "faiss", "config": place},
                "embedder": nobody,
                "llm": nobody,
                "history_db_path": str(self._folder / "history.db"),
            }
        )
        self.memory.embedding_model = _Embedding(chosen)

    def add(self, user: str, text: str, key: str) -> str:
        made = self.memory.add(text, user_id=user, infer=False, metadata={"key": key})
        return str(made["results"][0]["id"])

    def fill(self, user: str, texts: Sequence[str]) -> None:
        """Many rows in one call to its vector store, as `add` would lay them down; its `add` writes the whole file each time."""
        vectors = self.memory.embedding_model.chosen.embed(texts)
        rows = [{"data": text, "user_id": user, "key": "", "hash": "", "created_at": ""} for text in texts]
        self.memory.vector_store.insert(vectors.tolist(), payloads=rows, ids=[f"{user}-{n}" for n in range(len(rows))])

    def search(self, user: str, query: str, k: int) -> list[dict[str, Any]]:
        found = self.memory.search(query, filters={"user_id": user}, top_k=k, threshold=0.0)["results"]
        return [
            {"id": hit["id"], "text": hit["memory"], "key": (hit.get("metadata") or {}).get("key")} for hit in found
        ]

    def delete(self, _: str, row: str) -> None:
        self.memory.delete(row)

    def add_many(self, user: str, texts: Sequence[str]) -> list[str]:
        told = [{"role": "user", "content": text} for text in texts]
        return [str(made["id"]) for made in self.memory.add(told, user_id=user, infer=False)["results"]]

    def delete_many(self, _: str, rows: Sequence[str]) -> None:
        for row in rows:  # it has no call for several
            self.memory.delete(row)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class _Embedding:
    """Our embedder where mem0 expects its own."""

    def __init__(self, chosen: Embedder) -> None:
        self.chosen = chosen

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        vector: list[float] = self.chosen.embed([text])[0].tolist()
        return vector

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        rows: list[list[float]] = self.chosen.embed(texts).tolist()
        return rows


class LangGraphStore:
    """LangGraph's `InMemoryStore` with a vector index; a namespace is one scope. Nothing is kept on disk."""

    def __init__(self, chosen: Embedder) -> None:
        package = require("langgraph.store.memory", extra="langgraph")
        index = {"dims": chosen.dim, "embed": lambda texts: chosen.embed(texts).tolist(), "fields": ["text"]}
        self.store: Any = package.InMemoryStore(index=index)
        self._count = 0

    def add(self, user: str, text: str, key: str) -> str:
        self._count += 1
        row = str(self._count)
        self.store.put((user,), row, {"text": text, "key": key})
        return row

    def fill(self, user: str, texts: Sequence[str]) -> None:
        package = require("langgraph.store.base", extra="langgraph")
        for start in range(0, len(texts), 1_000):
            puts = []
            for text in texts[start : start + 1_000]:
                self._count += 1
                puts.append(package.PutOp((user,), str(self._count), {"text": text, "key": ""}))
            self.store.batch(puts)

    def search(self, user: str, query: str, k: int) -> list[dict[str, Any]]:
        return [{"id": hit.key, **hit.value} for hit in self.store.search((user,), query=query, limit=k)]

    def delete(self, user: str, row: str) -> None:
        self.store.delete((user,), row)

    def add_many(self, user: str, texts: Sequence[str]) -> list[str]:
        self.fill(user, texts)
        return [str(n) for n in range(self._count - len(texts) + 1, self._count + 1)]

    def delete_many(self, user: str, rows: Sequence[str]) -> None:
        for row in rows:
            self.store.delete((user,), row)

    def close(self) -> None:
        pass


class Peer:
    """A peer as a method of the recall bench."""

    def __init__(self, case: Case, peer: Mem0 | LangGraphStore) -> None:
        self._peer = peer
        self._entries: Sequence[Entry] = case.entries
        self._written = 0

    def upto(self, seen: int) -> None:
        for entry in self._entries[self._written : seen]:
            self._peer.add("bench", entry.text, entry.key)
        self._written = max(seen, self._written)

    def ask(self, question: str, k: int) -> list[str]:
        return [hit["key"] for hit in self._peer.search("bench", question, k)]

    def close(self) -> None:
        self._peer.close()


def mem0(case: Case, chosen: Embedder) -> Peer:
    return Peer(case, Mem0(chosen))


def langgraph(case: Case, chosen: Embedder) -> Peer:
    return Peer(case, LangGraphStore(chosen))
