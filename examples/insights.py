"""Prompts that learn tic-tac-toe by playing each other: what is learned stands in a bank, and new prompts are written from it.

Runs offline in seconds: a scripted player and a scripted model stand where two calls of a model would. Needs
`memctx-agents[ratings]`.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from memctx.train.envs.tictactoe import LINES, TicTacToe
from memctx.train.insights import Evolution, Generation, Memo, spread
from memctx.train.tournament import Player

LESSONS = ("Complete your own line when you can.", "Block a line of theirs.", "Take the centre while it is free.")


def player_of(prompt: str) -> Player:
    """With a model: `lambda seen, seed: ask([{"role": "system", "content": prompt}, {"role": "user", "content": seen}])`."""

    def answer(seen: str, seed: int) -> str:
        me, squares = seen[8], "".join(seen.splitlines()[1:])
        them = "XO"[me == "X"]
        wanted = {LESSONS[0]: thirds(squares, me), LESSONS[1]: thirds(squares, them), LESSONS[2]: {4}}
        for lesson in LESSONS:
            places = sorted(place for place in wanted[lesson] if lesson in prompt and squares[place] == ".")
            if places:
                return f"{lesson} So: {places[0]}"
        return str(Random(seed).choice([place for place in range(9) if squares[place] == "."]))

    return answer


def thirds(squares: str, mark: str) -> set[int]:
    """Squares that complete a line of this mark."""
    rows = [line for line in LINES if [squares[place] for place in line].count(mark) == 2]
    return {place for line in rows for place in line if squares[place] == "."}


def generate(messages: list[dict[str, Any]]) -> str:
    """Sees a lesson in the games now and then, and writes prompts from the lessons it is given."""
    text = messages[-1]["content"]
    if "operations" in text:
        lesson = Random(text).choice(LESSONS)
        return json.dumps({"operations": [{"type": "add", "text": lesson}]})
    found = [lesson for lesson in LESSONS if lesson in text]
    kept = Random(text).sample(found, Random(text).randint(0, len(found)))
    return " ".join(["You play tic-tac-toe.", *kept])


def learned(seed: int) -> float:
    """The best prompt's mean reward a game against a player of no prompt."""
    memo = Memo(population=6, generations=5, games=60, evaluation=60, seed=seed)
    loop = Evolution(
        TicTacToe(), player_of, generate, first=["You play to win."], memo=memo, opponents={"none": player_of("")}
    )
    result = loop.run()
    if not seed:
        for each in result.generations:
            shown(each)
        print("learned:", *(f"[{item.id}] {item.advice}" for item in loop.bank.items))
        print(f"best: {result.best.text!r}, {result.rating.mu:.1f} ± {result.rating.sigma:.1f}")
    return result.generations[-1].evaluation or 0.0


def shown(each: Generation) -> None:
    rating = each.ratings[each.best.name]
    words = re.sub(r"\s+", " ", each.best.text)
    print(f"generation {each.number}: {each.evaluation:+.2f} a game, at least {rating.lower():.1f}: {words}")


def main() -> None:
    over = spread([learned(seed) for seed in range(5)])
    print(f"five runs: {over.mean:+.2f} a game, standard deviation {over.deviation:.2f}, least {over.least:+.2f}")


if __name__ == "__main__":
    main()
