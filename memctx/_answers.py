"""What a memory answers when a strategy asks: the handlers that `Pipeline.session(memory=...)` puts in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memctx.effects import Advise, Embed, Forget, Graph, Recall, Remember, Stored
from memctx.errors import ConfigError
from memctx.records import Hit

if TYPE_CHECKING:
    from memctx.scoped import Scoped

RESULT = "result"  # the kind of a text that left the view; it is kept whole and is no record
Answers = Mapping[type, Callable[[Any], Any]]


def placed(memory: Scoped, thread: str) -> Scoped:
    """The memory as a thread sees it: what it writes names the thread. Raises `ConfigError` where none is named."""
    named = thread or memory.place.thread
    if not named:
        raise ConfigError(
            "a session with a memory needs a thread: its plan and spans are kept under it", field="thread"
        )
    return type(memory)(memory.memory, replace(memory.place, thread=named))


def answers(memory: Scoped) -> Answers:
    """Handlers by effect type, for callers that wait."""
    store, at = memory.memory.store, (memory.scope, memory.place.thread)

    def embed(effect: Embed) -> Any:
        return memory.memory.embedder.embed(list(effect.texts))

    def recall(effect: Recall) -> list[Hit]:
        if not effect.query.strip():
            return [Hit(found, 0.0) for found in memory.list(kinds=effect.kinds, limit=effect.k)]
        return memory.search(effect.query, **_wanted(effect))

    def remember(effect: Remember) -> list[int]:
        kept, items = _sorted(effect)
        for record in kept:
            store.put_span(*at, record["handle"], record["text"])
        return [record.id for record in memory.write_many(items)]

    def forget(effect: Forget) -> None:
        memory.retract(*effect.ids, why=effect.why)

    def stored(effect: Stored) -> Any:
        return getattr(store, effect.method)(*at, *effect.args)

    def graph(effect: Graph) -> Any:
        from memctx.graphs._saved import shared

        return shared(memory, effect.name)

    def advise(effect: Advise) -> Any:
        from memctx.experience import Library

        return Library(memory).retrieve(effect.observation, effect.task, effect.k, min_trust=effect.min_trust)

    return {
        Embed: embed, Recall: recall, Remember: remember, Forget: forget, Stored: stored, Graph: graph, Advise: advise,
    }  # fmt: skip


def async_answers(memory: Scoped) -> Answers:
    """As `answers`, awaited on the caller's loop."""
    store, at = memory.memory.store, (memory.scope, memory.place.thread)

    async def embed(effect: Embed) -> Any:
        from memctx.embed import aembed

        return await aembed(memory.memory.embedder, list(effect.texts))

    async def recall(effect: Recall) -> list[Hit]:
        if not effect.query.strip():
            return [Hit(found, 0.0) for found in await memory.alist(kinds=effect.kinds, limit=effect.k)]
        return await memory.asearch(effect.query, **_wanted(effect))

    async def remember(effect: Remember) -> list[int]:
        kept, items = _sorted(effect)
        for record in kept:
            await store.aput_span(*at, record["handle"], record["text"])
        return [record.id for record in await memory.awrite_many(items)]

    async def forget(effect: Forget) -> None:
        await memory.aretract(*effect.ids, why=effect.why)

    async def stored(effect: Stored) -> Any:
        return await getattr(store, f"a{effect.method}")(*at, *effect.args)

    async def graph(effect: Graph) -> Any:
        from memctx.graphs._saved import ashared

        return await ashared(memory, effect.name)

    async def advise(effect: Advise) -> Any:
        from memctx.experience import Library

        return await Library(memory).aretrieve(effect.observation, effect.task, effect.k, min_trust=effect.min_trust)

    return {
        Embed: embed, Recall: recall, Remember: remember, Forget: forget, Stored: stored, Graph: graph, Advise: advise,
    }  # fmt: skip


def _wanted(effect: Recall) -> dict[str, Any]:
    wanted = {"k": effect.k, "kinds": effect.kinds, "min_trust": effect.min_trust}
    return {**wanted, "within": effect.within} if effect.within else wanted


def _sorted(effect: Remember) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(texts to be kept whole, records to be written)."""
    kept = [record for record in effect.records if record.get("kind") == RESULT]
    return kept, [record for record in effect.records if record.get("kind") != RESULT]
