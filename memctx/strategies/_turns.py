"""Turns by number, for strategies whose directives the model writes into its own messages.

Turn n is the n-th step that the assistant spoke. Its observation is what came back: the results of its calls, or, where the
loop speaks in plain messages, the user's next ones. All this is a function of the transcript alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from memctx.edits import Insert
from memctx.messages import Message, Step, Transcript
from memctx.strategies import Context

Observations = Literal["tool", "user"]
Tag = Annotated[str, Field(min_length=1)]
Tags = tuple[Tag, Tag]  # what opens a directive, and what closes it


def awaits_reply(steps: Sequence[Step]) -> bool:
    """Whether the model speaks next: the newest step is the user's, or all its calls are answered."""
    return bool(steps) and (steps[-1].role == "user" or bool(steps[-1].results and not steps[-1].pending))


@dataclass(slots=True)
class Turns:
    """The steps in which the assistant spoke, oldest first, read as the transcript grows."""

    observations: Observations
    steps: list[int] = field(default_factory=list)  # turn n is at n - 1
    seen: int = 0

    def read(self, transcript: Transcript) -> Iterator[tuple[int, Message]]:
        """(number of its turn, message) of the assistant's messages that are new."""
        messages = transcript.messages
        for message in messages[self.seen :]:
            if message.role == "assistant":
                step = transcript.position[message.id]
                if not self.steps or self.steps[-1] != step:
                    self.steps.append(step)
                yield len(self.steps), message
        self.seen = len(messages)

    def observation(self, transcript: Transcript, number: int) -> Sequence[Message]:
        """What came back in a turn."""
        first = self.steps[number - 1]
        if self.observations == "tool":
            return transcript.steps[first].results
        after = self.steps[number] if number < len(self.steps) else len(transcript.steps)
        return [m for step in transcript.steps[first + 1 : after] if step.role == "user" for m in step.heads]

    def span(self, first: int, last: int) -> tuple[int, int, int]:
        """Of turns `first` to `last`: the first step, the one after the last, and the step in which the assistant spoke next."""
        start, after = self.steps[first - 1], self.steps[last]
        return start, self.steps[last - 1] + 1 if self.observations == "tool" else after, after

    def label(self, ctx: Context) -> list[Insert]:
        """The number of the newest turn, to stand after its observation."""
        return self.told(ctx, f"[turn {len(self.steps)}]")

    def told(self, ctx: Context, text: str) -> list[Insert]:
        """`text` after the newest turn's observation; nothing where it stands there, or while nothing came back."""
        steps = ctx.transcript.steps
        whole = bool(self.steps) and not steps[self.steps[-1]].pending and awaits_reply(steps)
        if not whole or not self.observation(ctx.transcript, len(self.steps)):
            return []
        insert = Insert(steps[-1].messages[-1].id, text)
        return [] if insert in ctx.plan.edits else [insert]
