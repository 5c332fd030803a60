"""Who is picked as the best prompt, by which rule, after how many games? Scripted players of known skill stand for prompts.

    python -m benchmarks.memo [--game tictactoe kuhn] [--setting equal ...] [--repetitions 200] [--json]

A player of skill q plays perfectly with probability q and any legal move otherwise. A match is two games, one from each seat
with the same seed; a game of Kuhn poker is ten hands. Results are drawn from the exact odds of a game, found by walking its
tree: the same in law as playing it, and some times quicker. In the loop every game is played. The settings:

    equal      eight players of skill 0.2, 0.3, ... 0.9; round robin, so that all play equally often
    top_two    the same; the next match is between two who may be best
    newcomers  eight players of skills drawn from 0.2 to 0.9 play a round robin of 400 games; the best two stay, six new ones of
               the same kind come, and all play a few games more: the old have many games behind them, the new have few
    loop       MEMO's whole loop of five generations, choosing by the rule all the way; a scripted model writes prompts that
               are 0.05 worse than the better parent on average, with a standard deviation of 0.1

The rules: mean reward, mu, mu - sigma; `mu, default gamma` rates the same matches as the package does unless told otherwise.
`right`: how often the best player is picked, with Wilson's 95 % interval. `gain`: right less that of mu, paired, 95 %.
In the loop `skill` is that of the prompt picked at the end, with its standard deviation over runs, and gain is in skill.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random
from statistics import fmean, stdev
from typing import Any, ClassVar

from memctx.errors import require
from memctx.train import ratings
from memctx.train.envs import Env, kuhn, tictactoe
from memctx.train.envs._scripted import Policy, noisy, player
from memctx.train.insights import Evolution, Memo, spread
from memctx.train.ratings import Rating
from memctx.train.tournament import Played, Player, Tournament

Z = 1.96
Begun = tictactoe.Board | kuhn.Table
LADDER = tuple(number / 10 for number in range(2, 10))
ANY = tuple(number / 20 for number in range(4, 19))
RULES: Mapping[str, Callable[[Rating], float]] = {
    "mean reward": lambda rating: rating.mean,
    "mu": lambda rating: rating.mu,
    "mu - sigma": lambda rating: rating.lower(1),
}
DEFAULT = "mu, default gamma"


@dataclass(frozen=True, slots=True)
class Kind:
    """A game, its perfect player, the hands that a seed deals as games of their own, and the budgets at which one is picked."""

    env: Env
    optimal: Policy
    hands: Callable[[int], Sequence[Begun]]
    budgets: tuple[int, ...]


def dealt(seed: int) -> list[Begun]:
    """Each hand as seen from who begins it: the deal turned for every second one."""
    deals = HANDS.start(seed).deals
    return [kuhn.Table((deal[::-1] if number % 2 else deal,)) for number, deal in enumerate(deals)]


HANDS = kuhn.Kuhn(hands=10)
GAMES = {
    "tictactoe": Kind(tictactoe.TicTacToe(), tictactoe.optimal, lambda _: [tictactoe.Board()], (50, 100, 200, 400)),
    "kuhn": Kind(HANDS, kuhn.optimal, dealt, (200, 400, 800, 1600)),
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A game of two that each say their skill and their luck; the result is drawn from its odds."""

    game: str
    seed: int = 0
    said: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()
    players: ClassVar[int] = 2
    rules: ClassVar[str] = ""
    actions: tuple[str, ...] = ()
    observation: str = "your skill?"

    @property
    def player(self) -> int:
        return len(self.said)

    def start(self, seed: int) -> Drawn:
        return Drawn(self.game, seed)

    def after(self, text: str) -> Drawn:
        said = (*self.said, text)
        return Drawn(self.game, self.seed, said, self._won(said) if len(said) == 2 else ())

    def _won(self, said: tuple[str, ...]) -> tuple[float, ...]:
        """The sum over hands, of which the second player begins every second."""
        skills = [each.partition(" ")[0] for each in said]
        chance, total = Random(" ".join(said)), 0.0
        for number, hand in enumerate(GAMES[self.game].hands(self.seed)):
            turned = number % 2
            rewards, ends = odds(self.game, hand, skills[turned], skills[1 - turned])
            won = rewards[bisect(ends, chance.random() * ends[-1])]
            total += -won if turned else won
        return total, -total


