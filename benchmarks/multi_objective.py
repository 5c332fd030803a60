"""Multi-objective: what MEM1's constant memory costs and keeps when 16 questions are asked in place of 2. CPU, half a minute.

    python -m benchmarks.multi_objective [--tasks 20] [--plot multi_objective.png] [--json]

The player is code that knows no more than its view: contexts are measured here, not models. The arms:

- "mem1" writes what it knows before each search, and sees the questions, its last words and the last passages (`InternalState`);
- "full" only searches, answers at the end, and sees everything;
- "truncate" plays as "full" does in as much room as "mem1" took at most: the oldest turns leave.

Passages have 100 words, as MEM1's have, or 250: three of them are the 1,000 tokens that MEM1 shows at most. Tokens are
o200k_base's. "peak" is the largest prompt with its answer; "of it prompt" are rules and questions, which MEM1's own measure
leaves out; "tokens" is all that was read and written in a task. All are means of tasks.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from memctx import Pipeline
from memctx.plan import Plan
from memctx.strategies import Strategy
from memctx.strategies.internal_state import InternalState
from memctx.strategies.truncate import Truncate
from memctx.tokens import counter
from memctx.train.envs.multi_objective import MultiObjective

ARMS = ("mem1", "full", "truncate")
QUESTIONS, WORDS = (2, 4, 8, 16), (100, 250)
STRATEGIES: dict[str, list[Strategy]] = {
    "mem1": [InternalState(tag="")],
    "full": [],
    "truncate": [Truncate(high=1.0, low=1.0, keep=2)],
}
FACTS = {
    "In which town was (.+) born": "{} was born in (.+?),",
    "For which firm does (.+) work": "{} was .+? works for (.+?) and has",
    "What is the dog of (.+) called": "{} was .+? called (.+?)[.]",
}


@dataclass(frozen=True)
class Line:
    """Means of the tasks of one arm; `largest` is of all tasks."""

    arm: str
    words: int
    questions: int
    success: float
    peak: float
    prompt: float
    tokens: float
    largest: int


def answer(view: Sequence[Mapping[str, Any]], notes: bool) -> str:
    """What the player says. It searches in the order asked; with `notes` it writes first what it knows so far."""
    _, first, *rest = (str(message["content"]) for message in view)
    asked, seen = list(questions(first)), "\n".join(rest)
    searched = re.findall(r"search: (.+)", seen)
    done = 1 + [name for name, _ in asked].index(searched[-1]) if searched else 0
    found = (re.search(fact, seen, re.MULTILINE) for _, fact in asked[:done])
    known = "".join(f"{at[at.lastindex or 0] if at else ''};" for at in found)
    if done == len(asked):
        return f"answer: {known}"
    return f"{known if notes else ''}\nsearch: {asked[done][0]}"


def questions(text: str) -> Iterator[tuple[str, str]]:
    """Of each question, whom it is about, and where its answer is read: in its place among the notes, or in a passage."""
    for place, line in enumerate(text.splitlines()[1:]):
        for question, fact in FACTS.items():
            if at := re.search(question, line):
                yield at[1], rf"^(?:[^;\n]*;){{{place}}}([^;\n]+);|{fact.format(at[1])}"


def play(env: MultiObjective, arm: str, seed: int, budget: int) -> tuple[float, list[int]]:
    """(reward, tokens of the first prompt and then of each prompt with its answer)."""
    state, plan, sizes = env.start(seed), Plan(), list[int]()
    messages = [{"role": "system", "content": env.rules}, {"role": "user", "content": state.observation}]
    count = counter()
    session = Pipeline(STRATEGIES[arm], budget=budget, edit_when="always", counter=count).session()
    while not state.rewards:
        view = session.view(messages, plan=plan)
        said, plan = answer(view.messages, notes=arm == "mem1"), view.plan
        sizes += [view.tokens + count.text(said)] if sizes else [view.tokens, view.tokens + count.text(said)]
        state = state.after(said)
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": state.observation}]
    return state.rewards[0], sizes


def compared(words: int, tasks: int) -> Iterator[Line]:
    """By number of questions and arm."""
    for asked in QUESTIONS:
        env, room = MultiObjective(questions=asked, words=words), 0
        for arm in ARMS:
            runs = [play(env, arm, seed, room if arm == "truncate" else 10**6) for seed in range(tasks)]
            peaks = [max(sizes) for _, sizes in runs]
            room = room or max(peaks)
            success, prompt = fmean(reward for reward, _ in runs), fmean(sizes[0] for _, sizes in runs)
            tokens = fmean(sum(sizes[1:]) for _, sizes in runs)
            yield Line(arm, words, asked, success, fmean(peaks), prompt, tokens, max(peaks))


def draw(lines: Sequence[Line], file: Path) -> None:
    """Peak and success by number of questions, with the longest passages."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    _, both = plt.subplots(1, 2, figsize=(10, 4))
    for axes, figure in zip(both, ("peak", "success"), strict=True):
        for arm in ARMS:
            met = [line for line in lines if line.arm == arm and line.words == max(WORDS)]
            axes.plot(QUESTIONS, [getattr(line, figure) for line in met], marker="o", label=arm)
        axes.set(xlabel="questions", ylabel=figure, xticks=QUESTIONS)
    both[0].set_yscale("log")
    both[1].legend()
    plt.tight_layout()
    plt.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true", help="a line an arm")
    wanted = parser.parse_args()
    lines = [line for words in WORDS for line in compared(words, wanted.tasks)]
    if wanted.plot:
        draw(lines, wanted.plot)
    if wanted.json:
        print("\n".join(json.dumps(asdict(line)) for line in lines))
        return
    print("| words | questions | arm | success | peak | of it prompt | tokens |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        figures = f"{line.success:.2f} | {line.peak:.0f} | {line.prompt:.0f} | {line.tokens:.0f}"
        print(f"| {line.words} | {line.questions} | {line.arm} | {figures} |")


if __name__ == "__main__":
    main()
