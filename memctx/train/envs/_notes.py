"""Memory as a value, written with Mem-alpha's tools (arXiv 2509.25911). `memctx.dialects.mem_alpha` is the same over a store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from memctx.dialects import _mem_alpha as texts
from memctx.dialects._calls import BAD_INPUT, chosen, read, text
from memctx.dialects.mem_alpha import LISTS, TYPES
from memctx.errors import FilterError, LimitError, NotFound

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """`id`: hex, never given twice; `kind`: semantic or episodic."""

    id: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Notes:
    """`room`: words that it holds at most; `items`: by when they were last written; `made`: ids given so far."""

    room: int
    core: str = ""
    items: tuple[Item, ...] = ()
    made: int = 0

    @property
    def words(self) -> int:
        """How many words it holds."""
        return sum(map(size, self.texts))

    @property
    def texts(self) -> tuple[str, ...]:
        """The core, and every item from the oldest to the newest."""
        return (self.core, *(item.text for item in self.items)) if self.core else tuple(i.text for i in self.items)

    def call(self, name: Any, arguments: Any) -> tuple[Notes, dict[str, str]]:
        """Memory after a call, and the answer: `status` ok, skipped or error, the last two with a `message`."""
        try:
            after = chosen({"tool": name}, "tool", _CALLS)(self, read(arguments))
            if after.words > max(self.room, self.words):
                raise LimitError(f"memory holds {self.room} words: update or delete before you add")
        except BAD_INPUT as cause:
            return self, {"status": "error", "message": str(cause)}
        if after == self and name == "new_memory_insert":
            return self, {"status": "skipped", "message": "this is in memory already"}
        return after, {"status": "ok"}

    def render(self) -> str:
        """As a writer's prompt shows it."""
        lists = (
            texts.block(name, "", (f"[{each.id}] {each.text}" for each in self.items if each.kind == TYPES[name]))
            for name in LISTS
        )
        return "\n".join([texts.block("core_memory", "", [self.core] if self.core else []), *lists])

    def _insert(self, arguments: Arguments) -> Notes:
        kind, content = chosen(arguments, "memory_type", {name: TYPES[name] for name in LISTS}), _content(arguments)
        if any((each.kind, each.text) == (kind, content) for each in self.items):
            return self
        return replace(self, items=(*self.items, Item(f"{self.made:04x}", kind, content)), made=self.made + 1)

    def _update(self, arguments: Arguments) -> Notes:
        kind, content = chosen(arguments, "memory_type", TYPES), _content(arguments, "new_content")
        if kind == "core":
            return replace(self, core=content)
        old = self._item(kind, arguments)
        return replace(self, items=(*(each for each in self.items if each != old), replace(old, text=content)))

    def _delete(self, arguments: Arguments) -> Notes:
        kind = chosen(arguments, "memory_type", TYPES)
        if kind == "core":
            return replace(self, core="")
        old = self._item(kind, arguments)
        return replace(self, items=tuple(each for each in self.items if each != old))

    def _item(self, kind: str, arguments: Arguments) -> Item:
        wanted = text(arguments, "memory_id").strip().strip("[]").lower()
        found = next((each for each in self.items if (each.kind, each.id) == (kind, wanted)), None)
        if found is None:
            raise NotFound(f"no {kind} item {wanted!r:.40}: use an id that is shown")
        return found


def size(text: str) -> int:
    """How many words a text has, as a search for words sees them: a hyphen or comma in place of a space saves nothing."""
    return len(re.findall(r"\w+", text))


def _content(arguments: Arguments, name: str = "content") -> str:
    """A text that says something, on one line."""
    found = " ".join(text(arguments, name).split())
    if not found:
        raise FilterError(f"{name} is empty: give a text", field=name)
    return found


_CALLS: Mapping[str, Callable[[Notes, Arguments], Notes]] = {
    "new_memory_insert": Notes._insert,
    "memory_update": Notes._update,
    "memory_delete": Notes._delete,
}