@cache
def odds(game: str, start: Begun, first: str, second: str) -> tuple[list[float], list[float]]:
    """What the first to act may win, and the chance of it or of what stands before it."""
    policies = [noisy(GAMES[game].optimal, float(skill)) for skill in (first, second)]

    @cache
    def chances(state: Begun) -> dict[float, float]:
        if state.rewards:
            return {state.rewards[0]: 1.0}
        found: dict[float, float] = {}
        for action, share in policies[state.player](state.observation).items():
            for reward, chance in chances(state.after(action)).items() if share else ():
                found[reward] = found.get(reward, 0.0) + share * chance
        return found

    law = chances(start)
    return list(law), list(accumulate(law.values()))


def says(skill: float) -> Player:
    """A player of `Drawn`."""
    return lambda _, luck: f"{skill:.2f} {luck}"


class AsShipped:
    """Rates the same matches as the package does by default."""

    def __init__(self, names: Sequence[str]) -> None:
        self.model = require("openskill.models", extra="ratings").BradleyTerryFull()
        self.known = {name: self.model.rating() for name in names}
        self.first: Played | None = None

    def __call__(self, game: Played) -> None:
        """The second game of a match completes it."""
        if self.first is None:
            self.first = game
            return
        one, other = game.seats
        score = game.rewards[0] + self.first.rewards[1]
        rated = self.model.rate([[self.known[one]], [self.known[other]]], scores=[score, -score])
        (self.known[one],), (self.known[other],) = rated
        self.first = None

    def best(self) -> str:
        return max(self.known, key=lambda name: float(self.known[name].mu))


def picked(found: Mapping[str, Rating]) -> dict[str, str]:
    """The best by each rule; names are drawn at random, so ties fall to anyone."""
    return {rule: max(found, key=lambda name: worth(found[name])) for rule, worth in RULES.items()}


def ladder(game: str, seed: int, matching: Any) -> Iterator[tuple[int, str, bool]]:
    """(budget, rule, right) for players of fixed skills under names that tell nothing."""
    skills = Random(seed).sample(LADDER, len(LADDER))
    names = {f"p{number}": skill for number, skill in enumerate(skills)}
    best = max(names, key=names.__getitem__)
    shipped = AsShipped(list(names))
    contest = Tournament(Drawn(game), _players(names), matching=matching, seed=seed, seen=shipped)
    for budget in GAMES[game].budgets:
        choice = picked(contest.run(budget))
        yield from ((budget, rule, name == best) for rule, name in choice.items())
        yield budget, DEFAULT, shipped.best() == best


def newcomers(game: str, seed: int) -> Iterator[tuple[int, str, bool]]:
    """(games after the new ones came, rule, right)."""
    chance = Random(seed)
    skills = {f"p{number}": chance.choice(ANY) for number in range(8)}
    first = Tournament(Drawn(game), _players(skills), matching="round_robin", seed=f"{seed} first")
    known = first.run(400)
    kept = ratings.ranked(known)[:2]
    skills = {**{name: skills[name] for name in kept}, **{f"q{number}": chance.choice(ANY) for number in range(6)}}
    second = Tournament(Drawn(game), _players(skills), matching="round_robin", seed=f"{seed} second")
    second.ratings.update({name: known[name] for name in kept})
    for budget in (8, 16, 32, 64, 128):
        choice = picked(second.run(budget))
        yield from ((budget, rule, skills[name] == max(skills.values())) for rule, name in choice.items())


def _players(skills: Mapping[str, float]) -> dict[str, Player]:
    return {name: says(skill) for name, skill in skills.items()}


