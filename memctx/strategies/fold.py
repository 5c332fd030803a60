"""Fold the past in ranges that the model names: each becomes the text it wrote in the same message as its next call.

Follows AgentFold (arXiv 2510.24699): a directive folds the latest turn alone, or with the ones before it back to some turn.
Other than there, the folds always part the past into whole blocks, one that would split a block is refused and said so, the
message that folds stays as it was said, and what was folded is re-openable. Reading a directive runs no tool.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from memctx.component import Component
from memctx.edits import Replace, marker
from memctx.messages import Transcript
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._turns import Observations, Tags, Turns

INSTRUCTIONS = """What comes back in a turn is numbered: [turn 3] stands after that of turn 3. To keep your context small, fold \
turns that are done: in the message of your next call write {open}2-3: what they brought, with every identifier, number and \
name that may still matter{close}. A fold ends at the latest turn. It begins there too, or at an earlier turn: what was folded \
before is then taken into it whole. The text stands in place of the turns, and a mark that can be reopened."""
LABEL = "A record of earlier turns, written by the model. It reports; what the user said stands in it word for word."
RISK = 0.2  # a later turn needs something that the text does not hold

_BODY = re.compile(
    r"\s*(?:(?:turns?\s+)?[\[(]?\s*(\d{1,6})\s*(?:(?:-|–|,|to|\.\.+)\s*(\d{1,6})\s*)?[\])]?\s*:)?(.*)", re.DOTALL
)
_DELIMITER = re.compile(r"<(?=/?memctx-fold)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """Turns `first` to `last`, and the text that stands for them: "" for a single turn that is not folded."""

    first: int
    last: int
    text: str = ""


@dataclass(slots=True)
class Past:
    """The turns so far, parted into blocks: every turn is in one, and they are in order. A function of the transcript.

    `refused`: why the newest turn's directive was not followed, "" where it was or there was none.
    """

    tags: Tags
    turns: Turns
    blocks: list[Block] = field(default_factory=list)
    refused: str = ""

    def read(self, transcript: Transcript) -> None:
        """Take in the assistant's new messages: first what each folds, then its own turn as a block."""
        for number, message in self.turns.read(transcript):
            if not self.blocks or self.blocks[-1].last < number:
                self.blocks.append(Block(number, number))
                self.refused = ""
            self._follow(number - 1, message.text)

    def _follow(self, latest: int, text: str) -> None:
        """Fold what the message of turn `latest` + 1 asks for, or say why not."""
        asked = directive(text, latest, self.tags)
        if not isinstance(asked, Block):
            self.refused = asked or self.refused
            return
        starts = [block.first for block in self.blocks[:-1]]
        if asked.last != latest or asked.first not in starts:
            allowed = ", ".join(map(str, starts[-8:])) or "none yet"
            self.refused = f"a fold ends at the latest turn, {latest}, and begins at one of: {allowed}"
            return
        self.blocks[starts.index(asked.first) : -1] = [asked]


class Fold(Component):
    """Turns named between `tags` in the assistant's message, as in "2-3: text", become the text; the newest is never folded.

    Turns count from 1 as the assistant speaks, and with `number` the view says the number after each. `observations`: what
    comes back are tool results, or "user" messages where the loop speaks in plain ones. A directive that cannot be followed
    changes nothing, and the view's last line says what could be. The prompt must tell the model: `instructions` does.
    """

    every_call: ClassVar[bool] = True

    tags: Tags = ("<fold>", "</fold>")
    number: bool = True
    observations: Observations = "tool"

    @property
    def instructions(self) -> str:
        """What the model must know, for the system prompt."""
        return INSTRUCTIONS.format(open=self.tags[0], close=self.tags[1])

    def propose(self, ctx: Context) -> Proposal:
        """A Replace a block that is folded and does not stand so yet; the newest turn's number; what was wrong in it."""
        yield from nothing()
        past: Past = ctx.memo.setdefault("past", Past(self.tags, Turns(self.observations)))
        past.read(ctx.transcript)
        held = {edit.first: edit for edit in ctx.plan.edits if isinstance(edit, Replace)}
        folds = [_fold(ctx, past.turns, block, held) for block in past.blocks if block.text]
        label = past.turns.label(ctx) if self.number else []
        refused = past.turns.told(ctx, f"[fold] Not done: {past.refused}.") if past.refused else []
        return [*filter(None, folds), *label, *refused]


def _fold(ctx: Context, turns: Turns, block: Block, held: dict[str, Replace]) -> Replace | None:
    """The Replace of a block; None where it stands, would hide what came after it was written, or would save nothing."""
    start, end, asking = turns.span(block.first, block.last)
    steps = [step for step in ctx.transcript.steps[start:end] if step.messages]
    first, last = steps[0].messages[0].id, steps[-1].messages[-1].id
    known = held.get(first)
    stands = known.last == last and known.content.endswith(_written(block)) if known else not ctx.shown(start)
    if stands:
        return None
    written = ctx.transcript.steps[asking].heads[0].host
    hidden = [m for step in steps for m in step.messages if not ctx.protected(m)]
    if any(step.pending for step in steps) or any(message.host > written for message in hidden):
        return None
    handle = known.handle if known else ctx.handle()  # one that is quoted somewhere stays good
    words = [m.text for m in hidden if m.role == "user"] if turns.observations == "tool" else []
    content = shown(block, words, handle)
    if ctx.count(content) >= sum(message.tokens for message in hidden):
        return None
    return Replace(first, last, content, handle, RISK)


def shown(block: Block, words: Sequence[str], handle: str) -> str:
    """What stands for a block: delimited, labelled, unable to close itself early. `words`: what the user said in it."""
    head = f'<memctx-fold turns="{block.first}-{block.last}" whole="{marker(handle)}">'
    quoted = [f"The user said:\n{_quoted(text)}" for text in words]
    return "\n".join([head, LABEL, *quoted, _written(block)])


def _written(block: Block) -> str:
    """What the model wrote of a block, and what closes it."""
    return f"{_DELIMITER.sub('&lt;', block.text)}\n</memctx-fold>"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in _DELIMITER.sub("&lt;", text).splitlines())


def directive(text: str, latest: int, tags: Tags) -> Block | str | None:
    """The fold that a message asks for, why it cannot be read, or None where it asks for none.

    Of several the first counts. Brackets and other words for "to" are read too; with no number the latest turn is meant.
    """
    _, opened, rest = text.partition(tags[0])
    if not opened:
        return None
    body, closed, _ = rest.partition(tags[1])
    found = _BODY.fullmatch(body)
    if not closed or found is None or not found[3].strip():
        return f"write {tags[0]}first-last: text{tags[1]}, with a text"
    first, last = sorted((int(found[1] or latest), int(found[2] or found[1] or latest)))
    return Block(first, last, found[3].strip())
