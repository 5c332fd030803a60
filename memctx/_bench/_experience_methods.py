"""Ways to name three next actions from the experience of earlier runs.

All know the same runs, all vote alike, and all bind a vote in the same way: where an example did the same as just before, the
vote is for what the present run did just before. They differ in which examples they ask, and that is the question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Protocol

from memctx._bench._experience_runs import Step, Story

if TYPE_CHECKING:
    from memctx.experience import Library
    from memctx.memory import Memory

SUGGESTED = 3  # actions a method may name
ASKED = 30  # examples that vote
AHEAD = 1  # the n-th example has the weight 1 / (n + AHEAD), n from 1
AGAIN = "(again)"  # what an example did is what it had done just before


@dataclass(frozen=True, slots=True)
class Example:
    """What a run did at a step."""

    at: int
    step: Step

    @property
    def vote(self) -> str:
        return AGAIN if self.step.form == self.step.before else self.step.form


class Experiences:
    """Runs to learn from, and a `Library` of memctx in memory that holds each of their steps; it is made when first asked."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self.stories: list[Story] = []
        self._examples: dict[str, Example] = {}
        self._held = 0
        self._memory: Memory | None = None
        for story in stories:
            self.learn(story)

    def learn(self, story: Story) -> None:
        """A run ended with an outcome above 0, and the host has said so."""
        self.stories.append(story)

    def found(self, observation: str, task: str) -> list[Example]:
        """The examples that the library gives, best first."""
        found = self._library().retrieve(observation, task, ASKED, polarity="worked")
        return [self._examples[each.experience.evidence[0]] for each in found]

    def close(self) -> None:
        if self._memory:
            self._memory.close()

    def _library(self) -> Library:
        from memctx.experience import Library
        from memctx.memory import Memory

        self._memory = self._memory or Memory()
        library = Library(self._memory.at("bench"))
        for story in self.stories[self._held :]:
            self._admit(library, story)
        self._held = len(self.stories)
        return library

    def _admit(self, library: Library, story: Story) -> None:
        from memctx.experience import Experience

        items = []
        for at, step in enumerate(story.steps):
            name = f"{story.id}#{at}"
            self._examples[name] = Example(at, step)
            items.append(
                Experience(step.action, "example", story.asked, step.situation, story.outcome, evidence=(name,))
            )
        library.admit(items, writer="bench", outcome=story.outcome)


class Method(Protocol):
    """One way to suggest, from the experiences it is made with."""

    def suggest(self, story: Story, at: int) -> list[str]:
        """Forms of the next action, best first, from what came before step `at` of the run."""
        ...


def bound(votes: Iterable[tuple[str, float]], present: Step) -> list[str]:
    """The three forms with most votes; equal ones in the order they came."""
    total: dict[str, float] = defaultdict(float)
    for form, weight in votes:
        total[present.before if form == AGAIN else form] += weight
    total.pop("", None)
    return sorted(total, key=lambda form: -total[form])[:SUGGESTED]


class Counts:
    """How often each action was taken after what `key` says, with the counts over all where that is too little."""

    def __init__(self, kept: Experiences, key: Callable[[int, Step], object]) -> None:
        self._key = key
        self._every: Counter[str] = Counter()
        self._after: defaultdict[object, Counter[str]] = defaultdict(Counter)
        for story in kept.stories:
            for at, step in enumerate(story.steps):
                vote = Example(at, step).vote
                self._every[vote] += 1
                self._after[key(at, step)][vote] += 1

    def suggest(self, story: Story, at: int) -> list[str]:
        step = story.steps[at]
        there = self._after.get(self._key(at, step), Counter())
        all_of_them = max(self._every.total(), 1)
        votes = [(form, float(n)) for form, n in there.items()]
        return bound([*votes, *((form, n / all_of_them) for form, n in self._every.items())], step)


class Task:
    """Retrieved once a run, by the task; of these examples the ones nearest in position weigh most, as one follows a plan."""

    def __init__(self, kept: Experiences, placed: bool = True) -> None:
        self._kept = kept
        self._placed = placed
        self._of: tuple[str, list[Example]] = ("", [])

    def suggest(self, story: Story, at: int) -> list[str]:
        if self._of[0] != story.id:
            self._of = (story.id, self._kept.found("", story.asked))
        weighed = ((each, weight * exp(-abs(each.at - at) * self._placed)) for each, weight in ranked(self._of[1]))
        return bound(((each.vote, weight) for each, weight in weighed), story.steps[at])


class AtStep:
    """Retrieved at every step, by what the agent did last, what came back, and the task; or by a part of that."""

    def __init__(self, kept: Experiences, did: bool = True, saw: bool = True, task: bool = True) -> None:
        self._kept = kept
        self._did, self._saw, self._task = did, saw, task

    def suggest(self, story: Story, at: int) -> list[str]:
        step = story.steps[at]
        situation = Step(step.did if self._did else "", step.saw if self._saw else "", "", "", "").situation
        found = self._kept.found(situation, story.asked if self._task else "")
        return bound(((each.vote, weight) for each, weight in ranked(found)), step)


class Slea:
    """The default of SLEA-RL's release (see arXiv 2603.18079): sorted by stored score, whatever was observed."""

    def __init__(self, kept: Experiences) -> None:
        best = sorted(kept.stories, key=lambda story: -story.outcome)
        self._first = [Example(at, step) for story in best for at, step in enumerate(story.steps)][:ASKED]

    def suggest(self, story: Story, at: int) -> list[str]:
        return bound(((each.vote, weight) for each, weight in ranked(self._first)), story.steps[at])


def ranked(examples: Sequence[Example]) -> list[tuple[Example, float]]:
    """Each with the weight of its rank."""
    return [(example, 1 / (rank + AHEAD)) for rank, example in enumerate(examples, 1)]


METHODS: dict[str, Callable[[Experiences], Method]] = {
    "none": lambda kept: Counts(kept, lambda at, step: None),
    "position": lambda kept: Counts(kept, lambda at, step: at),
    "previous": lambda kept: Counts(kept, lambda at, step: step.before),
    "slea": Slea,
    "task": Task,
    "task-unordered": lambda kept: Task(kept, placed=False),
    "step": AtStep,
    "step-no-task": lambda kept: AtStep(kept, task=False),
    "step-no-action": lambda kept: AtStep(kept, did=False),
    "step-no-observation": lambda kept: AtStep(kept, saw=False),
    "step-online": AtStep,
}
ONLINE = {"step-online"}  # learn from the runs they are tested on, each after it ended