def evolved(kind: Kind, seed: int, k: float) -> float:
    """The skill of what the loop picks at the end."""

    def player_of(text: str) -> Player:
        return player(noisy(kind.optimal, skill_of(text)))

    memo = Memo(games=112, k=k, seed=seed)
    loop = Evolution(kind.env, player_of, scripted(seed), first=["skill 0.40"], memo=memo)
    return skill_of(loop.run().best.text)


def skill_of(text: str) -> float:
    return max(map(float, re.findall(r"skill (\d\.\d+)", text)), default=0.4)


def scripted(seed: int) -> Callable[[list[dict[str, Any]]], str]:
    """A model that writes a prompt a little worse than the better parent on average, and now and then a better one."""
    chance = Random(seed)

    def generate(messages: list[dict[str, Any]]) -> str:
        text = messages[-1]["content"]
        if "operations" in text:
            return json.dumps({"operations": [{"type": "add", "text": f"lesson {chance.getrandbits(30)}"}]})
        return f"skill {min(max(chance.gauss(skill_of(text) - 0.05, 0.1), 0.0), 1.0):.4f}"

    return generate


# -- the tables ------------------------------------------------------------------------------------------------------------


def counted(setting: str, game: str, repetitions: int) -> Iterator[dict[str, Any]]:
    """A line a budget and rule."""
    right: dict[tuple[int, str], list[bool]] = {}
    for seed in range(repetitions):
        matching = "round_robin" if setting == "equal" else setting
        tries = newcomers(game, seed) if setting == "newcomers" else ladder(game, seed, matching)
        for budget, rule, hit in tries:
            right.setdefault((budget, rule), []).append(hit)
    for (budget, rule), hits in right.items():
        gain = paired(hits, right[budget, "mu"])
        line = {"setting": setting, "game": game, "games": budget, "rule": rule, "right": fmean(hits)}
        yield {**line, "interval": wilson(sum(hits), len(hits)), **gain, "n": len(hits)}


def looped(game: str, repetitions: int) -> Iterator[dict[str, Any]]:
    """A line a rule."""
    found = {rule: [evolved(GAMES[game], seed, k) for seed in range(repetitions)] for rule, k in LOOPED.items()}
    for rule, skills in found.items():
        over = spread(skills)
        line = {"setting": "loop", "game": game, "games": 560, "rule": rule, "skill": over.mean}
        yield {**line, "deviation": over.deviation, **paired(skills, found["mu"]), "n": over.runs}


LOOPED = {"mu": 0.0, "mu - sigma": 1.0}


def paired(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    gains = [float(one) - float(other) for one, other in zip(ours, theirs, strict=True)]
    return {"gain": fmean(gains), "plus_minus": Z * stdev(gains) / len(gains) ** 0.5}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    share, z = hits / n, Z * Z / n
    middle, half = share + z / 2, Z * (share * (1 - share) / n + z / (4 * n)) ** 0.5
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def shown(line: Mapping[str, Any]) -> str:
    gain = f"{line['gain']:+.3f} ± {line['plus_minus']:.3f}"
    start = f"{line['setting']:9} {line['game']:9} {line['games']:5} games  {line['rule']:17}"
    if line["setting"] == "loop":
        return f"{start} skill {line['skill']:.3f} (sd {line['deviation']:.3f})  gain {gain}"
    low, high = line["interval"]
    return f"{start} right {line['right']:.3f} ({low:.2f} to {high:.2f})  gain {gain}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", nargs="+", choices=GAMES, default=list(GAMES))
    settings = ["equal", "top_two", "newcomers", "loop"]
    parser.add_argument("--setting", nargs="+", choices=settings, default=settings)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(arguments)
    for setting in given.setting:
        for game in given.game:
            lines = looped(game, given.repetitions) if setting == "loop" else counted(setting, game, given.repetitions)
            for line in lines:
                sys.stdout.write(f"{json.dumps(line) if given.json else shown(line)}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
