"""The four tools of Mem-alpha (arXiv 2509.25911): a core paragraph, semantic facts, episodic events.

    tools = MemAlpha(memory.at("acme", "ana"))
    request["tools"] = tools.schemas
    result = tools.call(call.function.name, call.function.arguments)

An id is the hex number of an item's first row: it stays when the text changes, and no two items share one. A change is a new
version and a deletion a retraction, so both stand in the history.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from memctx.dialects import _mem_alpha as texts
from memctx.dialects._calls import BAD_INPUT, again, chosen, kept, read, text
from memctx.errors import ConfigError, FilterError, NotFound
from memctx.records import Kind, Record, trust_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.scoped import Scoped
    from memctx.stores._visible import Place

TYPES: Mapping[str, Kind] = {"core_memory": "core", "semantic_memory": "semantic", "episodic_memory": "episodic"}
LISTS = ("semantic_memory", "episodic_memory")
METHODS: Mapping[str, Literal["words", "meaning"]] = {"bm25": "words", "text-embedding": "meaning"}
PARAGRAPH = "core_memory"  # what the model's own core paragraph is about
FIRST = "mem_alpha"  # in the meta of a later version: the number of the first row
SHOWN = 5
PROMPT_TOKENS = 6_144
TOP = 20

Arguments = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MemAlpha:
    """The tools over one scope.

    `disabled`: types that are switched off ("core", "semantic", "episodic"); they leave the schemas. `source`: who the texts
    come from; "tool" where the model read untrusted text. `count`: tokens of a text, by default with o200k_base.
    """

    scoped: Scoped
    disabled: Sequence[str] = ()
    source: str = "model"
    count: Callable[[str], int] | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.disabled) - set(TYPES.values()):
            raise ConfigError(f"disabled = {min(unknown)!r}: use {', '.join(TYPES.values())}", field="disabled")
        trust_of(self.source)

    # -- what the model is shown -------------------------------------------------------------------------------------

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """All four tools in OpenAI's function form."""
        return [*self.writer_schemas, *self.reader_schemas]

    @property
    def writer_schemas(self) -> list[dict[str, Any]]:
        """The tools of the model that memorises: insert, update, delete."""
        return texts.writer_schemas([*self._types(LISTS)], [*self._types(TYPES)])

    @property
    def reader_schemas(self) -> list[dict[str, Any]]:
        """The tool of the model that answers: search."""
        return texts.reader_schemas([*self._types(LISTS)], METHODS, TOP)

    def render(self, *, beside: int = 0, limit: int = PROMPT_TOKENS) -> str:
        """Memory as the writer's prompt shows it: the core in full, and the most recent items of each list.

        There are 5 of each, halved until this text and the `beside` tokens around it fit into `limit`. Records below trust
        "model" are left out, since a prompt is no place for text that nobody vouches for; `search_memory` finds them.
        """
        types, count = self._types(TYPES), self._count()
        core = [texts.block("core_memory", "", (each.text for each in self._core()))] if "core_memory" in types else []
        recent = {name: self._recent(types[name]) for name in LISTS if name in types}
        shown = SHOWN
        while True:
            lists = [_listed(name, total, items[:shown]) for name, (total, items) in recent.items()]
            whole = "\n\n".join([*core, *lists])
            if not shown or beside + count(whole) <= limit:
                return whole
            shown //= 2

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, name: str, arguments: Any) -> str:
        """Answer a call with JSON: `status` is "ok", "skipped" or "error", the last with a `message` that says what to do."""
        try:
            answer = chosen({"tool": name}, "tool", _CALLS)(self, read(arguments))
        except BAD_INPUT as cause:
            answer = {"status": "error", "message": str(cause)}
        return json.dumps(answer, ensure_ascii=False)

    async def acall(self, name: str, arguments: Any) -> str:
        """As `call`, off the event loop."""
        return await asyncio.to_thread(self.call, name, arguments)

    def _insert(self, arguments: Arguments) -> Answer:
        if arguments.get("memory_type") == "core_memory":
            raise FilterError("core memory is one paragraph: write it with memory_update", field="memory_type")
        kind, content = chosen(arguments, "memory_type", self._types(LISTS)), text(arguments, "content")
        written = self.scoped.write(content, kind=kind, source=self.source)
        if any(event.op == "repeat" for event in self.scoped.history(written.id)):
            return {"status": "skipped", "message": f"this is in memory already, as {_id(written)}"}
        return {"status": "ok", "new_memory": {_id(written): written.text}}

    def _update(self, arguments: Arguments) -> Answer:
        kind, content = chosen(arguments, "memory_type", self._types(TYPES)), text(arguments, "new_content")
        if not content.strip():
            raise FilterError("new_content is empty: use memory_delete to take something out", field="new_content")
        if kind == "core":
            return {"status": "ok", "updated_memory": again(lambda: self._write_core(content))}
        number = _number(arguments)
        return {"status": "ok", "updated_memory": again(lambda: self._write_item(kind, number, content))}

    def _delete(self, arguments: Arguments) -> Answer:
        kind = chosen(arguments, "memory_type", self._types(TYPES))
        if kind == "core":
            again(lambda: self._retract(self._paragraph()))
        else:
            number = _number(arguments)
            again(lambda: self._retract([self._item(kind, number)]))
        return {"status": "ok"}

    def _search(self, arguments: Arguments) -> Answer:
        kind, query = chosen(arguments, "memory_type", self._types(LISTS)), text(arguments, "query")
        method = chosen(arguments, "search_method", {name: name for name in METHODS}, "bm25")
        hits = self.scoped.search(query, k=TOP, kinds=(kind,), by=METHODS[method])
        results = [[{_id(hit.record): hit.record.text}, round(float(hit.score), 6)] for hit in hits]
        return {"status": "ok", "results": results, "search_method": method}

    # -- rows --------------------------------------------------------------------------------------------------------

    def _write_core(self, content: str) -> str:
        fitted, old = texts.fitted(content, self._count()), self._paragraph()
        if not old or old[-1].text != fitted:
            supersedes = old[-1].id if old else None
            self.scoped.write(fitted, kind="core", source=self.source, about=PARAGRAPH, supersedes=supersedes)
        return fitted

    def _write_item(self, kind: Kind, number: int, content: str) -> dict[str, str]:
        old = _free(self._item(kind, number))
        written = self.scoped.supersede(
            old.id,
            content,
            kind=kind,
            source=self.source,
            trust=min(old.trust, trust_of(self.source)),
            about=old.about,
            sources=old.sources,
            meta={**old.meta, FIRST: _first(old)},
        )
        return {_id(written): written.text}

    def _retract(self, records: Iterable[Record]) -> None:
        self.scoped.retract(*(_free(each).id for each in records), why="memory_delete")

    def _item(self, kind: Kind, number: int) -> Record:
        """The version in force of what began as row `number`. Raises `NotFound`."""
        from memctx.stores import _visible as rows

        place, now = self.scoped.place, self.scoped.memory.clock()

        def work(conn: Connection, _: list[bytes]) -> Record | None:
            versions = _versions(conn, place, number)
            found = rows.fetch(conn, place, rows.Wanted((kind,)), now, versions)
            return found[max(found)] if found else None

        if (found := self.scoped.memory.run(work, [], writes=False)) is None:
            shown = f"{number:04x}"
            raise NotFound(
                f"no {kind} item {shown}: use an id that was shown to you, or search_memory", memory_id=shown
            )
        return found

    def _core(self) -> list[Record]:
        """Every core record that may stand in a prompt, oldest first, the model's paragraph last."""
        found = [each for each in self.scoped.list(kinds=("core",)) if each.trust >= trust_of("model")]
        return sorted(found, key=lambda each: (each.about == PARAGRAPH, each.id))

    def _paragraph(self) -> list[Record]:
        """The model's own core record, or nothing."""
        return [each for each in reversed(self.scoped.list(kinds=("core",))) if each.about == PARAGRAPH]

    def _recent(self, kind: Kind) -> tuple[int, list[Record]]:
        """How many items may stand in a prompt, and the newest of them, newest first."""
        from memctx.stores import _visible as rows

        place, now = self.scoped.place, self.scoped.memory.clock()
        wanted = rows.Wanted((kind,), min_trust=trust_of("model"))

        def work(conn: Connection, _: list[bytes]) -> tuple[int, list[Record]]:
            return len(rows.ids_of(conn, place, wanted, now)), rows.listed(conn, place, wanted, now, SHOWN)

        return self.scoped.memory.run(work, [], writes=False)

    def _types(self, among: Iterable[str]) -> dict[str, Kind]:
        return {name: TYPES[name] for name in among if TYPES[name] not in self.disabled}

    def _count(self) -> Callable[[str], int]:
        from memctx.tokens import counter

        return self.count or counter().text


