"""Multi-objective: what MEM1's constant memory costs and keeps when 16 questions are asked in place of 2. CPU, half a minute.

    python -m benchmarks.multi_objective [--tasks 20] [--plot multi_objective.png]

The player is code that knows no more than its view, so this measures contexts, not models. One JSON line an arm, length of
passages and number of questions:

- "mem1" writes what it knows before each search, and sees the questions, its last words and the last passages (`InternalState`);
- "full" only searches, answers at the end, and sees everything;
- "truncate" plays as "full" does in as much room as "mem1" took: the oldest turns leave.

Passages have 100 words, as MEM1's have, or 250: three of them are the 1,000 tokens that MEM1 shows at most. Tokens are
o200k_base's. "peak": the largest prompt with its answer, the mean of tasks ("largest": the most); "peak_less_prompt": without
rules and questions, which is MEM1's own measure. "tokens": all that was read and written in a task.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from memctx import Pipeline
from memctx._vocab import encoding
from memctx.strategies import Strategy
from memctx.strategies.internal_state import InternalState
from memctx.strategies.truncate import Truncate
from memctx.train.acting import Stage
from memctx.train.codec import ROLES, Codec, Symbols
from memctx.train.counting import CodecCounter
from memctx.train.envs._corpus import VALUES
from memctx.train.envs.multi_objective import ALPHABET, MultiObjective
from memctx.train.models import Policy, Sampled
from memctx.train.sampling import Group
from memctx.train.trainer import HELD_OUT

ARMS = ("mem1", "full", "truncate")
QUESTIONS = (2, 4, 8, 16)
FACTS = {
    "In which town was (.+) born": "{} was born in (.+?),",
    "For which firm does (.+) work": "{} was .+? works for (.+?) and has",
    "What is the dog of (.+) called": "{} was .+? called (.+?)[.]",
}


class Words:
    """A codec of whole words and pieces: the ids of o200k_base, and one a role."""

    def __init__(self) -> None:
        self._pieces = encoding("o200k_base")
        self._end = int(self._pieces.n_vocab)
        self.stop = frozenset([self._end])
        self.pad = self._end + 1 + len(ROLES)
        self.size = self.pad + 1

    def head(self, role: str) -> list[int]:
        return [self._end + 1 + ROLES.index(role)]

    def body(self, text: str) -> list[int]:
        return list(self._pieces.encode_ordinary(text))

    def tail(self) -> list[int]:
        return [self._end]

    def text(self, ids: Sequence[int]) -> str:
        return str(self._pieces.decode([each for each in ids if each < self._end]))

    def save(self, folder: Path) -> dict[str, Any]:
        raise NotImplementedError("no policy of these ids is trained here")


WORDS, SYMBOLS = Words(), Symbols(ALPHABET)


@dataclass
class Script:
    """A player made of code. It searches in the order asked; with `notes` it writes first what it knows so far."""

    codec: Codec
    notes: bool
    temperature: float = 1.0

    def logits(self, ids: Tensor, attend: Tensor) -> Tensor:
        raise NotImplementedError("a script has no weights")

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(())

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Sampled]:
        said = [[*self.codec.body(self._answer(prompt)), *self.codec.tail()] for prompt in prompts]
        return [Sampled(ids, [0.0] * len(ids), [0.0] * len(ids)) for ids in said]

    def _answer(self, prompt: Sequence[int]) -> str:
        ends = [place for place, each in enumerate(prompt) if each in self.codec.stop]
        _, first, *rest = (self.codec.text(prompt[a:b]) for a, b in pairwise([0, *ends]))
        text, seen = self.codec is WORDS, "\n".join(rest)
        asked = _text(first) if text else [(each, f"{each}([{VALUES}])") for each in first]
        searches = re.findall(r"search: (.+)" if text else r"\?(.)", seen)
        done = 1 + [who for who, _ in asked].index(searches[-1]) if searches else 0
        found = [(who, re.search(fact, seen, re.MULTILINE)) for who, fact in asked[:done]]
        known = [(who, at[at.lastindex or 0] if at else "") for who, at in found]
        notes = "".join(f"{value};" if text else who + value for who, value in known if text or value)
        if done == len(asked):
            return f"answer: {notes}" if text else f"{notes}!"
        return (notes if self.notes else "") + ("\nsearch: " if text else "?") + asked[done][0]


def _text(first: str) -> list[tuple[str, str]]:
    """Of each question, who it is about, and where its answer is read: in its place in the notes, or in a passage."""
    lines = enumerate(first.splitlines()[1:])
    met = ((n, re.search(question, line), fact) for n, line in lines for question, fact in FACTS.items())
    return [(at[1], rf"^(?:[^;\n]*;){{{n}}}([^;\n]+);|{fact.format(at[1])}") for n, at, fact in met if at]


def stage(arm: str, codec: Codec, questions: int, words: int, budget: int = 0) -> Stage:
    """`budget` in tokens, for "truncate"."""
    form: Any = "text" if codec is WORDS else "symbols"
    env = MultiObjective(questions=questions, words=words, form=form)
    ways: dict[str, list[Strategy]] = {"mem1": [InternalState(tag="")], "truncate": [Truncate(high=1, low=1, keep=2)]}
    limit = budget or 10**6
    pipeline = Pipeline(ways.get(arm, []), budget=limit, edit_when="always", counter=CodecCounter(codec))
    tokens = 2 * questions + 2  # all notes, a mark and a name
    return Stage(env, pipeline, codec, tokens=tokens, turns=questions + 1, layout="per_turn")


def measured(policy: Policy, made: Stage, tasks: Sequence[int]) -> dict[str, float]:
    """Means over tasks."""
    runs = Group(1).collect(made, policy, tasks, 0)
    sizes = [[len(each.ids) for each in run.segments] for run in runs]
    prompts = [len(run.segments[0].prompt) for run in runs]
    return {
        "success": fmean(run.outcome["task"] for run in runs),
        "peak": fmean(map(max, sizes)),
        "largest": max(map(max, sizes)),
        "peak_less_prompt": fmean(max(size) - prompt for size, prompt in zip(sizes, prompts, strict=True)),
        "tokens": fmean(map(sum, sizes)),
    }


def compared(players: Mapping[str, Policy], codec: Codec, words: int, tasks: int) -> Iterator[dict[str, Any]]:
    """Figures by number of questions and arm; "truncate" has as much room as "mem1" took at most."""
    for questions in QUESTIONS:
        room = 0
        for arm, policy in players.items():
            made = stage(arm, codec, questions, words, room if arm == "truncate" else 0)
            figures = measured(policy, made, range(HELD_OUT, HELD_OUT + tasks))
            room = room or int(figures["largest"])
            yield {"arm": arm, "words": words, "questions": questions, **figures}


def draw(lines: Sequence[dict[str, Any]], file: Path) -> None:
    """Success and peak by number of questions, an arm a line; of the script, longest passages."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    longest = max(line["words"] for line in lines)
    _, both = plt.subplots(1, 2, figsize=(10, 4))
    for axes, figure in zip(both, ("peak", "success"), strict=True):
        for arm in ARMS:
            met = [line for line in lines if line["arm"] == arm and line["words"] == longest]
            axes.plot([line["questions"] for line in met], [line[figure] for line in met], marker="o", label=arm)
        axes.set(xlabel="questions", ylabel=figure, xticks=QUESTIONS)
    both[0].set_yscale("log")
    both[0].legend()
    plt.tight_layout()
    plt.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20, help="test tasks")
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    lines = []
    for words in (100, 250):
        begin = time.process_time()
        players = {arm: Script(WORDS, notes=arm == "mem1") for arm in ARMS}
        for line in compared(players, WORDS, words, wanted.tasks):
            lines.append(line)
            print(
                json.dumps({"player": "script", **line, "cpu_seconds": round(time.process_time() - begin)}), flush=True
            )
    if wanted.plot:
        draw(lines, wanted.plot)


if __name__ == "__main__":
    main()
