"""A finished run as experience, by rules: what was done where it worked, what went wrong where it did not.

A model may say it better and propose ops; this works without one. Texts of tool results are only compared with; what is kept to
be shown is what the agent itself did. The one exception, the last error, is marked unverified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from memctx._experience_items import LONGEST_ADVICE, Experience, StepSeen
from memctx._experience_text import shown
from memctx._skim.words import ERROR
from memctx.messages import Step, Transcript
from memctx.strategies._recalled import own_words, visible

if TYPE_CHECKING:
    from memctx.session import Session

REPEATS = 3  # of one action in a row that make a pattern
LAST = 3  # actions that a mistake tells
HEAD = 400  # characters of a result searched for an error


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run: its task, its steps, and the ids of the experiences that it was shown."""

    task: str
    steps: tuple[StepSeen, ...]
    shown: tuple[int, ...] = ()
    name: str = ""


def from_run(
    steps: Sequence[StepSeen], task: str, outcome: float, *, evidence: Sequence[str] = (), writer: str = ""
) -> list[Experience]:
    """What a run teaches. `outcome`: in -1..1, above 0 for success.

    Success: its method, and each step as an example, without the steps that brought an error. Failure: how it ended, actions it
    repeated, the last error it saw.
    """
    acted = [step for step in steps if step.action.strip()]
    if not acted:
        return []
    found = _worked(acted, task, outcome) if outcome > 0 else _failed(acted, task, outcome)
    return [_signed(item, tuple(evidence), writer) for item in found]


def _worked(steps: Sequence[StepSeen], task: str, outcome: float) -> Iterator[Experience]:
    after = [*steps[1:], None]
    useful = [step for step, then in zip(steps, after, strict=True) if then is None or not _error(then, step.action)]
    if task:
        actions = [action for action, _ in groupby(step.action for step in useful)]
        yield Experience(_chain(actions), "method", task, score=outcome)
    for step in useful:
        yield Experience(step.action, "example", task, step.observation, score=outcome)


def _failed(steps: Sequence[StepSeen], task: str, outcome: float) -> Iterator[Experience]:
    score = max(-outcome, 0.5)
    last = steps[-LAST:]
    ended = _chain(step.action for step in last)
    yield Experience(f"This did not solve it: {ended}", "mistake", task, last[-1].observation, score=score)
    for action, run in groupby(steps, key=lambda step: step.action):
        same = list(run)
        if len(same) >= REPEATS:
            text = f"Repeating this {len(same)} times did not help: {action}"
            yield Experience(text, "pattern", task, same[-1].observation, score=score)
    error = next((step for step in reversed(steps) if _error(step)), None)
    if error is not None:
        text = f"The last error was: {error.observation[:HEAD]}"
        yield Experience(text, "diagnostic", task, error.observation, score=score, trust=0)


def _error(step: StepSeen, before: str = "") -> bool:
    """Whether what came back, after the action `before`, begins with an error."""
    return ERROR.search(step.observation.removeprefix(before)[:HEAD]) is not None


def _chain(actions: Iterable[str]) -> str:
    """Actions in order, as many from the first on as fit."""
    kept, size = list[str](), 0
    for action in actions:
        size += len(action) + 4
        if kept and size > LONGEST_ADVICE:
            return " -> ".join([*kept, "…"])
        kept.append(action)
    return " -> ".join(kept)


def _signed(item: Experience, evidence: tuple[str, ...], writer: str) -> Experience:
    return replace(item, evidence=evidence, writer=writer)


# -- what was seen -------------------------------------------------------------------------------------------------------


def seen(run: Session | Sequence[Any]) -> RunSeen:
    """A session, the messages of a host, or steps, as a run."""
    if isinstance(run, Sequence):
        if all(isinstance(each, StepSeen) for each in run):
            return RunSeen("", tuple(run))
        return _read(_transcript(run))
    found = _read(run.transcript)
    return RunSeen(found.task, found.steps, tuple(each for _, ids in shown(run.plan) for each in ids), run.thread)


def steps_of(messages: Sequence[Any]) -> list[StepSeen]:
    """What an agent saw and did, from the messages of any host."""
    return list(_read(_transcript(messages)).steps)


def _transcript(messages: Sequence[Any]) -> Transcript:
    from memctx import formats

    transcript = Transcript(formats.load(formats.detect(messages) or "openai-chat"), lambda _: 0)
    transcript.sync(list(messages))
    return transcript


def _read(transcript: Transcript) -> RunSeen:
    steps = transcript.steps
    acts = [StepSeen(observation(steps[:place]), action(step)) for place, step in enumerate(steps) if _acts(step)]
    return RunSeen(task_of(steps), tuple(acts))


def task_of(steps: Sequence[Step]) -> str:
    """What a run was asked for: the first user message."""
    return next((own_words(step.messages[-1].text) for step in steps if step.role == "user"), "")


def _acts(step: Step) -> bool:
    return step.role == "assistant" and bool(action(step))


def observation(steps: Sequence[Step]) -> str:
    """What the agent has before it after these steps: what it did last and what came back, or the newest user message."""
    last = next((step for step in reversed(steps) if step.role in ("user", "assistant", "tool")), None)
    if last is None:
        return ""
    if last.role == "user":
        before = next((action(step) for step in reversed(steps) if step.role == "assistant"), "")
        return "\n".join(filter(None, [before, own_words(last.messages[-1].text)]))
    return "\n".join([action(last), *(own_words(result.text) for result in last.results)])


def action(step: Step) -> str:
    """What the agent did in a step: its calls, or what it said."""
    calls = [f"{call.name}({call.arguments})" for call in step.calls]
    return visible("; ".join(calls) or "\n".join(own_words(head.text) for head in step.heads)).strip()