_CALLS: Mapping[str, Callable[[MemAlpha, Arguments], Answer]] = {
    "new_memory_insert": MemAlpha._insert,
    "memory_update": MemAlpha._update,
    "memory_delete": MemAlpha._delete,
    "search_memory": MemAlpha._search,
}


def _listed(name: str, total: int, items: Sequence[Record]) -> str:
    note = f" (showing the most recent {len(items)} of {total})"
    lines = (f"[{_id(each)}] {each.text}" for each in reversed(items))
    return texts.block(name, note, lines, "None shown." if total else "Empty.")


def _versions(conn: Connection, place: Place, number: int) -> list[int]:
    """The row, and every row that took its place since, on whatever branch of a run."""
    from sqlalchemy import select

    from memctx.stores._tables import ending

    found, new = {number}, {number}
    while new:
        later = select(ending.c.by).where(
            ending.c.scope == place.scope, ending.c.record.in_([*new]), ending.c.by.is_not(None)
        )
        new = set(conn.scalars(later)) - found
        found |= new
    return sorted(found)


def _first(record: Record) -> int:
    """The number of the first version's row."""
    first = record.meta.get(FIRST)
    return first if isinstance(first, int) else record.id


def _id(record: Record) -> str:
    return f"{_first(record):04x}"


def _number(arguments: Arguments) -> int:
    """The row that an id names."""
    given = text(arguments, "memory_id").strip().strip("[]").lower()
    if not re.fullmatch("[0-9a-f]{1,15}", given):
        raise FilterError(f"memory_id = {given!r:.40}: use an id as it is shown, such as 00a1", field="memory_id")
    return int(given, 16)


def _free(record: Record) -> Record:
    """The record, if the model may change it."""
    if kept(record):
        raise FilterError(f"{_id(record)} is kept by the host and cannot be changed: add an item beside it")
    return record
