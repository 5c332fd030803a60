"""What the model is asked in the loop of `memctx.train.insights`: requests as role/content dicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memctx.errors import ConfigError
from memctx.experience import Experience
from memctx.train._positions import Met, contested, strategic
from memctx.train.tournament import Played

Messages = list[dict[str, Any]]

GAMES = 20  # games shown at once
POSITIONS = 5  # positions of each kind shown
LONGEST = 400  # characters of an observation or an answer shown; the end of an answer holds the action

OPERATIONS = """Answer with JSON only: {"operations": [...]}, each one of
{"type": "add", "text": "..."}            a new lesson: general, one or two sentences, tied to what was seen
{"type": "edit", "id": 3, "text": "..."}  the lesson said better
{"type": "remove", "id": 3}               the games speak against it
{"type": "merge", "ids": [1, 2], "text": "..."}  one for several that say the same"""


def reflection(rules: str, games: Sequence[Played], met: Sequence[Met], bank: Sequence[Experience]) -> Messages:
    """Ask for operations on the bank, given what was played."""
    parts = [
        f"Games:\n{_lines(map(game, games[-GAMES:]))}",
        f"Positions after which nearly all games went one way:\n{_lines(map(_position, strategic(met, POSITIONS)))}",
        f"Positions whose outcome was open, so that play decided it:\n{_lines(map(_position, contested(met, POSITIONS)))}",
        f"Lessons so far:\n{lessons(bank)}",
        OPERATIONS,
    ]
    return _asked(f"You study finished games and keep a short list of lessons.\n{rules}", "\n\n".join(parts))


def written(rules: str, parents: Sequence[str], insights: Sequence[Experience]) -> Messages:
    """Ask for a new prompt: from its parents where there are some, and from insights where there are some."""
    parts = [f"Prompt {number}:\n{text}" for number, text in enumerate(parents, 1)]
    if insights:
        parts.append(f"Lessons to build on:\n{lessons(insights)}")
    parts.append("Write one prompt for the player, better than these. Answer with the prompt and nothing else.")
    return _asked(f"You write the prompt that a player is given before a game.\n{rules}", "\n\n".join(parts))


def lessons(items: Iterable[Experience]) -> str:
    """One a line, with its id and how those fared who were told it."""
    return _lines(f"[{item.id}] ({item.helped:+.1f} in {item.outcomes}) {item.advice}" for item in items)


def said(answer: Any) -> str:
    """A model's answer as text; "" where it gave none. Raises `ConfigError` for what can be no answer."""
    if answer is not None and not isinstance(answer, str):
        raise ConfigError(f"generate answered with {type(answer).__name__}: it must return text", field="generate")
    return answer or ""


def told(prompt: str, items: Iterable[Experience]) -> str:
    """A prompt with the insights that it does not hold yet, one a line."""
    return "\n".join([prompt, *(f"- {item.advice}" for item in items if item.advice not in prompt)])


def game(played: Played) -> str:
    """A game as text, every part bounded."""
    results = ", ".join(f"{name} {reward:+g}" for name, reward in zip(played.seats, played.rewards, strict=True))
    moves = (f"{played.seats[m.seat]} saw: {m.observation[:LONGEST]} -> {m.answer[-LONGEST:]}" for m in played.moves)
    return f"{results}\n  " + "\n  ".join(move.replace("\n", " / ") for move in moves)


def _position(met: Met) -> str:
    shown = met.observation[:LONGEST].replace("\n", " / ")
    return f"{shown}: met {met.count} times, won {met.won:.0%}, lost {met.lost:.0%}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) or "none"


def _asked(system: str, user: str) -> Messages:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
