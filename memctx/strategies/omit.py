"""Leave out what the model says it no longer needs: it names earlier turns in its own message, and their results go.

Follows Agent-Omit (arXiv 2602.04284): results are numbered by turn, and a later message may name turns to omit; a turn that
needs no thought may skip it. Other than there, what is omitted has a handle and comes back, and the context that a policy
is trained on is the view it acted on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from memctx.component import Component
from memctx.messages import Message, Transcript
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._choose import placeholder
from memctx.strategies._pending import Pending
from memctx.strategies._turns import Observations, Tags, Turns

INSTRUCTIONS = """What comes back in a turn is numbered: [turn 3] stands after that of turn 3. When you no longer need what \
came back in earlier turns, name them in your message, such as {open}3, 5-7{close}: it leaves your context, and a mark that \
can be reopened stays. A turn that needs no thought may leave it empty: <think></think>."""
RISK = 0.05  # the model that asked to omit a result needs it after all

_NUMBERS = re.compile(r"\s*\d{1,6}\s*(-\s*\d{1,6}\s*)?(,\s*\d{1,6}\s*(-\s*\d{1,6}\s*)?)*")
_RANGE = re.compile(r"(\d+)\s*(?:-\s*(\d+))?")
_SKIPPED = re.compile(r"<(think|thinking)>\s*</\1>")


class Omit(Component):
    """What came back in the turns that a later message names between `tags` becomes a placeholder with a handle.

    Turns count from 1 as the assistant speaks, and with `number` the view says the number after each. `observations`: what
    comes back are tool results, or "user" messages where the loop speaks in plain ones. Tags that hold anything but numbers,
    and turns that are not earlier, are ignored; so are pins, and results that came after they were named. The prompt must
    tell the model: `instructions` does.
    """

    every_call: ClassVar[bool] = True

    tags: Tags = ("<omit>", "</omit>")
    number: bool = True
    observations: Observations = "tool"
    placeholder: str = "Omitted as asked."

    @property
    def instructions(self) -> str:
        """What the model must know, for the system prompt."""
        return INSTRUCTIONS.format(open=self.tags[0], close=self.tags[1])

    def propose(self, ctx: Context) -> Proposal:
        """Clears of what was named, in the order named, and the number of the newest turn."""
        yield from nothing()
        pending = Pending.of(ctx)
        named: Named = ctx.memo.setdefault("named", Named(self.tags, Turns(self.observations)))
        named.read(ctx.transcript)
        for target in named.targets:
            message = ctx.transcript.find(target) if ctx.cleared(target) is None else None
            if message and not ctx.protected(message) and _shown(ctx, message):
                placeholder(ctx, pending, message, self.placeholder, RISK)
        label = named.turns.label(ctx) if self.number else []
        return [*pending.clears.values(), *label]

    def saved(self, transcript: Transcript, text: str) -> float:
        """The share (0 to 1) of all characters that `text`, said next, leaves out: of results, and of a skipped thought.

        Agent-Omit's measure: what `memctx.train.memory_shapers.Omission` takes as a turn's `probe["saved"]`.
        """
        named = Named(self.tags, Turns(self.observations))
        named.read(transcript)
        sizes = {message.id: len(message.text) for message in transcript.messages}
        whole = sum(sizes.values())
        if not whole:
            return 0.0
        fresh = set(named.meant(transcript, len(named.turns.steps) + 1, text)) - named.targets.keys()
        skipped = whole / len(sizes) if skips_thought(text) else 0.0
        return min(1.0, (sum(map(sizes.__getitem__, fresh)) + skipped) / whole)


@dataclass(slots=True)
class Named:
    """The messages that were named to be omitted, by id: a function of the transcript, kept up as it grows."""

    tags: Tags
    turns: Turns
    targets: dict[str, None] = field(default_factory=dict)

    def read(self, transcript: Transcript) -> None:
        """Take in the assistant's new messages."""
        for number, message in self.turns.read(transcript):
            self.targets.update(dict.fromkeys(self.meant(transcript, number, message.text, message.host)))

    def meant(self, transcript: Transcript, number: int, text: str, host: float = inf) -> Iterator[str]:
        """Ids of what `text`, said in turn `number` by the thread's host message `host`, names of what had come by then."""
        for first, last in ranges(text, self.tags):
            for turn in range(max(1, first), min(last, number - 1) + 1):
                yield from (m.id for m in self.turns.observation(transcript, turn) if m.host < host)


def ranges(text: str, tags: Tags) -> Iterator[tuple[int, int]]:
    """(first, last) of the turns that a message names; what stands between two tags counts as a whole or not at all."""
    for part in re.findall(re.escape(tags[0]) + "(.*?)" + re.escape(tags[1]), text, re.DOTALL):
        if _NUMBERS.fullmatch(part):
            for a, b in _RANGE.findall(part):
                first, last = sorted((int(a), int(b or a)))
                yield first, last


def _shown(ctx: Context, message: Message) -> bool:
    return ctx.shown(ctx.transcript.position[message.id])


def skips_thought(text: str) -> bool:
    """Whether a message leaves its thought empty, however many calls it makes."""
    return _SKIPPED.search(text) is not None
