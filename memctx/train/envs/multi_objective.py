"""Multi-objective: several questions at once over a corpus that must be searched. MEM1's composition (arXiv 2506.15841).

A passage that was found may have left the view when the answers are due, so what it said has to be written down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from memctx.component import Component
from memctx.train.envs._corpus import Corpus, Question, corpus, normal

ACT = re.compile(r"\b(search|answer):[ \t]*(.*)", re.IGNORECASE)


class MultiObjective(Component):
    """One player; each seed has a corpus about `people` people, and asks `questions` of it over at most `hops` passages each.

    A search shows the `top` passages, of at least `words` words; there are `turns` turns a question. The reward is the share of
    answers that are right, or with scoring "count" their number, as in the paper.
    """

    questions: int = Field(default=2, ge=1, le=16)
    hops: int = Field(default=1, ge=1, le=2)
    people: int = Field(default=60, ge=20, le=2000)
    top: int = Field(default=3, ge=1, le=20)
    words: int = Field(default=0, ge=0, le=500)
    turns: int = Field(default=3, ge=3)
    scoring: Literal["share", "count"] = "share"
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "Answer all questions from passages that you search for. End each turn with one line: 'search: WORDS' shows the best "
        "passages, 'answer: FIRST; SECOND; ...' ends the task with one short answer a question, in their order. What you read "
        "may be out of view later: note before that line what you will need."
    )

    def start(self, seed: int) -> Inquiry:
        return Inquiry(self, seed)

    def asked(self, seed: int) -> tuple[Question, ...]:
        """The questions of a seed."""
        return self.world(seed).questions(Random(f"questions {seed}"), self.questions, self.hops)

    def world(self, seed: int) -> Corpus:
        """What can be searched."""
        return corpus(seed, self.people, self.words)

    def expert(self, seed: int) -> list[str]:
        """Answers that get the full reward."""
        asked = self.asked(seed)
        searches = [f"search: {query}" for each in asked for query in each.queries]
        return [*searches, "answer: " + "; ".join(each.answer for each in asked)]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """`acts`: (kind, text) of each turn so far; the kind is empty where there was none."""

    of: MultiObjective
    seed: int
    acts: tuple[tuple[str, str], ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """Turns that may still be taken."""
        return self.of.questions * self.of.turns - len(self.acts)

    @property
    def observation(self) -> str:
        if self.rewards:
            return ""
        return f"[{_hint(self.left)}]\n{self._told()}"

    @property
    def rewards(self) -> tuple[float, ...]:
        if not self.acts or (self.left and self.acts[-1][0] != "answer"):
            return ()
        kind, text = self.acts[-1]
        asked, given = self.of.asked(self.seed), text.split(";") if kind == "answer" else []
        right = sum(normal(each.answer) == normal(one) for each, one in zip(asked, given, strict=False))
        return (float(right) if self.of.scoring == "count" else right / self.of.questions,)

    def after(self, text: str) -> Inquiry:
        """The last `search:` or `answer:` line counts. Without one the turn is lost."""
        found = ACT.findall(text)
        kind, rest = found[-1] if found else ("", "")
        return replace(self, acts=(*self.acts, (kind.lower(), rest.strip())))

    def _told(self) -> str:
        if not self.acts:
            return "\n".join(f"{n}. {each.text}" for n, each in enumerate(self.of.asked(self.seed), 1))
        kind, text = self.acts[-1]
        if not kind:
            return "That was neither 'search: WORDS' nor 'answer: FIRST; SECOND; ...'."
        return "\n".join(self.of.world(self.seed).search(text, self.of.top)) or "Nothing was found."


def _hint(left: int) -> str:
    return "last turn: answer now" if left == 1 else f"{left} turns left"
