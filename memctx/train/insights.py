"""MEMO: prompts that evolve through play, with a bank of insights that outlives them (openverse-ai/MEMO, 2026).

    loop = Evolution(TicTacToe(), player_of, generate, first=["You play to win."])
    result = loop.run()                                    # or await loop.arun(), with any of the functions async
    result.best.text, result.rating.lower(), loop.bank.items

A generation: a tournament of prompts, some games from positions met before; what was played is shown to a model, which
proposes changes of the bank; the best stay, and new prompts are written from the bank, from two of the best, or afresh. A
model only proposes: who plays, what is kept and who is best is decided here, and by `mu - k * sigma`, not by luck.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from random import Random
from statistics import fmean, stdev
from typing import Any, Literal

from pydantic import Field

from memctx.component import Settings
from memctx.errors import ConfigError
from memctx.experience import parse
from memctx.train import _asking as ask
from memctx.train import ratings
from memctx.train._bank import Changed, InsightBank
from memctx.train._jobs import Call, Steps, arun, run
from memctx.train._positions import Met, Position, PriorityReplay, contested, strategic
from memctx.train.envs import Env
from memctx.train.ratings import Rating
from memctx.train.tournament import Played, Player, Tournament

__all__ = [
    "Changed", "Evolution", "Generation", "InsightBank", "Memo", "Met", "Position", "PriorityReplay", "Prompt", "Result",
    "Spread", "contested", "spread", "strategic",
]  # fmt: skip

LONGEST_PROMPT = 8_000  # characters; what is longer was no prompt
Origin = Literal["given", "memory", "crossover", "fresh"]


class Memo(Settings):
    """How wide and how long the loop is, and by what it chooses."""

    population: int = Field(default=8, ge=2, description="prompts of a generation")
    generations: int = Field(default=5, ge=1)
    games: int = Field(default=200, ge=2, description="games of a generation's tournament")
    replayed: float = Field(default=0.4, ge=0, le=1, description="chance of a match to begin at a position met before")
    elites: float = Field(default=0.25, gt=0, le=1, description="share of the prompts that stay")
    crossover: float = Field(default=0.125, ge=0, le=1, description="share written from two elites")
    fresh: float = Field(default=0.125, ge=0, le=1, description="share written from the rules alone")
    insights: int = Field(default=8, ge=1, description="insights that one prompt is written from, at most")
    evaluation: int = Field(default=50, ge=2, description="games of each generation's best against the opponents")
    k: float = Field(default=ratings.K, ge=0, description="sigmas below mu where the bound lies that decides")
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A candidate: its text, where it comes from, and the ids of the insights it was written from."""

    name: str
    text: str
    origin: Origin = "given"
    parents: tuple[str, ...] = ()
    insights: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """What happened in one. `evaluation`: the best one's mean reward a game against the opponents, None without any."""

    number: int
    prompts: tuple[Prompt, ...]
    ratings: Mapping[str, Rating]
    best: Prompt
    changed: Changed
    malformed: tuple[str, ...]
    evaluation: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The prompt with the highest lower bound at the end, its rating, and how it came about."""

    best: Prompt
    rating: Rating
    generations: tuple[Generation, ...]


class Evolution:
    """The loop. `player_of` makes a player of a prompt's text; `generate` answers role/content messages with text.

    `opponents`: fixed players, by which progress is measured; they decide nothing. `bank`: in memory by default. `watch`: is
    told of every finished game and generation; after a generation, `dump` gives what a run goes on from.
    """

    def __init__(
        self,
        env: Env,
        player_of: Callable[[str], Player],
        generate: Callable[[ask.Messages], str | Awaitable[str]],
        *,
        first: Sequence[str],
        memo: Memo | None = None,
        opponents: Mapping[str, Player] | None = None,
        bank: InsightBank | None = None,
        watch: Callable[[Played | Generation], None] = lambda _: None,
    ) -> None:
        self.env, self.player_of, self.generate = env, player_of, generate
        self.memo, self.opponents = memo or Memo(), dict(opponents or {})
        self.bank, self.watch = bank or InsightBank(), watch
        self.replay = PriorityReplay()
        self.number = 0
        self.prompts = tuple(Prompt(f"g0-{number}", text) for number, text in enumerate(first))
        self.ratings: dict[str, Rating] = {}

    def run(self) -> Result:
        """All generations that are left."""
        return run(self.steps())

    async def arun(self, at_once: int = 16) -> Result:
        """As `run`, for functions that are async, up to `at_once` calls under way."""
        return await arun(self.steps(), at_once)

    def steps(self) -> Steps[Result]:
        """The work of `run`, for who drives it with other work. Raises `ConfigError` without a first prompt."""
        if not self.prompts:
            raise ConfigError("first = []: give at least one prompt to begin with", field="first")
        done: list[Generation] = []
        while self.number < self.memo.generations:
            yield from self._filled()
            done.append((yield from self._generation()))
            self._chosen(done[-1])
            self.watch(done[-1])
        best = self.prompts[0]
        return Result(best, self.ratings[best.name], tuple(done))

    # -- one generation ----------------------------------------------------------------------------------------------

    def _generation(self) -> Steps[Generation]:
        games: list[Played] = []
        new = [each for each in self.prompts if each.name not in self.ratings]
        yield from self._tournament(games)
        order = ratings.ranked({each.name: self.ratings[each.name] for each in self.prompts}, self.memo.k)
        named = {each.name: each for each in self.prompts}
        for each in new:
            if each.insights:
                yield [Call(self.bank.report, (each.insights, self._fared(each)))]
        (text,) = yield [Call(self.generate, (self._reflection(games),))]
        proposed = parse(ask.said(text))
        (changed,) = yield [Call(self.bank.apply, (proposed.ops, [f"{self.memo.seed}/g{self.number}"]))]
        best = named[order[0]]
        evaluation = yield from self._evaluated(best)
        prompts = tuple(named[name] for name in order)
        rated = {name: self.ratings[name] for name in order}
        return Generation(self.number, prompts, rated, best, changed, proposed.malformed, evaluation)

    def _tournament(self, games: list[Played]) -> Steps[None]:
        """All prompts, those that stayed with what is known of them."""

        def seen(played: Played) -> None:
            games.append(played)
            self.replay.add(played)
            self.watch(played)

        players = {each.name: self.player_of(each.text) for each in self.prompts}
        starts = partial(self.replay.start, share=self.memo.replayed)
        contest = Tournament(self.env, players, seed=self._seed("play"), starts=starts, seen=seen)
        contest.ratings.update(self.ratings)
        self.ratings = yield from contest.steps(self.memo.games)

    def _reflection(self, games: Sequence[Played]) -> ask.Messages:
        return ask.reflection(self.env.rules, games, self.replay.met(), self.bank.items)

    def _fared(self, prompt: Prompt) -> float:
        """-1..1: the mean reward of a game; of a game for one, whose rewards are 0..1, twice it less one."""
        mean = self.ratings[prompt.name].mean / self.env.players
        return max(-1.0, min(1.0, mean if self.env.players > 1 else 2 * mean - 1))

    def _evaluated(self, best: Prompt) -> Steps[float | None]:
        if not self.opponents:
            return None
        players = {best.name: self.player_of(best.text)}
        seed = self._seed("evaluate")
        contest = Tournament(self.env, players, opponents=self.opponents, matching="round_robin", seed=seed)
        rated = yield from contest.steps(self.memo.evaluation)
        return rated[best.name].mean / self.env.players

    # -- the next one ------------------------------------------------------------------------------------------------

    def _chosen(self, ended: Generation) -> None:
        """Only the best stay, with their ratings."""
        self.prompts = ended.prompts[: math.ceil(self.memo.elites * len(ended.prompts))]
        self.ratings = {each.name: ended.ratings[each.name] for each in self.prompts}
        self.number += 1

    def _filled(self) -> Steps[None]:
        """New prompts beside those that stayed, until the population is whole."""
        new = [self._drawn(place) for place in range(len(self.prompts), self.memo.population)]
        texts = {each.name: each.text for each in self.prompts}
        items = {item.id: item for item in self.bank.items}
        asked = []
        for each in new:
            parents, told = [texts[name] for name in each.parents], [items[number] for number in each.insights]
            asked.append(Call(self.generate, (ask.written(self.env.rules, parents, told),)))
        answers = yield asked
        for each, answer in zip(new, answers, strict=True):
            text = ask.said(answer).strip()
            if not text or len(text) > LONGEST_PROMPT or text in texts.values():
                text = ask.told(each.text, [items[number] for number in each.insights])
            texts[each.name] = text
            self.prompts = (*self.prompts, replace(each, text=text))

    def _drawn(self, place: int) -> Prompt:
        """What kind of prompt a place gets, and from what. Its text is what stands if the model's is none: a parent's."""
        chance = Random(self._seed(f"new {place}"))
        crossed = round(self.memo.crossover * self.memo.population)
        afresh = round(self.memo.fresh * self.memo.population)
        name, from_end = f"g{self.number}-{place}", self.memo.population - 1 - place
        parent = chance.choice(self.prompts)
        if from_end < afresh:
            return Prompt(name, parent.text, "fresh")
        if from_end < afresh + crossed and len(self.prompts) > 1:
            pair = chance.sample(self.prompts, 2)
            return Prompt(name, pair[0].text, "crossover", tuple(each.name for each in pair))
        items = self.bank.items
        drawn = chance.sample(items, min(len(items), self.memo.insights))
        return Prompt(name, parent.text, "memory", (parent.name,), tuple(sorted(item.id for item in drawn)))

    def _seed(self, what: str) -> str:
        return f"{self.memo.seed} {self.number} {what}"

    # -- to go on later ----------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Plain data from which `load` goes on with the next generation."""
        return {
            "number": self.number,
            "prompts": [asdict(each) for each in self.prompts],
            "ratings": ratings.dump(self.ratings),
            "replay": self.replay.dump(),
            "bank": self.bank.dump(),
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Go on from what `dump` gave, with the same settings."""
        lists = ("parents", "insights")
        prompts = ({**each, **{name: tuple(each[name]) for name in lists}} for each in data["prompts"])
        self.number, self.prompts = data["number"], tuple(Prompt(**each) for each in prompts)
        self.ratings = ratings.load(data["ratings"])
        self.replay.load(data["replay"])
        self.bank.load(data["bank"])


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs that differ by their seed only."""

    mean: float
    deviation: float
    least: float
    most: float
    runs: int


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and range of a figure over runs: one run of a loop like this says little, five say more."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else 0.0, min(values), max(values), len(values))
