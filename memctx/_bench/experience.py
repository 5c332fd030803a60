"""Next-action prediction: at each step of a run that ended well, is its next action among three suggested ones?

The library holds what runs on other tasks did, those of them whose record states an outcome above 0: that is who a `Library`
takes examples of what worked from. Runs that did not end well are not predicted: what they did next is no advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from memctx._bench._asked import check_methods
from memctx._bench._experience_methods import METHODS, ONLINE, Experiences
from memctx._bench._experience_runs import KINDS, Kind, Story, split
from memctx.errors import ConfigError

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One method on one data set: the share of the `n` steps whose action is among the three."""

    dataset: str
    method: str
    hit3: float
    n: int


def bench(train: Path, test: Path, methods: Sequence[str] = (), watch: Watch | None = None) -> Iterator[Line]:
    """Every method on every data set that is in both folders, a line each. Raises `ConfigError`.

    No task of the test part is learned from; one folder given twice is split inside by a hash of the task, a third tested.
    """
    names = list(methods) or list(METHODS)
    check_methods(names, METHODS)
    some = False
    for kind in KINDS:
        known, asked = sides(train, test, kind)
        if not known or not asked:
            continue
        some = True
        with closing(Experiences(known)) as kept:
            for name in names:
                told = _told(watch, f"{kind.name} {name}")
                hits = [hit for run in outcomes(name, kept, asked, told) for hit in run]
                yield Line(kind.name, name, round(sum(hits) / len(hits), 4), len(hits))
    if not some:
        raise ConfigError(f"no runs of {', '.join(kind.name for kind in KINDS)} in {train} and {test}", field="train")


def sides(train: Path, test: Path, kind: Kind) -> tuple[list[Story], list[Story]]:
    """The runs that are learned from, and the ones that are predicted."""
    known, asked = split(train, test, kind)
    return [story for story in known if story.outcome > 0], [story for story in asked if story.outcome >= kind.well]


def outcomes(
    name: str, kept: Experiences, asked: Sequence[Story], watch: Callable[[int, int], None] | None = None
) -> Iterator[list[bool]]:
    """For each run of `asked`, for each step: whether the method named its action. `kept` stays as it is."""
    with closing(Experiences(kept.stories)) as own:
        method = METHODS[name](own if name in ONLINE else kept)
        for number, story in enumerate(asked, 1):
            yield [step.form in method.suggest(story, at) for at, step in enumerate(story.steps)]
            if story.outcome > 0:
                own.learn(story)
            if watch:
                watch(number, len(asked))


def _told(watch: Watch | None, what: str) -> Callable[[int, int], None] | None:
    return None if watch is None else lambda done, total: watch(what, done, total)
