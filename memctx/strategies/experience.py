"""Experience: what worked and failed before in situations like the present one, as a short note at the tail of the view.

Asked at every step: a tool result or a user message is a new observation. Blocks are only ever added, so the cached prefix
stays good. The host reports the outcome with `Library.finish(session, outcome, writer=...)`; the plan says what was shown.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from memctx._experience_items import Experience
from memctx._experience_near import key_of
from memctx._experience_runs import observation, task_of
from memctx._experience_text import LABEL, note, notes, shown
from memctx.component import Component
from memctx.edits import Edit, Insert
from memctx.effects import Advise
from memctx.errors import EffectError
from memctx.messages import Step
from memctx.records import trust_of
from memctx.strategies import Context, Proposal

FRAME = 16  # tokens around the notes: delimiters and the message's own


class ExperienceNotes(Component):
    """Notes of at most `tokens` tokens, from the `k` best experiences, once a step; those in sight are not repeated.

    `share`: the most of the limit that one block may take. Without a memory nothing is proposed.
    """

    every_call: ClassVar[bool] = True

    tokens: int = Field(default=200, ge=64)
    k: int = Field(default=3, ge=1, le=100)
    min_trust: Annotated[int | str, AfterValidator(trust_of)] = 0
    share: float = Field(default=0.1, gt=0, le=0.5)

    def propose(self, ctx: Context) -> Proposal:
        """One Insert after the newest step, or nothing."""
        step = ctx.transcript.steps[-1] if ctx.transcript.steps else None
        room = min(self.tokens, int(self.share * ctx.limit), ctx.limit - ctx.tokens) - ctx.count(LABEL) - FRAME
        if step is None or room < FRAME or not _due(ctx, step):
            return []
        ctx.memo["asked"] = step.messages[-1].id
        seen = observation(ctx.transcript.steps)
        if not seen.strip() or ctx.memo.get("seen") == key_of(seen):
            return []
        ctx.memo["seen"] = key_of(seen)
        try:
            found = yield Advise(seen, task_of(ctx.transcript.steps), self.k, self.min_trust)
        except EffectError as cause:
            if cause.code != "no_handler":
                raise
            found = []
        known = {each for edit, ids in shown(ctx.plan) if _in_sight(ctx, edit) for each in ids}
        chosen = _fitting(ctx, [each.experience for each in found if each.experience.id not in known], room)
        return list[Edit]([Insert(step.messages[-1].id, notes(chosen))] if chosen else [])


def _due(ctx: Context, step: Step) -> bool:
    """Whether the newest step is something the agent has yet to act on, and has no notes."""
    last = step.messages[-1].id
    observed = step.role == "user" or (bool(step.results) and not step.pending)
    return observed and ctx.memo.get("asked") != last and all(edit.after != last for edit, _ in shown(ctx.plan))


def _in_sight(ctx: Context, edit: Insert) -> bool:
    place = ctx.transcript.position.get(edit.after)
    return place is not None and ctx.shown(place)


def _fitting(ctx: Context, items: list[Experience], room: int) -> list[Experience]:
    """Those from the first on whose notes fit."""
    kept: list[Experience] = []
    for item in items:
        size = ctx.count(f"{note(item)}\n")
        if size <= room:
            room -= size
            kept.append(item)
    return kept
