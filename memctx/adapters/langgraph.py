"""LangGraph: the view for a model node of one's own, and the hook of the older `create_react_agent`.

The plan lives in the graph's state under `memctx_plan`, beside the messages, which stay whole. A session is only a
cache of what was parsed and counted, so resume, fork and time travel are right by construction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.types import Command
from typing_extensions import TypedDict

from memctx.errors import NotFound
from memctx.offer import name_of
from memctx.plan import Plan

if TYPE_CHECKING:
    from memctx.adapters._agent_tools import search_tools as search_tools  # noqa: PLC0414 (to say it is exported)
    from memctx.adapters._items_store import MemctxStore as MemctxStore  # noqa: PLC0414
    from memctx.adapters._memory import MemoryMiddleware as MemoryMiddleware  # noqa: PLC0414
    from memctx.effects import Generate
    from memctx.pipeline import Pipeline
    from memctx.session import Session
    from memctx.view import View

KEY = "memctx_plan"
Place = tuple[str, str]  # thread, and which graph inside it: "" for the outermost
# Not loaded here: the first two need a database, the last one needs this file.
_ELSEWHERE = {"MemctxStore": "_items_store", "MemoryMiddleware": "_memory", "search_tools": "_agent_tools"}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"memctx.adapters.{_ELSEWHERE[name]}"), name)


class PlanState(TypedDict, total=False):
    """Mix into a graph's state: `class State(PlanState, MessagesState)`. Give the graph an output schema to hide it."""

    memctx_plan: dict[str, Any]


@dataclass(slots=True)
class Slot:
    """One session with what an adapter must remember between calls: what it last saw, and the tools' schemas."""

    session: Session
    provider: str | None = None
    busy: bool = False
    seen: int = 0
    last: Any = None
    plan: Plan = field(default_factory=Plan)
    data: dict[str, Any] = field(default_factory=lambda: Plan().to_dict())  # `plan` as the state has it
    given: list[Any] = field(default_factory=list)
    schemas: list[Any] = field(default_factory=list)

    def arguments(
        self, messages: Sequence[Any], state: Mapping[str, Any], tools: Sequence[Any] | None
    ) -> dict[str, Any]:
        """Keyword arguments for `Session.view`.

        A state without a plan is new, or has no place for one: only a history that continues what the session saw may
        go on with the session's own plan. One is always given, so that a session with a memory keeps none there.
        """
        data, plan = state.get(KEY), self.session.plan
        if data is not None:
            plan = self.plan if data == self.data else Plan.from_dict(data)
        elif not self._continues(messages):
            plan = Plan()
        return {"plan": plan, "tools": self._schemas(tools)}

    def saw(self, messages: Sequence[Any], view: View) -> None:
        """Remember the view just made, and of which history it was."""
        self.seen, self.last = len(messages), messages[-1] if messages else None
        if view.plan is not self.plan:
            self.plan, self.data = view.plan, view.plan.to_dict()

    def update(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state update that keeps the plan of the view just made; empty where the state has it."""
        known = state.get(KEY)
        same = known == self.data if known is not None else self.plan == Plan()
        return {} if same else {KEY: self.data}

    def answered(self, messages: Sequence[Any]) -> AIMessage | None:
        """The model's answer to the last view, where the history shows it."""
        if len(messages) <= self.seen or not self._continues(messages):
            return None
        reply = messages[self.seen]
        return reply if isinstance(reply, AIMessage) and reply.usage_metadata else None

    def _continues(self, messages: Sequence[Any]) -> bool:
        return 0 < self.seen <= len(messages) and messages[self.seen - 1] == self.last

    def _schemas(self, tools: Sequence[Any] | None) -> list[Any] | None:
        """Schemas in OpenAI's form; a tool that is a dict already stays. Made once for the same tool objects."""
        if not tools:
            return None
        if len(tools) != len(self.given) or any(a is not b for a, b in zip(tools, self.given, strict=True)):
            self.given = list(tools)
            self.schemas = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in tools]
        return self.schemas

    def offered(self, view: View) -> list[Any] | None:
        """The caller's own tool objects that stand in the view, in its order; None where all stand as they were given."""
        if view.tools is None or view.tools == self.schemas:
            return None
        own = {name_of(schema): tool for tool, schema in zip(self.given, self.schemas, strict=True)}
        return [own[name] if (name := name_of(schema)) else schema for schema in view.tools]


class Sessions:
    """The sessions of one pipeline by thread: bounded, least recently used out first, safe in threads and tasks.

    A session serves one call at a time; a second call on the same thread meanwhile gets a fresh one of its own.
    `options` go to `Pipeline.session`; a chat model given as `generate` is wrapped by `generate_with`.
    """

    def __init__(self, pipeline: Pipeline, *, capacity: int = 256, **options: Any) -> None:
        self.pipeline, self.capacity = pipeline, capacity
        self.options = {name: value for name, value in options.items() if value is not None}
        if hasattr(options.get("generate"), "invoke"):
            self.options["generate"] = generate_with(options["generate"])
        self._slots: OrderedDict[Place, Slot] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def lease(self, place: Place, provider: str | None = None) -> Iterator[Slot]:
        """The thread's slot, held until the block ends. `provider`: whose rules to meet if the pipeline names none."""
        with self._lock:
            slot = self._slots.get(place)
            if slot is None or slot.busy or (provider and slot.provider != provider):
                fresh = self._fresh(place, provider)
                if slot is None or not slot.busy:
                    self._slots[place] = fresh
                slot = fresh
            slot.busy = True
            self._slots.move_to_end(place)
            while len(self._slots) > self.capacity:
                self._slots.popitem(last=False)
        try:
            yield slot
        finally:
            slot.busy = False

    def _fresh(self, place: Place, provider: str | None) -> Slot:
        pipeline = self.pipeline
        if provider and pipeline.provider is None:
            pipeline = replace(pipeline, provider=provider)
        return Slot(pipeline.session(place[0], **self.options), provider)

    def report(self, thread_id: str, graph: str = "") -> dict[str, Any]:
        """`Session.report` of a thread this process has served; raises `NotFound` otherwise."""
        with self._lock:
            slot = self._slots.get((thread_id, graph))
        if slot is None:
            raise NotFound(f"no call of thread {thread_id!r} in this process, or it is long ago", thread=thread_id)
        return slot.session.report()


