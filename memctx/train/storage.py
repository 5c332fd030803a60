"""Rollouts on disk: a JSON line each, the tokens beside them as safetensors. `memctx replay` reads the lines as runs.

A folder holds numbered parts. The tokens are written first and the lines last, each aside and then renamed, so a part that can be
seen is whole. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from memctx.errors import ConfigError, require
from memctx.train.rollouts import Rollout, Segment, Turn

SCHEMA = 1
ARRAYS = {"prompt": np.int32, "response": np.int32, "roles": np.int32, "logp": np.float32}


def write(folder: str | Path, rollouts: Sequence[Rollout]) -> Path:
    """Add a part with these rollouts; returns its file of lines. Raises `ConfigError` for a rollout that is not sound."""
    for each in rollouts:
        each.check()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name.split(".")[0]) for path in folder.glob("*.jsonl")), default=0)
    segments = [segment for each in rollouts for segment in each.segments]
    tokens, lines = folder / f"{number:06}.safetensors", folder / f"{number:06}.jsonl"
    arrays = {name: _joined([getattr(each, name) for each in segments], kind) for name, kind in ARRAYS.items()}
    require("safetensors.numpy", extra="train").save_file(arrays, _aside(tokens))
    _aside(tokens).replace(tokens)
    with _aside(lines).open("w", encoding="utf-8") as out:
        for each in rollouts:
            out.write(json.dumps({"schema": SCHEMA, **_plain(each)}, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    _aside(lines).replace(lines)
    return lines


def read(folder: str | Path) -> Iterator[Rollout]:
    """The rollouts of all parts, in order. Raises `ConfigError` naming the file and what is wrong."""
    parts = sorted(Path(folder).glob("*.jsonl"))
    if not parts:
        raise ConfigError(f"{folder} holds no rollouts: give a folder that `storage.write` wrote", field="folder")
    for lines in parts:
        tokens = lines.with_suffix(".safetensors")
        if not tokens.exists():
            raise ConfigError(f"{lines} has no tokens beside it: {tokens.name} is missing", field="folder")
        arrays = require("safetensors.numpy", extra="train").load_file(tokens)
        at = dict.fromkeys(ARRAYS, 0)
        for number, line in enumerate(lines.read_text(encoding="utf-8").splitlines(), 1):
            yield _rollout(json.loads(line), arrays, at, f"{lines}, line {number}")


def _plain(rollout: Rollout) -> dict[str, Any]:
    fields = ("id", "group", "status", "source", "outcome", "messages", "meta")
    sizes = [[len(each.prompt), len(each.response), each.version] for each in rollout.segments]
    turns = [asdict(turn) for turn in rollout.turns]
    return {**{name: getattr(rollout, name) for name in fields}, "turns": turns, "segments": sizes}


def _rollout(data: dict[str, Any], arrays: dict[str, Any], at: dict[str, int], where: str) -> Rollout:
    if data.pop("schema", None) != SCHEMA:
        raise ConfigError(f"{where}: not written by this version; known schema: {SCHEMA}", field="schema")
    segments = []
    for prompt, response, version in data.pop("segments"):
        taken = {name: _take(arrays, at, name, prompt if name == "prompt" else response, where) for name in ARRAYS}
        segments.append(Segment(**taken, version=version))
    turns = [Turn(**{**turn, "span": tuple(turn["span"])}) for turn in data.pop("turns")]
    found = Rollout(**data, turns=turns, segments=segments)
    found.check()
    return found


def _take(arrays: dict[str, Any], at: dict[str, int], name: str, size: int, where: str) -> Any:
    start = at[name]
    at[name] += size
    if at[name] > len(arrays[name]):
        raise ConfigError(f"{where}: the tokens end too soon ({name}); the two files are not of one part", field=name)
    return arrays[name][start : at[name]]


def _joined(arrays: Sequence[Any], kind: type) -> Any:
    return np.concatenate(arrays).astype(kind) if arrays else np.zeros(0, kind)


def _aside(path: Path) -> Path:
    return path.with_suffix(path.suffix + ".new")
