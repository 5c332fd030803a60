"""Tic-tac-toe: three in a row wins. The rewards are 1, 0 and −1; perfect players draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from memctx.component import Component
from memctx.train.envs import action

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
EMPTY = "." * 9


class TicTacToe(Component):
    """Two players, X first. The seed decides nothing: there is no chance in it."""

    players: ClassVar[int] = 2
    rules: ClassVar[str] = (
        "Tic-tac-toe on squares 0 to 8, row by row. Three in a row win. End your answer with the number of an empty square; "
        "anything else loses."
    )

    def start(self, seed: int) -> Board:
        return Board()


@dataclass(frozen=True, slots=True)
class Board:
    """Nine squares, row by row. `loser` answered with what is no move."""

    squares: str = EMPTY
    loser: int | None = None

    @property
    def player(self) -> int:
        return mover(self.squares)

    @property
    def observation(self) -> str:
        rows = "\n".join(self.squares[start : start + 3] for start in (0, 3, 6))
        return f"You are {'XO'[self.player]}.\n{rows}"

    @property
    def actions(self) -> tuple[str, ...]:
        return () if self.rewards else moves(self.squares)

    @property
    def rewards(self) -> tuple[float, ...]:
        if self.loser is not None:
            return (-1.0, 1.0) if self.loser == 0 else (1.0, -1.0)
        return result(self.squares)

    def after(self, text: str) -> Board:
        move = action(text, self.actions)
        return Board(self.squares, self.player) if move is None else Board(played(self.squares, move))


def mover(squares: str) -> int:
    """0 for X, 1 for O."""
    return (9 - squares.count(".")) % 2


@cache
def moves(squares: str) -> tuple[str, ...]:
    """The empty squares."""
    return tuple(str(index) for index, square in enumerate(squares) if square == ".")


@cache
def result(squares: str) -> tuple[float, ...]:
    """The rewards of X and O; empty while the game goes on."""
    for a, b, c in LINES:
        if squares[a] != "." and squares[a] == squares[b] == squares[c]:
            return (1.0, -1.0) if squares[a] == "X" else (-1.0, 1.0)
    return () if "." in squares else (0.0, 0.0)


def played(squares: str, move: str) -> str:
    """The squares after a legal move."""
    return squares[: int(move)] + "XO"[mover(squares)] + squares[int(move) + 1 :]


@cache
def worth(squares: str) -> float:
    """The reward of the player to move when both play perfectly."""
    if ended := result(squares):
        return ended[mover(squares)]
    return max(-worth(played(squares, move)) for move in moves(squares))


@cache
def optimal(observation: str) -> dict[str, float]:
    """The chance of each legal move when one plays perfectly: equal among the best."""
    squares = observation.partition("\n")[2].replace("\n", "")
    best = [move for move in moves(squares) if -worth(played(squares, move)) == worth(squares)]
    return {move: (1 / len(best) if move in best else 0.0) for move in moves(squares)}
