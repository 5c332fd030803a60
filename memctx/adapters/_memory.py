"""`MemoryMiddleware`: long-term memory for `create_agent`. See `memctx.adapters.langgraph`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
)
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.config import get_config
from langgraph.types import Command

from memctx._skim import skim
from memctx.adapters.langgraph import place_of
from memctx.errors import ConfigError, MemctxError, ScopeError
from memctx.records import Hit, Kind, Record, trust_of
from memctx.strategies._recalled import entry, fitting, own_words, render, visible
from memctx.tokens import counter

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

    from memctx.memory import Memory
    from memctx.scoped import Scoped

KEY = "memctx_memory"
MARK = "memctx"  # `lc_source` of the message that shows what was recalled
PIECE = 8_000  # characters of one record; a longer text becomes several
OUTLINE = 1_200  # characters kept of a tool's result
MAX_QUERY = 4_000
MOST_MARKS = 10_000  # writes of one thread that a rewind is told apart by
ROLES: Mapping[type[BaseMessage], str] = {HumanMessage: "user", AIMessage: "assistant", ToolMessage: "tool"}

Where = Sequence[str] | Callable[["Runtime[Any]"], Sequence[str]]
Handler = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
Answer = ModelResponse[Any] | ExtendedModelResponse[Any]


class MemoryState(AgentState[Any]):
    """Agent state with what memory has of this run, hidden from input and output.

    `marks`: the checkpoints at which this run's past wrote; `last`: the last message that was written; `used`: the records
    that the model was shown since.
    """

    memctx_memory: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


class MemoryMiddleware(AgentMiddleware[Any, Any, Any]):
    """Shows the model what memory has on the user's message, and writes what was said when the agent is done.

    `scope`: parts of a scope, or a function of the runtime that gives them; messages have no say in it. What is recalled, at
    most `k` records and `tokens` tokens, stands as one marked note in the user's role behind the last message. Nothing
    that the model can see already is recalled; equal records give equal bytes. `write`: whose texts become episodic records, word
    for word: "user", "assistant", "tool" (an outline of its results, unverified). A run that was rewound or forked does not see
    what its thread wrote after that point. Put it after `ContextMiddleware` in the list. Where memory fails the agent goes on,
    with a warning; what was not written is tried again. Raises `ScopeError`, `ConfigError`, `FilterError`.
    """

    state_schema = MemoryState

    def __init__(
        self,
        memory: Memory,
        scope: Where,
        *,
        k: int = 10,
        tokens: int = 800,
        kinds: Sequence[Kind] = (),
        min_trust: str | int = 0,
        write: Sequence[str] = ("user", "assistant", "tool"),
    ) -> None:
        super().__init__()
        roles = tuple(ROLES.values())
        if isinstance(write, str) or not set(write) <= set(roles):
            raise ConfigError(f"write = {write!r:.60}: give some of {', '.join(roles)}, or ()", field="write")
        if k < 1 or tokens < 1:
            raise ConfigError(f"k = {k!r}, tokens = {tokens!r}: both must be above 0", field="k")
        if not callable(scope):
            memory.at(*_parts(scope))  # a scope that cannot be one is refused now
        self.memory, self.scope = memory, scope
        self.k, self.tokens, self.kinds, self.min_trust = k, tokens, tuple(kinds), trust_of(min_trust)
        self.write = tuple(write)
        self.tools = []

    # -- before a model call -----------------------------------------------------------------------------------------

    def wrap_model_call(self, request: ModelRequest[Any], handler: Handler) -> Answer:
        """Call the model with the note behind the last message."""
        query, hits = _query(request.state), list[Hit]()
        at = self._point(request.runtime, request.state)
        if query:
            try:
                hits = at.search(query, **self._asked())
            except MemctxError as cause:
                _passed_over("recall", cause)
        request, ids = self._with_note(request, hits)
        return _noted(handler(request), request.state, ids)

    async def awrap_model_call(self, request: ModelRequest[Any], handler: AsyncHandler) -> Answer:
        """As `wrap_model_call`."""
        query, hits = _query(request.state), list[Hit]()
        at = self._point(request.runtime, request.state)
        if query:
            try:
                hits = await at.asearch(query, **self._asked())
            except MemctxError as cause:
                _passed_over("recall", cause)
        request, ids = self._with_note(request, hits)
        return _noted(await handler(request), request.state, ids)

    def _asked(self) -> dict[str, Any]:
        return {"k": 2 * self.k, "kinds": self.kinds, "min_trust": self.min_trust}

    def _with_note(self, request: ModelRequest[Any], hits: list[Hit]) -> tuple[ModelRequest[Any], list[int]]:
        """The request with what is not in sight yet, in the order written: the order of a ranking moves with the clock."""
        shown = {message.id: message for message in request.messages if message.id}
        records = [hit.record for hit in hits]
        fresh = [record for record in records if not _in_sight(record, shown)][: self.k]
        count = counter().text
        chosen = fitting(fresh, self.tokens, (count(entry(record)) for record in fresh))
        if not chosen:
            return request, []
        chosen.sort(key=lambda record: record.id)
        note = HumanMessage(render(chosen), additional_kwargs={"lc_source": MARK})
        return request.override(messages=[*request.messages, note]), [record.id for record in chosen]

    # -- after the agent ---------------------------------------------------------------------------------------------

    def after_agent(self, state: Any, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Write what was said since the last time."""
        at, known = self._point(runtime, state), _known(state)
        items = list(self._items(at, state, known))
        try:
            if known.get("used"):
                at.used(known["used"])
            if items:
                at.write_many(items)
        except MemctxError as cause:
            _passed_over("writing", cause)
            return None
        return _written(at, state, known, bool(items))

    async def aafter_agent(self, state: Any, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """As `after_agent`."""
        at, known = self._point(runtime, state), _known(state)
        items = list(self._items(at, state, known))
        try:
            if known.get("used"):
                await at.aused(known["used"])
            if items:
                await at.awrite_many(items)
        except MemctxError as cause:
            _passed_over("writing", cause)
            return None
        return _written(at, state, known, bool(items))

    def _items(self, at: Scoped, state: Any, known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Records of the messages after the last one that was written, or of all where that one is gone."""
        messages = state["messages"]
        last = next((place for place, message in enumerate(messages, 1) if message.id == known.get("last")), 0)
        for message in messages[last:]:
            role = next((role for kind, role in ROLES.items() if isinstance(message, kind)), None)
            if role not in self.write or message.additional_kwargs.get("lc_source"):
                continue
            tool = {"tool": message.name} if role == "tool" and message.name else {}
            for place, piece in enumerate(_pieces(_spoken(message))):
                key = f"{at.place.thread} {at.place.checkpoint} {message.id} {place}" if at.place.thread else ""
                meta = {"role": role, **tool}
                item = {"text": piece, "kind": "episodic", "source": role, "meta": meta, "key": key}
                yield {**item, "sources": [message.id] if message.id else []}

    # -- where a call stands -----------------------------------------------------------------------------------------

    def _point(self, runtime: Runtime[Any], state: Any) -> Scoped:
        """The memory as this run may see it.

        The runtime names a checkpoint but not those before it, so the state carries along where this run's past has written. In a
        graph inside another one, and without a checkpointer, nothing carries it: the whole thread is seen there.
        """
        at = self.memory.at(*_parts(self.scope(runtime) if callable(self.scope) else self.scope))
        info = runtime.execution_info
        if info is None or not info.thread_id:
            return at
        thread, graph = place_of(runtime, ())
        past = None if graph or not _has_checkpoints() else _known(state).get("marks", ())
        name = f"{thread}|{graph}" if graph else thread
        return at.during(name, run=info.run_id or "", checkpoint=info.checkpoint_id or "", ancestors=past)


def _parts(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Sequence):
        raise ScopeError(f"scope = {given!r:.40}: give the parts of a scope", code="scope_required")
    return tuple(given)


def _has_checkpoints() -> bool:
    return bool(get_config().get("configurable", {}).get("__pregel_checkpointer"))  # LangGraph has no public way to ask


def _known(state: Mapping[str, Any]) -> Mapping[str, Any]:
    return state.get(KEY) or {}


def _noted(response: ModelResponse[Any], state: Mapping[str, Any], ids: list[int]) -> Answer:
    """The answer, with a note in the state of which records the model was shown."""
    before = _known(state).get("used", [])
    used = sorted({*before, *ids})
    if used == before:
        return response
    return ExtendedModelResponse(response, Command(update={KEY: {**_known(state), "used": used}}))


def _written(at: Scoped, state: Any, known: Mapping[str, Any], wrote: bool) -> dict[str, Any] | None:
    if not state["messages"]:
        return None
    marks = [*known.get("marks", []), at.place.checkpoint] if wrote else list(known.get("marks", []))
    now = {"marks": marks[-MOST_MARKS:], "last": state["messages"][-1].id, "used": []}
    return None if now == known else {KEY: now}


def _query(state: Mapping[str, Any]) -> str:
    """The newest of the user's messages."""
    asked = (m for m in reversed(state["messages"]) if isinstance(m, HumanMessage))
    return next((text for m in asked if (text := _own_text(m))), "")[:MAX_QUERY]


def _in_sight(record: Record, shown: Mapping[str, BaseMessage]) -> bool:
    """Whether a message that the record comes from is shown, uncut."""
    messages = (shown[source] for source in record.sources if source in shown)
    return any(record.text in text for message in messages for text in (_own_text(message), _spoken(message)))


def _own_text(message: BaseMessage) -> str:
    return visible(own_words(str(message.text))).strip()


def _spoken(message: BaseMessage) -> str:
    text = _own_text(message)
    return skim(text, level=1, limit=OUTLINE) if isinstance(message, ToolMessage) and len(text) > OUTLINE else text


def _pieces(text: str) -> list[str]:
    """A text in parts that end at white space where there is some."""
    parts = re.findall(rf"(?s).{{1,{PIECE}}}(?:\s|\Z)|.{{1,{PIECE}}}", text)
    return [part.strip() for part in parts if part.strip()]


def _passed_over(what: str, cause: MemctxError) -> None:
    if isinstance(cause, ScopeError | ConfigError):
        raise cause
    warnings.warn(f"memory failed at {what}, and the agent goes on without: {cause}", stacklevel=3)
