"""Recall: what memory has on the newest question stands at the tail of the view, as a marked note in the user's role.

Nothing is put into the system prompt, and no block changes once it is there, so the cached prefix stays good. A block shows
only what the view does not show already: records of earlier blocks, and text of this thread that is in sight, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from memctx.component import Component, load
from memctx.edits import Edit, Insert
from memctx.effects import Asks, Recall
from memctx.errors import ConfigError, EffectError
from memctx.messages import Step
from memctx.records import Kind, Record, trust_of
from memctx.strategies import Context, Proposal
from memctx.strategies._recalled import LABEL, OPEN, entry, fitting, numbers, own_words, render

MAX_QUERY = 4_000  # characters of a message that memory is asked with
FRAME = 16  # tokens around the notes: delimiters and the message's own


def _searcher(value: Any) -> Any:
    """A component as plain data; raises `ConfigError` where it cannot search."""
    if isinstance(value, Component):
        value = value.dump()
    if value and not callable(getattr(load("strategies", _named(value)), "find", None)):
        raise ConfigError(f"search = {value!r:.40}: it has no find(); use 'episodes'", field="search")
    return value


def _named(value: str | dict[str, Any]) -> dict[str, Any]:
    return {"use": value} if isinstance(value, str) else value


class RecallMemory(Component):
    """Notes of at most `tokens` tokens, from the `k` best records, when a new user message came.

    `every`: ask again after that many steps within a turn; 0: do not. `share`: the most of the limit that one block may take.
    `search`: a component that searches in its own way, such as "episodes". Without a memory nothing is proposed.
    """

    every_call: ClassVar[bool] = True

    tokens: int = Field(default=800, ge=32)
    k: int = Field(default=10, ge=1, le=1_000)
    kinds: tuple[Kind, ...] = ()
    min_trust: Annotated[int | str, AfterValidator(trust_of)] = 0
    every: int = Field(default=0, ge=0)
    share: float = Field(default=0.1, gt=0, le=0.5)
    search: Annotated[Any, BeforeValidator(_searcher)] = ""

    def propose(self, ctx: Context) -> Proposal:
        """One Insert after the newest step, or nothing."""
        step = ctx.transcript.steps[-1] if ctx.transcript.steps else None
        if step is None or not self._due(ctx, step):
            return []
        room = min(self.tokens, int(self.share * ctx.limit), ctx.limit - ctx.tokens) - ctx.count(LABEL) - FRAME
        query = _query(ctx, step)
        if room < FRAME or not query.strip():
            return []
        try:
            found = yield from self._find(ctx, query)
        except EffectError as cause:
            if cause.code != "no_handler":
                raise
            found = []
        ctx.memo["asked"] = step.messages[-1].id
        chosen = fitting(found, room, (ctx.count(entry(record)) for record in found))
        return list[Edit]([Insert(step.messages[-1].id, render(chosen))] if chosen else [])

    def _due(self, ctx: Context, step: Step) -> bool:
        """Whether the newest step calls for notes and has none yet."""
        last = step.messages[-1].id
        if step.pending or not step.heads or ctx.memo.get("asked") == last:
            return False
        if any(
            isinstance(edit, Insert) and edit.after == last and edit.content.startswith(OPEN) for edit in ctx.plan.edits
        ):
            return False
        if step.role == "user":
            return True
        return bool(self.every) and step.role == "assistant" and _since(ctx) >= self.every

    def _find(self, ctx: Context, query: str) -> Asks:
        """The best records that the view does not show."""
        ask = Recall(query, self.kinds, 2 * self.k, self.min_trust)
        if self.search:
            hits = yield from load("strategies", _named(self.search)).find(ctx.memo, ask)
        else:
            hits = yield ask
        shown = set(_shown(ctx))
        records: list[Record] = [hit.record for hit in hits]
        return [each for each in records if each.id not in shown and not _in_sight(ctx, each)][: self.k]


def _query(ctx: Context, step: Step) -> str:
    """The newest user message, and within a turn what the assistant said since."""
    if step.role == "user":
        return own_words(step.messages[-1].text)[:MAX_QUERY]
    asked = next((s for s in reversed(ctx.transcript.steps) if s.role == "user"), None)
    texts = [own_words(s.heads[-1].text)[: MAX_QUERY // 2] for s in (asked, step) if s is not None]
    return "\n".join(texts)


def _since(ctx: Context) -> int:
    """Steps since memory was asked last, or since the newest user message."""
    steps, asked = ctx.transcript.steps, ctx.transcript.position.get(ctx.memo.get("asked", ""))
    for back, step in enumerate(reversed(steps)):
        if step.role == "user" or len(steps) - 1 - back == asked:
            return back
    return len(steps)


def _blocks(ctx: Context) -> Iterator[Insert]:
    """The notes in sight."""
    for edit in ctx.plan.edits:
        if isinstance(edit, Insert) and edit.content.startswith(OPEN):
            step = ctx.transcript.position.get(edit.after)
            if step is not None and ctx.shown(step):
                yield edit


def _shown(ctx: Context) -> Iterator[int]:
    return (number for block in _blocks(ctx) for number in numbers(block.content))


def _in_sight(ctx: Context, record: Record) -> bool:
    """Whether the view shows, uncut, every message that the record comes from."""
    places = [ctx.transcript.position.get(source) for source in record.sources]
    if not places or any(place is None or not ctx.shown(place) for place in places):
        return False
    return all(ctx.cleared(source) is None for source in record.sources)
