"""Multi-objective: several questions at once over a corpus that must be searched. MEM1's composition (arXiv 2506.15841).

A passage that was found may have left the view when the answers are due, so what it said has to be written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from memctx.component import Component
from memctx.train.envs._corpus import PEOPLE, SCRIBBLES, VALUES, Corpus, Question, Symbols, corpus, normal, symbols

ALPHABET = PEOPLE + VALUES + SCRIBBLES + "?!"
ACT = re.compile(r"\b(search|answer):[ \t]*(.*)", re.IGNORECASE)


class MultiObjective(Component):
    """One player; each seed has a corpus about `people` people, and asks `questions` of it over at most `hops` passages each.

    A search shows the `top` passages, of at least `words` words; there are `turns` turns a question. The reward is the share of
    answers that are right, or with scoring "count" their number, as in the paper.

    form "text" is for language models. "symbols" is for models made from nothing, with `codec.Symbols(ALPHABET)`: of 26 people
    some are asked about, with one value each. An answer is what was noted, each person with a value, and then "?" with the person
    to search for, or "!": the notes are the answers. `hops` and `people` are of "text" only.
    """

    questions: int = Field(default=2, ge=1, le=16)
    hops: int = Field(default=1, ge=1, le=2)
    people: int = Field(default=60, ge=20, le=2000)
    top: int = Field(default=3, ge=1, le=20)
    words: int = Field(default=0, ge=0, le=500)
    turns: int = Field(default=3, ge=3)
    form: Literal["text", "symbols"] = "text"
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

    def world(self, seed: int) -> Corpus | Symbols:
        """What can be searched."""
        return symbols(seed, self.words) if self.form == "symbols" else corpus(seed, self.people, self.words)

    def expert(self, seed: int) -> list[str]:
        """Answers that get the full reward."""
        asked = self.asked(seed)
        if self.form == "symbols":
            notes = ["".join(one.text + one.answer for one in asked[:n]) for n in range(self.questions + 1)]
            return [f"{note}?{one.text}" for note, one in zip(notes, asked, strict=False)] + [f"{notes[-1]}!"]
        searches = [f"search: {query}" for each in asked for query in each.queries]
        return [*searches, "answer: " + "; ".join(each.answer for each in asked)]

    def act(self, seed: int, text: str) -> tuple[str, str]:
        """(kind, what is searched for or answered) of a turn's text; the last line that acts counts, none: ("", "")."""
        if self.form == "text":
            found = ACT.findall(text)
            kind, rest = found[-1] if found else ("", "")
            return kind.lower(), rest.strip()
        if "!" not in text:
            return ("search", text.rpartition("?")[2]) if "?" in text else ("", "")
        notes = dict(pairwise(text))
        return "answer", ";".join(notes.get(each.text, "") for each in self.asked(seed))


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
        return self._told() if self.of.form == "symbols" else f"[{_hint(self.left)}]\n{self._told()}"

    @property
    def rewards(self) -> tuple[float, ...]:
        if not self.acts or (self.left and self.acts[-1][0] != "answer"):
            return ()
        kind, text = self.acts[-1]
        asked, given = self.of.asked(self.seed), text.split(";") if kind == "answer" else []
        right = sum(normal(each.answer) == normal(one) for each, one in zip(asked, given, strict=False))
        return (float(right) if self.of.scoring == "count" else right / self.of.questions,)

    def after(self, text: str) -> Inquiry:
        """A turn in which the text does not act is lost."""
        return replace(self, acts=(*self.acts, self.of.act(self.seed, text)))

    def _told(self) -> str:
        symbols = self.of.form == "symbols"
        if not self.acts:
            asked = self.of.asked(self.seed)
            return "".join(each.text for each in asked) if symbols else _numbered(asked)
        kind, text = self.acts[-1]
        if not kind:
            return "?" if symbols else "That was neither 'search: WORDS' nor 'answer: FIRST; SECOND; ...'."
        found = self.of.world(self.seed).search(text, self.of.top)
        return ("" if symbols else "\n").join(found) or ("?" if symbols else "Nothing was found.")


def _numbered(asked: Iterable[Question]) -> str:
    return "\n".join(f"{n}. {each.text}" for n, each in enumerate(asked, 1))


def _hint(left: int) -> str:
    return "last turn: answer now" if left == 1 else f"{left} turns left"
