"""What a provider would refuse, found before it is sent.

`check` reads a request's messages in the provider's own wire form and names every rule they break. It is one linear
pass, changes nothing, and never raises on what the messages hold: garbage is reported, not thrown.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memctx._rules import REMEDIES, Options, Report
from memctx._rules._tools import TOOL_NAME
from memctx._rules._values import list_of
from memctx.errors import ConfigError
from memctx.offer import name_of

Provider = Literal["openai-chat", "openai-responses", "anthropic", "gemini"]

PROVIDERS: dict[str, str] = {
    "openai-chat": "memctx._rules.openai_chat",
    "openai-responses": "memctx._rules.openai_responses",
    "anthropic": "memctx._rules.anthropic",
    "gemini": "memctx._rules.gemini",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule. `index` is the place in the list given, or -1 for the list, the system text or the tools."""

    rule: str
    index: int
    message: str
    remedy: str


def check(
    messages: Any,
    provider: Provider | str = "openai-chat",
    *,
    system: Any = None,
    tools: Any = None,
    server_history: bool = False,
    prefill: bool = True,
    tool_choice: Any = None,
) -> list[Violation]:
    """Every provider rule that `messages` breaks, in order of index; an empty list means the request is valid.

    `messages`: the provider's own list (Responses and Gemini also take a string), LangChain messages, or an object with
    `.messages` such as a `View`. Only lists and tuples are read; a generator is reported, not consumed.
    `system`, `tools`, `tool_choice`: as sent beside the messages; marks in the first two count towards Anthropic's four.
    `server_history`: earlier items live on the server (`previous_response_id`): a result may answer a call not shown.
    `prefill`: whether the model lets an assistant message stand last (Anthropic, Gemini).
    Raises `ConfigError` for an unknown provider, and for nothing else.
    """
    rules = _rules_of(provider)
    report = Report()
    try:
        options = Options(system, tools, server_history is True, prefill is not False, tool_choice)
        _run(messages, rules, report, options)
    except Exception as cause:
        report.add("not_json", -1, f"reading the messages raised {type(cause).__name__}")
    report.found.sort(key=lambda found: found[0])
    return [Violation(rule, index, text, REMEDIES[rule]) for index, rule, text in report.found]


def offerable(tools: Sequence[Any], provider: str | None = None) -> None:
    """Raise `ConfigError` where two tools have one name, or where `provider` (None: not known) refuses a name.

    For tools that are about to be offered: both would fail the whole request, or let the model call the wrong one.
    """
    pattern = getattr(_rules_of(provider), "TOOL_NAME", TOOL_NAME) if provider else None
    seen: dict[str, int] = {}
    for place, tool in enumerate(tools):
        name = name_of(tool)
        if not name:
            continue
        if name in seen:
            both = " and ".join(f"tools[{at}] ({_described(tools[at])})" for at in (seen[name], place))
            raise ConfigError(f"{both} are both called {name!r}: rename one of them", field="tools", code="same_name")
        seen[name] = place
        if pattern and not pattern.fullmatch(name):
            text = f"tools[{place}] is called {name!r:.160}, and {provider} takes only {pattern.pattern}: rename it"
            raise ConfigError(text, field="tools", code="bad_tool_name")


def _described(tool: Any) -> str:
    """The beginning of what a tool says of itself, to tell it from another."""
    held = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    text = held.get("description") if isinstance(held, Mapping) else getattr(held, "description", None)
    return repr(text)[:60] if isinstance(text, str) and text else "no description"


def _rules_of(provider: Any) -> Any:
    path = PROVIDERS.get(provider) if type(provider) is str else None
    if path is None:
        known = ", ".join(PROVIDERS)
        shown = repr(provider[:40]) if type(provider) is str else type(provider).__name__
        text = f"unknown provider {shown}: use one of {known}"
        raise ConfigError(text, code="unknown_provider", known=list(PROVIDERS))
    return importlib.import_module(path)


def _run(messages: Any, rules: Any, report: Report, options: Options) -> None:
    if not issubclass(type(messages), (list, tuple, str)) and messages is not None:
        view, messages = messages, getattr(messages, "messages", messages)
        options = options.filled_from(view)
    if rules.TAKES_TEXT and issubclass(type(messages), str):
        messages = [{"role": "user", **rules.from_text(messages)}]
    items = list_of(messages)
    if items is None:
        report.add("empty_messages", -1, f"a list of messages is needed, not {type(messages).__name__}")
        return
    if not items and not options.server_history:
        report.add("empty_messages", -1, "the list of messages is empty")
        return
    if any(type(item) is not dict for item in items):
        from memctx._rules._convert import wire_form

        items, places = wire_form(items, rules.NAME)
        report.places = places
    rules.check(items, report, options)