def prepare(
    source: Pipeline | Sessions,
    state: Mapping[str, Any],
    where: Any = None,
    *,
    tools: Sequence[Any] | None = None,
    system: Any = None,
) -> tuple[View, dict[str, Any]]:
    """The view for the coming model call, and the state update that keeps its plan.

    `where` is the node's `runtime` or `config`, by default that of the running node. `tools` are LangChain tools,
    functions or schemas; `system` is text or a message that goes before the messages. Bind the model to `view.tools`:
    schemas of the tools on offer; with `tool_window` and delivery "list", that is all there is to do. The answer's usage is
    read from the history at the next call. Errors: see `Session.view`.
    """
    messages = state["messages"]
    with _sessions(source).lease(place_of(where, messages)) as slot:
        reply = slot.answered(messages)
        if reply is not None:
            slot.session.observe(usage=usage_of(reply))
        view = slot.session.view(messages, system=system, **slot.arguments(messages, state, tools))
        slot.saw(messages, view)
        return view, slot.update(state)


async def aprepare(
    source: Pipeline | Sessions,
    state: Mapping[str, Any],
    where: Any = None,
    *,
    tools: Sequence[Any] | None = None,
    system: Any = None,
) -> tuple[View, dict[str, Any]]:
    """As `prepare`, for an async node."""
    messages = state["messages"]
    with _sessions(source).lease(place_of(where, messages)) as slot:
        reply = slot.answered(messages)
        if reply is not None:
            await slot.session.aobserve(usage=usage_of(reply))
        view = await slot.session.aview(messages, system=system, **slot.arguments(messages, state, tools))
        slot.saw(messages, view)
        return view, slot.update(state)


def pre_model_hook(
    source: Pipeline | Sessions, *, tools: Sequence[Any] | None = None, system: Any = None
) -> Runnable[Any, Command[Any]]:
    """For `create_react_agent(..., pre_model_hook=...)`: the model reads the view, the state keeps every message.

    Give the agent a `state_schema` with `PlanState` mixed in, or the plan lives in this process only. `tools` and
    `system` are for counting: the hook cannot see the agent's.
    """
    sessions = _sessions(source)

    def hook(state: Any) -> Command[Any]:
        return _shown(*prepare(sessions, _mapping(state), tools=tools, system=system))

    async def ahook(state: Any) -> Command[Any]:
        return _shown(*await aprepare(sessions, _mapping(state), tools=tools, system=system))

    return RunnableLambda(hook, ahook, name="memctx")


def _shown(view: View, update: dict[str, Any]) -> Command[Any]:
    """As pairs, not a dict: LangGraph streams to the user every new message it finds in a node's dict, our notes too."""
    return Command(update=[("llm_input_messages", view.messages), *update.items()])


def generate_with(model: Any) -> Callable[[Generate], str]:
    """A chat model as `generate=`. Its calls are tagged so that no token of theirs reaches the user's stream."""
    config = {"tags": [TAG_NOSTREAM], "metadata": {"lc_source": "memctx"}}

    def generate(asked: Generate) -> str:
        bound = model.bind_tools(list(asked.tools)) if asked.tools else model
        limit = {"max_tokens": asked.max_tokens} if "max_tokens" in getattr(type(model), "model_fields", ()) else {}
        return str(bound.invoke(list(asked.messages), config, **limit).text)

    return generate


def place_of(where: Any, messages: Sequence[Any]) -> Place:
    """Thread and graph of a call. Without a thread id the first message's id tells conversations apart."""
    info = getattr(where, "execution_info", None)
    if info is not None:
        thread, namespace = info.thread_id, info.checkpoint_ns
    else:
        known = _config(where).get("configurable", {})
        thread, namespace = known.get("thread_id"), known.get("checkpoint_ns", "")
    if thread is None:
        thread = f"message:{getattr(messages[0], 'id', None) if messages else None}"
    outer = (part.partition(":")[0] for part in (namespace or "").split("|")[:-1])
    return str(thread), "|".join(outer)


def usage_of(reply: AIMessage) -> dict[str, Any] | None:
    """The provider's usage as LangChain reports it; None where it does not."""
    return dict(reply.usage_metadata) if reply.usage_metadata else None


_SHARED: OrderedDict[int, Sessions] = OrderedDict()  # by identity of the pipeline, which its sessions keep alive
_SHARED_LOCK = Lock()
_SHARED_MOST = 16


def _sessions(source: Pipeline | Sessions) -> Sessions:
    """The sessions of a pipeline: the same ones each time, for the pipelines used last."""
    if isinstance(source, Sessions):
        return source
    with _SHARED_LOCK:
        sessions = _SHARED.setdefault(id(source), Sessions(source))
        _SHARED.move_to_end(id(source))
        while len(_SHARED) > _SHARED_MOST:
            _SHARED.popitem(last=False)
    return sessions


def _config(where: Any) -> Mapping[str, Any]:
    if isinstance(where, Mapping):
        return where
    try:
        return get_config()
    except RuntimeError:  # called outside a graph
        return {}


def _mapping(state: Any) -> Mapping[str, Any]:
    return state if isinstance(state, Mapping) else vars(state)
