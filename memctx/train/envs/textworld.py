"""TextWorld and ALFWorld: text games as they come, and TextWorld's own made on the spot.

M.-A. Cote et al., "TextWorld" (1806.11532); M. Shridhar et al., "ALFWorld" (2010.03768). Games run in the package `textworld`;
those of ALFWorld also need `fast-downward-textworld`, which plans and steps them.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from memctx.component import Component
from memctx.errors import ConfigError, require

SUFFIXES = (".z8", ".ulx", ".tw-pddl")
META = {
    "",
    "quit",
    "restart",
    "save",
    "restore",
    "undo",
    "script",
    "transcript",
    "verify",
}  # about the program, not the game
PICTURE = re.compile(r"\s*[_$|\\][\s_$|\\/<>]*")
LONGEST = 200  # characters of a command
OPEN = 8  # games that are held open at once


class TextWorld(Component):
    """`path`: a game file, a folder of them, or JSON lines with ALFWorld's "game.tw-pddl"; seed n is game n, over and over.

    Without a path TextWorld makes a game from the seed: `rooms`, `objects`, and a quest of `quest` commands. The reward is 1
    where the game is won within `turns`. With `commands` the player is shown what may be done.
    """

    path: str = ""
    rooms: int = Field(default=3, ge=1, le=50)
    objects: int = Field(default=5, ge=1, le=100)
    quest: int = Field(default=4, ge=1, le=30)
    turns: int = Field(default=50, ge=1)
    commands: bool = True
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "You play a text game. End your answer with a line that is one command of the game, such as: go east"
    )

    def start(self, seed: int) -> Playing:
        """Raises `MissingDependency` without the package and `ConfigError` where there is no game."""
        return Playing(self, seed)

    def expert(self, seed: int) -> list[str]:
        """Commands that win, by the game's own walkthrough or plan."""
        file = _file(self, seed)  # pyright: ignore[reportArgumentType]  # frozen, so it has a hash
        _, state = _begun(file, policy_commands=True)
        return [_plain(file, command) for command in state.policy_commands]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a command led to."""

    text: str
    commands: tuple[str, ...]
    won: bool
    over: bool


@dataclass(frozen=True, slots=True)
class Playing:
    """`said`: the commands so far. The game's position follows from them, so it is played again where it was left."""

    of: TextWorld
    seed: int
    said: tuple[str, ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def scene(self) -> Scene:
        return _scene(self.of, self.seed, self.said)  # pyright: ignore[reportArgumentType]  # frozen, so it has a hash

    @property
    def observation(self) -> str:
        if self.rewards:
            return ""
        offered = f"\n\nYou may: {', '.join(self.scene.commands)}" if self.of.commands and self.scene.commands else ""
        return f"{self.scene.text}{offered}"

    @property
    def rewards(self) -> tuple[float, ...]:
        ended = self.scene.over or len(self.said) == self.of.turns
        return (float(self.scene.won),) if ended else ()

    def after(self, text: str) -> Playing:
        """The last line that says something is the command."""
        lines = [line for line in text.splitlines() if line.strip()]
        command = re.sub(r"[^\w\s'/,.-]", " ", lines[-1] if lines else "")
        return replace(self, said=(*self.said, " ".join(command.split())[:LONGEST].lower()))


@dataclass(slots=True)
class Held:
    """A game that is open, and where it stands."""

    file: str
    game: Any
    scene: Scene

    def step(self, command: str) -> None:
        """What is no command of the game is not given to it: an interpreter may wait for ever on one that is about itself."""
        if self.scene.over:
            return
        if command.partition(" ")[0] in META:
            self.scene = replace(self.scene, text="Say what you do, as one command of the game.")
            return
        state, _, over = self.game.step(_mangled(self.file, command))
        self.scene = _seen(self.file, state, over=over)


_open: OrderedDict[tuple[TextWorld, int, tuple[str, ...]], Held] = OrderedDict()


@lru_cache(maxsize=4096)
def _scene(of: TextWorld, seed: int, said: tuple[str, ...]) -> Scene:
    """Where the commands lead: one step on from a game that is held open there, or all steps from the start."""
    held, left = (_open.pop((of, seed, said[:-1]), None), said[-1:]) if said else (None, said)
    if held is None:
        file = _file(of, seed)  # pyright: ignore[reportArgumentType]  # frozen, so it has a hash
        game, state = _begun(file)
        held, left = Held(file, game, _seen(file, state, over=False)), said
    for command in left:
        held.step(command)
    _open[of, seed, said] = held
    while len(_open) > OPEN:
        _open.popitem(last=False)[1].game.close()
    return held.scene


def _begun(file: str, **wanted: bool) -> tuple[Any, Any]:
    """A game and its first state."""
    textworld = require("textworld", extra="games")
    infos = textworld.EnvInfos(feedback=True, won=True, admissible_commands=True, **wanted)
    game = textworld.start(file, infos)
    return game, game.reset()


def _seen(file: str, state: Any, *, over: bool) -> Scene:
    """Without the title's picture and the prompt with its status line."""
    lines = [line for line in state.feedback.splitlines() if not PICTURE.fullmatch(line) and not line.startswith(">")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    commands = tuple(_plain(file, each) for each in state.admissible_commands or ())
    return Scene(_plain(file, text), commands, bool(state.won), over)


# -- files -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where games that are made or unpacked stand while the process lives."""
    return tempfile.TemporaryDirectory(prefix="memctx-textworld-")


@lru_cache(maxsize=1024)
def _file(of: TextWorld, seed: int) -> str:
    if not of.path:
        return _made(of, seed)
    path = Path(of.path)
    if ".jsonl" in path.suffixes:
        lines = _lines(of.path)
        return _unpacked(of.path, seed % len(lines), lines[seed % len(lines)])
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES)
    if not found:
        raise ConfigError(f"path = {of.path!r}: no game ({', '.join(SUFFIXES)} or .jsonl.gz) is there", field="path")
    return str(found[seed % len(found)])


@lru_cache(maxsize=4)
def _lines(path: str) -> tuple[str, ...]:
    raw = Path(path).read_bytes()
    return tuple((gzip.decompress(raw) if path.endswith(".gz") else raw).decode().splitlines())


def _unpacked(path: str, number: int, line: str) -> str:
    file = Path(_folder().name) / f"{Path(path).name}-{number}.tw-pddl"
    file.write_text(json.dumps(json.loads(line)["game.tw-pddl"]), encoding="utf-8")
    return str(file)


def _made(of: TextWorld, seed: int) -> str:
    """A game of the seed's, compiled in some seconds."""
    textworld = require("textworld", extra="games")
    options = textworld.GameOptions()
    options.seeds, options.nb_rooms, options.nb_objects = seed % 2**32, of.rooms, of.objects
    options.quest_length = of.quest
    options.path = str(Path(_folder().name) / f"{of.rooms}-{of.objects}-{of.quest}-{seed}.z8")
    file, _ = textworld.make(options)
    return str(file)


# -- ALFWorld's names: desk_bar__minus_00_dot_57_bar_... is "desk 1" to the player -------------------------------------


@lru_cache(maxsize=1024)
def _names(file: str) -> dict[str, str]:
    """Name in the game -> name to the player, numbered by kind in their order."""
    if not file.endswith(".tw-pddl"):
        return {}
    problem = json.loads(Path(file).read_text(encoding="utf-8"))["pddl_problem"].lower()
    count: Counter[str] = Counter()
    found = {}
    for name in sorted(set(re.findall(r"\b[a-z]+_bar_\w+", problem))):
        kind = name.partition("_bar_")[0]
        count[kind] += 1
        found[name] = f"{kind} {count[kind]}"
    return found


def _plain(file: str, text: str) -> str:
    names = _names(file)
    return re.sub(r"\b[a-z]+_bar_\w+", lambda each: names.get(each[0], each[0]), text)


def _mangled(file: str, command: str) -> str:
    names = {plain: name for name, plain in _names(file).items()}
    return re.sub(r"\b[a-z]+ \d+\b", lambda each: names.get(each[0], each[0]), command)
