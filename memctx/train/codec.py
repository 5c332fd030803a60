"""Codecs: messages to ids and back. What a policy sampled is kept as it was sampled and never tokenised again.

A codec writes each message by itself, so that a longer history begins with the ids of a shorter one: that is what lets a
segment go on for as long as nothing was rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from memctx.errors import ConfigError, require

ROLES = ("system", "user", "assistant", "tool")


class Codec(Protocol):
    """`stop`: ids that end a turn; `pad`: an id for padding; `size`: how many ids there are."""

    stop: frozenset[int]
    pad: int
    size: int

    def head(self, role: str) -> list[int]:
        """What stands before a message's text."""
        ...

    def body(self, text: str) -> list[int]:
        """The text."""
        ...

    def tail(self) -> list[int]:
        """What stands after it; begins with a stop id."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Sampled ids as text, without what ends the turn."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Plain data from which `load` makes an equal codec; what else it needs is written into the folder."""
        ...


class Bytes:
    """UTF-8 bytes, an id a role and one that ends a message: for models that are trained from nothing."""

    def __init__(self) -> None:
        self._end = 256
        self._roles = {role: 257 + place for place, role in enumerate(ROLES)}
        self.stop = frozenset([self._end])
        self.pad = 257 + len(ROLES)
        self.size = self.pad + 1

    def head(self, role: str) -> list[int]:
        return [self._roles.get(role, self._roles["user"])]

    def body(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "replace"))

    def tail(self) -> list[int]:
        return [self._end]

    def text(self, ids: Sequence[int]) -> str:
        return bytes(each for each in ids if each < self._end).decode("utf-8", "replace")

    def save(self, folder: Path) -> dict[str, Any]:
        return {"use": "bytes"}


class Symbols:
    """The characters of `alphabet`, an id each; others are left out. The smallest world there is, for models made of nothing."""

    def __init__(self, alphabet: str) -> None:
        self._alphabet = alphabet
        self._ids = {symbol: place for place, symbol in enumerate(alphabet)}
        self._end = len(alphabet)
        self._roles = {role: self._end + 1 + place for place, role in enumerate(ROLES)}
        self.stop = frozenset([self._end])
        self.pad = self._end + 1 + len(ROLES)
        self.size = self.pad + 1

    def head(self, role: str) -> list[int]:
        return [self._roles.get(role, self._roles["user"])]

    def body(self, text: str) -> list[int]:
        return [self._ids[symbol] for symbol in text if symbol in self._ids]

    def tail(self) -> list[int]:
        return [self._end]

    def text(self, ids: Sequence[int]) -> str:
        return "".join(self._alphabet[each] for each in ids if each < self._end)

    def save(self, folder: Path) -> dict[str, Any]:
        return {"use": "symbols", "alphabet": self._alphabet}


class ChatML:
    """A Hugging Face tokenizer whose chat form is <|im_start|>role, text, <|im_end|>: Qwen, SmolLM, Hermes and others."""

    def __init__(self, tokenizer: Any, start: str = "<|im_start|>", end: str = "<|im_end|>") -> None:
        self.tokenizer = tokenizer
        self._start, self._end = start, end
        closing = tokenizer.convert_tokens_to_ids(end)
        self.stop = frozenset([closing])
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else closing
        self.size = len(tokenizer)

    def head(self, role: str) -> list[int]:
        return self.body(f"{self._start}{role}\n")

    def body(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def tail(self) -> list[int]:
        return self.body(f"{self._end}\n")

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode([each for each in ids if each not in self.stop]))

    def save(self, folder: Path) -> dict[str, Any]:
        self.tokenizer.save_pretrained(folder)
        return {"use": "chatml", "start": self._start, "end": self._end}


def load(data: Mapping[str, Any], folder: Path) -> Codec:
    """The codec that `save` wrote. Raises `ConfigError` for a kind that is not known here."""
    options = {name: value for name, value in data.items() if name != "use"}
    match data.get("use"):
        case "bytes":
            return Bytes()
        case "symbols":
            return Symbols(**options)
        case "chatml":
            tokenizers = require("transformers", extra="train").AutoTokenizer
            return ChatML(tokenizers.from_pretrained(folder, local_files_only=True), **options)
    raise ConfigError(f"codec {data.get('use')!r} is not known here: use 'bytes', 'symbols' or 'chatml'", field="codec")


class Tape:
    """The ids of one run's messages. `keep` what was sampled; `prompt` gives the ids of a view."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._kept: dict[int, tuple[Mapping[str, Any], list[int]]] = {}  # by the object, which is held so that it stays

    def keep(self, message: Mapping[str, Any], sampled: Sequence[int]) -> None:
        """`message` is what `sampled` said."""
        tail = self.codec.tail()
        if sampled and sampled[-1] == tail[0]:
            tail = tail[1:]
        ids = [*self.codec.head("assistant"), *sampled, *tail]
        self._kept[id(message)] = (message, ids)

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The messages' ids, and the opening of the assistant's next one."""
        ids: list[int] = []
        for message in messages:
            kept = self._kept.get(id(message))
            ids += kept[1] if kept is not None else written(self.codec, message)
        return ids + self.codec.head("assistant")

    def fork(self) -> Tape:
        """A copy that goes its own way."""
        copy = Tape(self.codec)
        copy._kept = dict(self._kept)
        return copy


def written(codec: Codec, message: Mapping[str, Any]) -> list[int]:
    """A whole message as ids: its text and the arguments of its calls."""
    calls = (call["function"]["arguments"] for call in message.get("tool_calls") or ())
    text = "".join([str(message.get("content") or ""), *calls])
    return [*codec.head(str(message["role"])), *codec.body(text), *codec.tail()]
