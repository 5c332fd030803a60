"""The provider rules, row by row of the bad-input catalogue, and the promise that `check` never raises."""

from __future__ import annotations

import datetime as dt
import decimal
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memctx._rules import REMEDIES
from memctx.errors import ConfigError
from memctx.validity import PROVIDERS, Violation, check, offerable

Message = dict[str, Any]
NAMES = list(PROVIDERS)
USER: Message = {"role": "user", "content": "go"}


def deep(levels: int = 600) -> list[Any]:
    out: list[Any] = []
    for _ in range(levels):
        out = [out]
    return out


def loop() -> list[Any]:
    out: list[Any] = []
    out.append(out)
    return out


def user(content: Any) -> list[Message]:
    return [{"role": "user", "content": content}]


def call(call_id: Any = "c1", name: Any = "search", arguments: Any = "{}") -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asked(*calls: Any) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(call_id: Any = "c1", content: Any = "found") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def chat(*calls: Any) -> list[Message]:
    """A whole, answered step with these calls."""
    return [USER, asked(*calls), *(result(each["id"]) for each in calls)]


def use(call_id: Any = "t1", name: Any = "search", arguments: Any = None) -> Message:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {} if arguments is None else arguments}


def used(*blocks: Any) -> Message:
    return {"role": "assistant", "content": list(blocks)}


def given_back(*ids: Any, more: tuple[Any, ...] = ()) -> Message:
    blocks = [{"type": "tool_result", "tool_use_id": each, "content": "found"} for each in ids]
    return {"role": "user", "content": [*blocks, *more]}


def text(value: Any) -> Message:
    return {"type": "text", "text": value}


def fcall(call_id: Any = "c1", **more: Any) -> Message:
    return {"type": "function_call", "call_id": call_id, "name": "search", "arguments": "{}", **more}


def fout(call_id: Any = "c1", output: Any = "found") -> Message:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def reasoning(**more: Any) -> Message:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **more}


def gcall(*names: Any, **more: Any) -> Message:
    return {"role": "model", "parts": [{"functionCall": {"name": name, "args": {}, **more}} for name in names]}


def gout(*names: Any, **more: Any) -> Message:
    parts = [{"functionResponse": {"name": name, "response": {"a": 1}, **more}} for name in names]
    return {"role": "user", "parts": parts}


GO: Message = {"role": "user", "parts": [{"text": "go"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
MARK = {"cache_control": {"type": "ephemeral"}}
SIGNED = {"type": "thinking", "thinking": "so", "signature": "sig"}


class Hostile:
    """Raises on whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return 1

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


class Sly(dict[str, Any]):
    """A dict whose reading is its own business."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError("get")

    __getitem__ = __iter__ = items = keys = get


NO_LISTS: list[Any] = [None, {}, 5, b"x"]

# (row of the catalogue, provider, messages, codes expected: exactly these)
CATALOGUE: list[tuple[str, str, Any, set[str]]] = [
    *((f"1 {name}", name, [], {"empty_messages"}) for name in NAMES),
    *((f"2 {name} {i}", name, bad, {"empty_messages"}) for name in NAMES for i, bad in enumerate(NO_LISTS)),
    ("2 string", "openai-chat", "hello", {"empty_messages"}),
    ("2 string", "anthropic", "hello", {"empty_messages"}),
    ("2 generator", "openai-chat", (each for each in [USER]), {"empty_messages"}),
    ("3", "openai-chat", ["hello"], {"bad_role"}),
    ("3", "openai-responses", ["hello"], {"bad_role"}),
    ("3", "anthropic", [USER, "hello"], {"bad_role"}),
    ("3", "gemini", [GO, "hello"], {"bad_role"}),
    ("4", "openai-chat", [{"content": "x"}], {"bad_role"}),
    ("4", "openai-responses", [{"content": "x"}], {"bad_role"}),
    ("4", "anthropic", [USER, {"content": "x"}], {"bad_role"}),
    ("4", "gemini", [GO, {"parts": [{"text": "x"}]}], {"bad_role"}),
    *((f"5 {role!r}", "openai-chat", [{"role": role, "content": "x"}], {"bad_role"})
      for role in ("narrator", "", None, 5, "User", "assistant ")),
    *((f"5 {role!r}", "anthropic", [USER, {"role": role, "content": "x"}], {"bad_role"})
      for role in ("tool", "developer", "", None, 5, "User")),
    ("5", "openai-responses", [{"role": "tool", "content": "x"}], {"bad_role"}),
    ("5", "gemini", [GO, {"role": "assistant", "parts": [{"text": "x"}]}], {"bad_role"}),
    *((f"6 {name}", name, user(None), {"bad_content_type"}) for name in NAMES[:3]),
    *((f"7 {name} {i}", name, user(bad), {"bad_content_type"})
      for name in NAMES[:3] for i, bad in enumerate([5, True, {}])),
    ("7 bytes", "openai-chat", user(b"x"), {"bad_content_type", "not_json"}),
    ("7 gemini", "gemini", [{"role": "user", "parts": "x"}], {"bad_content_type"}),
    *((f"8 {name}", name, user([]), {"empty_content_list"}) for name in NAMES[:3]),
    ("8", "gemini", [{"role": "user", "parts": []}], {"empty_content_list"}),
    *((f"9 {name} {i}", name, user([bad]), {"bad_part"})
      for name in NAMES[:3] for i, bad in enumerate([{}, {"text": "x"}, {"type": "smell"}, {"type": 5}, "x", None])),
    ("9", "gemini", [{"role": "user", "parts": [{}]}], {"bad_part"}),
    ("9 two fields", "gemini", [{"role": "user", "parts": [{"text": "x", "inlineData": {}}]}], {"bad_part"}),
    ("10", "openai-chat", user([text(None)]), {"bad_part"}),
    ("10", "anthropic", user([text(None)]), {"bad_part"}),
    ("10", "openai-responses", user([{"type": "input_text", "text": None}]), {"bad_part"}),
    ("10", "gemini", [{"role": "user", "parts": [{"text": 5}]}], {"bad_part"}),
    *((f"11 {role}", "openai-chat", [USER, {"role": role, "content": [IMAGE]}], {"bad_part"})
      for role in ("system", "developer", "assistant")),
    ("11 tool", "openai-chat", [USER, asked(call()), result("c1", [IMAGE])], {"bad_part"}),
    ("11", "anthropic", [USER, used({"type": "image", "source": {"type": "url", "url": "u"}}), USER],
     {"bad_part"}),
    ("11", "openai-responses", [{"role": "system", "content": [{"type": "input_image", "image_url": "u"}]}],
     {"bad_part"}),
    ("12 bare", "openai-chat", user([{"type": "image_url", "image_url": "https://example.org"}]), {"bad_part"}),
    ("12 empty", "openai-chat", user([{"type": "image_url", "image_url": {"url": ""}}]), {"bad_part"}),
    ("12", "anthropic", user([{"type": "image", "source": {"type": "url", "url": ""}}]), {"bad_part"}),
    ("13", "openai-chat", user([{"type": "input_audio", "input_audio": {"data": "x"}}]), {"bad_part"}),
    ("14", "openai-chat", [USER, {"role": "assistant", "content": [text("x"), {"type": "refusal", "refusal": "n"}]}],
     {"bad_part"}),
    ("15", "openai-chat", [USER, {"role": "assistant"}], {"missing_content"}),
    ("15 null", "openai-chat", [USER, {"role": "assistant", "content": None}], {"missing_content"}),
    ("16", "openai-chat", [USER, {"role": "assistant", "content": "x", "tool_calls": []}], {"empty_tool_calls"}),
    ("17 dict", "openai-chat", [USER, {"role": "assistant", "content": "x", "tool_calls": {}}], {"empty_tool_calls"}),
    ("17 null", "openai-chat", [USER, {"role": "assistant", "content": "x", "tool_calls": None}], set()),
    *((f"18 {bad!r}", "openai-chat", [USER, asked(call(bad))], {"bad_tool_call_id"}) for bad in (None, "", 7)),
    *((f"18 {bad!r}", "openai-responses", [USER, fcall(bad)], {"bad_tool_call_id"}) for bad in (None, "", 7)),
    ("18", "anthropic", [USER, used(use(None)), USER], {"bad_tool_call_id"}),
    ("18 no call", "openai-chat", [USER, asked("x")], {"bad_tool_call"}),
    ("18 no type", "openai-chat", [USER, asked({"id": "c1"}), result()], {"bad_tool_call"}),
    ("19", "openai-chat", chat(call("c" * 41)), {"tool_id_too_long"}),
    ("19 fits", "openai-chat", chat(call("c" * 40)), set()),
    ("19", "openai-responses", [USER, fcall("c" * 65), fout("c" * 65)], {"tool_id_too_long"}),
    ("20", "anthropic", [USER, used(use("call.1|fc_2")), given_back("call.1|fc_2")], {"bad_tool_call_id"}),
    ("20 newline", "anthropic", [USER, used(use("t1\n")), given_back("t1\n")], {"bad_tool_call_id"}),
    ("21", "openai-chat", [USER, asked(call(), call()), result()], {"duplicate_tool_call_id"}),
    ("21 other turn", "openai-chat", [*chat(call()), *chat(call())], set()),
    ("21", "anthropic", [USER, used(use()), given_back("t1"), used(use()), given_back("t1")],
     {"duplicate_tool_call_id"}),
    ("21", "openai-responses", [USER, fcall(), fcall(), fout()], {"duplicate_tool_call_id"}),
    ("21", "gemini", [GO, gcall("a", "a", id="1"), gout("a", "a")], {"duplicate_tool_call_id"}),
    ("22", "openai-chat", chat(*(call(f"c{i}") for i in range(129))), {"too_many_tool_calls"}),
    ("22 fits", "openai-chat", chat(*(call(f"c{i}") for i in range(128))), set()),
    *((f"23 {bad!r}", "openai-chat", chat(call(name=bad)), {"bad_tool_name"})
      for bad in ("a b", "a" * 65, "search\n", "", None, 5)),
    *((f"23 {bad!r}", "anthropic", [USER, used(use(name=bad)), given_back("t1")], {"bad_tool_name"})
      for bad in ("a b", "a" * 129, "search\n", "")),
    ("23", "openai-responses", [USER, fcall(name="search\n"), fout()], {"bad_tool_name"}),
    ("23", "gemini", [GO, gcall("a b"), gout("a b")], {"bad_tool_name"}),
    ("24", "openai-chat", chat(call(arguments={"q": 1})), {"bad_arguments"}),
    ("24", "openai-responses", [USER, fcall(arguments={}), fout()], {"bad_arguments"}),
    ("24 fits", "anthropic", [USER, used(use(arguments={"q": 1})), given_back("t1")], set()),
    ("24 text", "anthropic", [USER, used(use(arguments="{}")), given_back("t1")], {"bad_arguments"}),
    ("24", "gemini", [GO, {"role": "model", "parts": [{"functionCall": {"name": "a", "args": "{}"}}]}, gout("a")],
     {"bad_arguments"}),
    *((f"25 {i}", "openai-chat", chat(call(arguments=odd)), set())
      for i, odd in enumerate(["", "null", "[1]", '{"q":', "NaN", '{"a":1,"a":2}', "[" * 3_000, "9" * 5_000])),
    ("26", "openai-chat", [result()], {"orphan_tool_result"}),
    ("26", "anthropic", [given_back("t1")], {"orphan_tool_result"}),
    ("26", "openai-responses", [fout()], {"orphan_tool_result"}),
    ("26", "gemini", [gout("a")], {"orphan_tool_result"}),
    ("27", "openai-chat", [USER, asked(call()), USER, result()], {"orphan_tool_result", "unanswered_tool_call"}),
    ("27", "anthropic", [USER, used(use()), USER, given_back("t1")], {"orphan_tool_result", "unanswered_tool_call"}),
    ("27 late is fine", "openai-responses", [USER, fcall(), USER, fout()], set()),
    ("27", "gemini", [GO, gcall("a"), GO, gout("a")], {"orphan_tool_result", "unanswered_tool_call"}),
    ("28", "openai-chat", [*chat(call()), result("other")], {"orphan_tool_result"}),
    ("28", "anthropic", [USER, used(use()), given_back("t1", "other")], {"orphan_tool_result"}),
    ("28", "openai-responses", [USER, fcall(), fout(), fout("other")], {"orphan_tool_result"}),
    ("28 wrong kind", "openai-responses", [USER, fcall(), fout(), {**fout(), "type": "custom_tool_call_output"}],
     {"orphan_tool_result"}),
    ("28", "gemini", [GO, gcall("a"), gout("a", "b")], {"orphan_tool_result"}),
    ("28 model", "gemini", [GO, {**gout("a"), "role": "model"}], {"orphan_tool_result"}),
    ("29", "openai-chat", [*chat(call()), result()], {"duplicate_tool_result"}),
    ("29", "anthropic", [USER, used(use()), given_back("t1", "t1")], {"duplicate_tool_result"}),
    ("29", "openai-responses", [USER, fcall(), fout(), fout()], {"duplicate_tool_result"}),
    ("29", "gemini", [GO, gcall("a", id="1"), gout("a", "a", id="1")], {"duplicate_tool_result"}),
    ("30", "openai-chat", [USER, asked(call())], {"unanswered_tool_call"}),
    ("30 one of two", "openai-chat", [USER, asked(call(), call("c2")), result()], {"unanswered_tool_call"}),
    ("30", "anthropic", [USER, used(use())], {"unanswered_tool_call"}),
    ("30", "openai-responses", [USER, fcall()], {"unanswered_tool_call"}),
    ("30", "gemini", [GO, gcall("a")], {"unanswered_tool_call"}),
    ("30 counts", "gemini", [GO, gcall("a", "a"), gout("a")], {"unanswered_tool_call"}),
    ("31", "openai-chat", [USER, asked(call()), {"role": "system", "content": "x"}, result()],
     {"orphan_tool_result", "unanswered_tool_call"}),
    ("31 in a run", "openai-chat", [*chat(call()), {"role": "system", "content": "x"}, result()],
     {"orphan_tool_result"}),
    *((f"32 {bad!r}", "openai-chat", [USER, asked(call()), result(bad)], {"bad_tool_call_id", "unanswered_tool_call"})
      for bad in (None, "", 7)),
    ("32", "anthropic", [USER, used(use()), given_back(None)], {"bad_tool_call_id", "unanswered_tool_call"}),
    *((f"33 {name}", name, user("a\ud800"), {"unencodable_text"}) for name in NAMES[:3]),
    ("33", "gemini", [{"role": "user", "parts": [{"text": "\udfff"}]}], {"unencodable_text"}),
    ("33 key", "openai-chat", [{**USER, "\ud800": 1}], {"unencodable_text"}),
    ("33 name", "openai-chat", chat(call(name="\ud800")), {"unencodable_text", "bad_tool_name"}),
    ("33 id", "openai-chat", chat(call("\ud800")), {"unencodable_text"}),
    ("33 pair", "openai-chat", user("\U0001f600"), set()),
    ("34", "openai-chat", chat(call(arguments='{"q": "\\ud800"}')), set()),
    ("35", "openai-chat", user("a\x00b"), set()),
    ("36", "openai-chat", user("x" * 1_048_577), {"content_too_long"}),
    ("36 fits", "openai-chat", user("x" * 1_048_576), set()),
    ("36 part", "openai-chat", user([text("x" * 1_048_577)]), {"content_too_long"}),
    ("36 tool", "openai-chat", [USER, asked(call()), result("c1", "x" * 1_048_577)], {"content_too_long"}),
    ("36", "openai-responses", user("x" * 10_485_761), {"content_too_long"}),
    ("38", "anthropic", [USER] * 100_001, {"too_many_messages"}),
    ("39", "openai-chat", [{**USER, "more": loop()}], {"not_json"}),
    ("39 content", "openai-chat", user(loop()), {"not_json", "bad_part"}),
    ("39 deep", "anthropic", [USER, used(use(arguments={"a": deep(3_000)})), given_back("t1")], {"not_json"}),
    *((f"40 {i}", "openai-chat", [{**USER, "metadata": {"a": [bad]}}], {"not_json"})
      for i, bad in enumerate([
          dt.datetime(2026, 1, 1, tzinfo=dt.UTC), decimal.Decimal(1), {1}, b"x", float("nan"), float("inf"),
          1j, object(), 10**5_000, range(3),
      ])),
    ("41", "openai-chat", [{**USER, "more": Hostile()}], {"not_json"}),
    ("41 content", "openai-chat", user(Hostile()), {"bad_content_type", "not_json"}),
    ("41 message", "openai-chat", [Hostile()], {"bad_role"}),
    ("42 dict subclass", "openai-chat", [Sly(USER)], set()),
    ("42 keys", "openai-chat", [{**USER, 5: "x"}], {"not_json"}),
    ("43", "anthropic", [USER, used({"type": "thinking", "thinking": "so"}, text("x")), USER], {"missing_signature"}),
    ("43 redacted", "anthropic", [USER, used({"type": "redacted_thinking"}, text("x")), USER], {"missing_signature"}),
    ("43 order", "anthropic", [USER, used(text("x"), SIGNED), USER], {"thinking_not_first"}),
    ("43 fits", "anthropic", [USER, used(SIGNED, text("x")), USER], set()),
    ("45", "openai-responses", [USER, reasoning()], {"reasoning_without_item"}),
    ("45 user", "openai-responses", [USER, reasoning(), USER], {"reasoning_without_item"}),
    ("45 output", "openai-responses", [USER, fcall(), reasoning(), fout()], {"reasoning_without_item"}),
    ("45 fits", "openai-responses", [USER, reasoning(), fcall(), fout()], set()),
    ("46", "openai-responses", [USER, reasoning(summary=None), fcall(), fout()], {"missing_summary"}),
    ("47 two", "anthropic",
     [used({"type": "compaction", "content": "s"}, {"type": "compaction", "content": "s"}, text("x")), USER],
     {"compaction_block_ambiguous"}),
    ("47 late", "anthropic", [USER, used({"type": "compaction", "content": "s"}), USER],
     {"compaction_block_misplaced"}),
    ("47 empty", "anthropic", [used({"type": "compaction", "content": ""}), USER],
     {"empty_compaction"}),
    ("47 failed", "anthropic", [USER, used({"type": "compaction", "content": None}, text("x")), USER], set()),
    ("47 first", "anthropic", [used({"type": "compaction", "content": "s"}, text("x")), USER], set()),
    ("48", "anthropic", [{"role": "system", "content": "x"}], {"no_user", "first_not_user"}),
    ("48 assistant", "anthropic", [used(text("x")), USER], {"first_not_user"}),
    ("48", "gemini", [{"role": "model", "parts": [{"text": "x"}]}, GO], {"first_not_user"}),
    ("50", "anthropic", user([text(" \n")]), {"blank_text"}),
    ("50 string", "anthropic", user("  "), {"blank_text"}),
    ("50 in a result", "anthropic",
     [USER, used(use()), user([{"type": "tool_result", "tool_use_id": "t1", "content": [text("")]}])[0]],
     {"blank_text"}),
    ("50", "gemini", [{"role": "user", "parts": [{"text": ""}]}], {"blank_text"}),
    ("50 signature", "gemini", [GO, {"role": "model", "parts": [{"text": "", "thoughtSignature": "s"}]}, GO], set()),
    ("51", "anthropic", user([{**text("x"), **MARK}] * 5), {"too_many_cache_breakpoints"}),
    ("51 fits", "anthropic", user([{**text("x"), **MARK}] * 4), set()),
    ("51 thinking", "anthropic", [USER, used({**SIGNED, **MARK}, text("x")), USER], {"cache_control_not_allowed"}),
    ("not first", "anthropic",
     [USER, used(use()), user([text("x"), {"type": "tool_result", "tool_use_id": "t1"}])[0]],
     {"tool_result_not_first"}),
    ("split results", "anthropic", [USER, used(use(), use("t2")), given_back("t1"), given_back("t2")],
     {"unanswered_tool_call", "orphan_tool_result"}),
    ("error result", "anthropic",
     [USER, used(use()), user([{"type": "tool_result", "tool_use_id": "t1", "is_error": True}])[0]],
     {"empty_error_result"}),
    ("white space", "anthropic", [USER, used(text("x "))], {"trailing_whitespace"}),
    ("name", "openai-chat", [{**USER, "name": "a b"}], {"bad_name"}),
    ("unknown item", "openai-responses", [{"type": "smell"}], {"bad_item"}),
    ("reference", "openai-responses", [{"type": "item_reference"}], {"bad_item"}),
    ("compaction", "openai-responses", [{"type": "compaction"}, USER], {"empty_compaction"}),
    ("not alone", "gemini", [GO, gcall("a"), {"role": "user", "parts": [*gout("a")["parts"], {"text": "x"}]}],
     {"tool_result_not_alone"}),
    ("two calls", "gemini", [GO, {"role": "model", "parts": [{"text": "x"}]}, gcall("a"), gout("a")],
     {"call_turn_misplaced"}),
]  # fmt: skip


def codes(found: list[Violation]) -> set[str]:
    return {violation.rule for violation in found}


@pytest.mark.parametrize(
    ("provider", "messages", "expected"),
    [row[1:] for row in CATALOGUE],
    ids=[f"{row[1]}: {row[0]}" for row in CATALOGUE],
)
def test_catalogue(provider: str, messages: Any, expected: set[str]) -> None:
    found = check(messages, provider)
    assert codes(found) == expected
    assert [violation.index for violation in found] == sorted(violation.index for violation in found)
    assert all(violation.remedy and violation.message.isprintable() for violation in found)


def test_every_remedy_is_reachable() -> None:
    beyond = {"prefill_not_supported", "bad_system", "bad_tool", "too_many_tools", "duplicate_tool_name"}
    shown = set().union(*(row[3] for row in CATALOGUE), *(row[4] for row in OFFERS)) | beyond
    shown |= {"tool_description_too_long"}
    assert shown == set(REMEDIES)


def test_prefill_is_refused_only_when_told() -> None:
    for name, last in (("anthropic", used(text("x"))), ("gemini", {"role": "model", "parts": [{"text": "x"}]})):
        messages = [USER if name == "anthropic" else GO, last]
        assert check(messages, name) == []
        assert codes(check(messages, name, prefill=False)) == {"prefill_not_supported"}
    assert check([USER, {"role": "assistant", "content": ""}], "anthropic") == []
    assert codes(check([USER, {"role": "assistant", "content": ""}, USER], "anthropic")) == {"blank_text"}


def test_system_and_tools_count_towards_the_marks() -> None:
    tool = {"name": "a", "input_schema": {"type": "object"}, **MARK}
    system = [{**text("x"), **MARK}] * 2
    two = user([{**text("x"), **MARK}] * 2)
    assert check(two, "anthropic", system=system) == []
    assert codes(check(two, "anthropic", system=system, tools=[tool])) == {"too_many_cache_breakpoints"}
    assert codes(check([USER], "anthropic", system=5)) == {"bad_system"}
    assert codes(check([USER], "anthropic", system=[text(" ")])) == {"blank_text"}


def tool(name: Any, description: str = "") -> Message:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {}}}


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([tool("a"), tool("b")], set()),
        ([object()], set()),  # a host's own tool object is the adapter's to convert
        ([tool("a"), tool("a")], {"duplicate_tool_name"}),
        ([tool("a b")], {"bad_tool_name"}),
        ([tool(f"t{i}") for i in range(129)], {"too_many_tools"}),
        ([tool("a", "x" * 1_025)], {"tool_description_too_long"}),
        ([{"type": "function"}], {"bad_tool"}),
        ([None, "x"], {"bad_tool"}),
        (5, {"bad_tool"}),
        ([{**tool("a"), "x": {1}}], {"not_json"}),
    ],
)
def test_tools(tools: Any, expected: set[str]) -> None:
    assert codes(check([USER], tools=tools)) == expected


LATE = {"defer_loading": True}
FLAT: Message = {"type": "function", "name": "a", "parameters": {}, "strict": None}
CLAUDE = {"name": "a", "input_schema": {"type": "object"}}
SEARCH = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
HOSTED = {"type": "tool_search"}
OWN = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}


def allow(*names: str, mode: str = "auto") -> Message:
    return {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": name} for name in names]}


def allow_chat(*names: str) -> Message:
    functions = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": functions}}


def referred(name: Any) -> list[Message]:
    block = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": name}]}
    return [USER, used(use()), *user([block])]


def searched(name: str) -> list[Message]:
    found = {
        "type": "tool_search_tool_search_result",
        "tool_references": [{"type": "tool_reference", "tool_name": name}],
    }
    result = {"type": "tool_search_tool_result", "tool_use_id": "s1", "content": found}
    asks = {"type": "server_tool_use", "id": "s1", "name": "tool_search_tool_bm25", "input": {"query": "q"}}
    return [USER, used(asks, result), USER]


ASKS: Message = {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"query": "q"}}
FOUND: Message = {"type": "tool_search_output", "call_id": "s1", "execution": "client", "tools": [{**FLAT, **LATE}]}
SERVED = [{**ASKS, "execution": "server", "call_id": None}, {**FOUND, "execution": "server", "call_id": None}]

OFFERS: list[tuple[str, list[Message], Any, Any, set[str]]] = [
    ("openai-chat", [USER], [tool("a"), tool("b")], allow_chat("a"), set()),
    ("openai-chat", [USER], [tool("a")], allow_chat("a", "gone"), {"bad_tool_choice"}),
    ("openai-chat", [USER], [tool("a")], allow("a"), {"bad_tool_choice"}),  # the form of the Responses API
    ("openai-chat", [USER], [tool("a")], {"type": "function", "function": {"name": "gone"}}, {"bad_tool_choice"}),
    ("openai-chat", [USER], [tool("a")], "required", set()),
    ("openai-chat", [USER], [tool("a")], "sometimes", {"bad_tool_choice"}),
    ("openai-chat", [USER], [{**tool("a"), **LATE}], None, {"deferral_not_supported"}),
    ("openai-responses", [USER], [FLAT], allow("a", mode="required"), set()),
    ("openai-responses", [USER], [FLAT], allow("gone"), {"bad_tool_choice"}),
    ("openai-responses", [USER], [FLAT], allow("a", mode="any"), {"bad_tool_choice"}),
    ("openai-responses", [USER], [FLAT], allow(), {"bad_tool_choice"}),
    ("openai-responses", [USER], [{**FLAT, **LATE}, HOSTED], None, set()),
    ("openai-responses", [USER], [{**FLAT, **LATE}], None, {"deferred_without_search"}),
    ("openai-responses", [USER], [FLAT, HOSTED], None, {"search_without_deferred"}),
    ("openai-responses", [USER], [OWN], None, set()),
    ("openai-responses", [USER, ASKS, FOUND], [OWN], None, set()),
    ("openai-responses", [USER, ASKS], [OWN], None, {"unanswered_tool_call"}),
    ("openai-responses", [USER, FOUND], [OWN], None, {"orphan_tool_result"}),
    ("openai-responses", [USER, ASKS, {**FOUND, "tools": None}], [OWN], None, {"bad_item"}),
    ("openai-responses", [USER, *SERVED], [{**FLAT, **LATE}, HOSTED], None, set()),
    ("anthropic", [USER], [{**CLAUDE, **LATE}, SEARCH], None, set()),
    ("anthropic", [USER], [{**CLAUDE, **LATE}], None, {"all_tools_deferred"}),
    ("anthropic", [USER], [{**CLAUDE, **LATE, **MARK}, SEARCH], None, {"cache_control_not_allowed"}),
    ("anthropic", [USER], [CLAUDE], {"type": "tool", "name": "a"}, set()),
    ("anthropic", [USER], [CLAUDE], {"type": "tool", "name": "gone"}, {"bad_tool_choice"}),
    ("anthropic", [USER], [CLAUDE], allow("a"), {"bad_tool_choice"}),
    ("anthropic", referred("a"), [{**CLAUDE, **LATE}, SEARCH], None, set()),
    ("anthropic", referred("gone"), [CLAUDE], None, {"unknown_tool_reference"}),
    ("anthropic", referred("gone"), None, None, set()),  # the tools are not known
    ("anthropic", referred(None), [CLAUDE], None, {"bad_part"}),
    ("anthropic", searched("a"), [{**CLAUDE, **LATE}, SEARCH], None, set()),
    ("anthropic", searched("gone"), [{**CLAUDE, **LATE}, SEARCH], None, {"unknown_tool_reference"}),
    ("anthropic", [USER], [CLAUDE, CLAUDE], None, {"duplicate_tool_name"}),
    ("gemini", [GO], [{"functionDeclarations": [{"name": "a.b"}, {"name": "c"}]}], None, set()),
    ("gemini", [GO], [{"functionDeclarations": [{"name": "a"}]}, {"functionDeclarations": [{"name": "a"}]}], None,
     {"duplicate_tool_name"}),
    ("gemini", [GO], [{"function_declarations": [{"name": "a b"}]}, {"googleSearch": {}}], None, {"bad_tool_name"}),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "messages", "tools", "choice", "expected"), OFFERS)
def test_offers(provider: str, messages: Any, tools: Any, choice: Any, expected: set[str]) -> None:
    assert codes(check(messages, provider, tools=tools, tool_choice=choice)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_choice_never_raises(name: str) -> None:
    for choice in [5, [], {}, {"type": 5}, {"type": "allowed_tools", "tools": 5}, Hostile(), loop()]:
        found = codes(check([GO if name == "gemini" else USER], name, tools=[FLAT], tool_choice=choice))
        assert bool(found) == (name != "gemini")


def test_equal_names_are_refused_by_both_places() -> None:
    tools = [tool("mail", "Find mail."), tool("other"), {"name": "mail", "input_schema": {}, "description": "Send."}]
    with pytest.raises(ConfigError, match=r"tools\[0\] \('Find mail\.'\) and tools\[2\] \('Send\.'\).*'mail'"):
        offerable(tools)
    offerable(tools[:2])


@pytest.mark.parametrize(
    ("provider", "name", "fits"),
    [
        ("openai-chat", "a.b", False),
        ("openai-chat", "a" * 65, False),
        ("anthropic", "a" * 65, True),
        ("anthropic", "a" * 129, False),
        ("gemini", "a.b", True),
        ("gemini", "1a", False),
        (None, "a.b", True),  # who serves it is not known
        ("anthropic", "", True),  # a provider's own tool
    ],
)
def test_a_name_is_refused_where_its_provider_would(provider: Any, name: str, fits: bool) -> None:
    if fits:
        offerable([tool(name)], provider)
        return
    with pytest.raises(ConfigError, match="rename it"):
        offerable([tool(name)], provider)


def test_server_history_allows_outputs_of_calls_not_shown() -> None:
    assert check([fout()], "openai-responses", server_history=True) == []
    assert codes(check([fout(), fout()], "openai-responses", server_history=True)) == {"duplicate_tool_result"}
    assert check([{"type": "item_reference", "id": "fc_1"}, fout()], "openai-responses") == []


def test_strings_and_views() -> None:
    assert check("hello", "openai-responses") == []
    assert check("hello", "gemini") == []
    assert codes(check("\ud800", "openai-responses")) == {"unencodable_text"}

    class View:
        messages = (asked(call()),)
        tools = (tool("a b"),)

    assert codes(check(View())) == {"unanswered_tool_call", "bad_tool_name"}


def test_violation_names_the_place() -> None:
    (found,) = check([USER, asked(call()), USER, USER])
    assert (found.rule, found.index) == ("unanswered_tool_call", 1)
    assert "'c1'" in found.message
    (found,) = check([{**USER, "metadata": {"a": [0, {"b": {1}}]}}])
    assert "metadata.a[1].b" in found.message


@pytest.mark.parametrize("name", ["openai", "", None, 5, ["gemini"], Sly()])
def test_unknown_provider(name: Any) -> None:
    with pytest.raises(ConfigError, match="openai-chat, openai-responses, anthropic, gemini"):
        check([USER], name)


# LangChain ---------------------------------------------------------------------------------------------------------


def langchain(broken: bool) -> list[Any]:
    lc = pytest.importorskip("langchain_core.messages")
    calls = [{"name": "f", "args": {"a": 1}, "id": "t1"}, {"name": "f", "args": {}, "id": "t2"}]
    results = [lc.ToolMessage("r1", tool_call_id="t1", name="f"), lc.ToolMessage("r2", tool_call_id="t2")]
    return [
        lc.SystemMessage("be brief"),
        lc.HumanMessage([text("go")]),
        lc.AIMessage(
            [text("I look"), {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}], tool_calls=calls
        ),
        *(results[:1] if broken else results),
        lc.HumanMessage("and?"),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_langchain_messages(name: str) -> None:
    assert check(langchain(broken=False), name) == []
    (found,) = check(langchain(broken=True), name)
    assert (found.rule, found.index) == ("unanswered_tool_call", 2)


@pytest.mark.parametrize("name", NAMES)
def test_langchain_malformed_calls_are_calls(name: str) -> None:
    lc = pytest.importorskip("langchain_core.messages")
    bad = {"name": "f", "args": '{"a":', "id": "t1", "error": "no JSON", "type": "invalid_tool_call"}
    messages = [
        lc.HumanMessage("go"),
        lc.AIMessage("", invalid_tool_calls=[bad]),
        lc.ToolMessage("r", tool_call_id="t1"),
    ]
    assert check(messages, name) == []
    assert codes(check(messages[:2], name)) == {"unanswered_tool_call"}


def test_sdk_objects_are_read_as_the_sdk_sends_them() -> None:
    types = pytest.importorskip("openai.types.chat")
    said = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = types.ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [said]})
    assert check([USER, message, result()]) == []
    assert codes(check([USER, message])) == {"unanswered_tool_call"}


# Never raises ------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from([
    "role", "content", "type", "text", "user", "assistant", "tool", "system", "model", "parts", "tool_calls", "id",
    "function", "name", "arguments", "tool_call_id", "tool_use", "tool_result", "tool_use_id", "input", "thinking",
    "signature", "function_call", "function_call_output", "call_id", "output", "reasoning", "summary", "functionCall",
    "functionResponse", "compaction", "cache_control", "image_url", "url", "source", "c1", "",
])  # fmt: skip
TEXTS = WORDS | st.text(st.characters(), max_size=5)  # lone surrogates included
LEAVES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=6), max_leaves=30
)
ODD: st.SearchStrategy[Any] = (
    st.builds(Hostile) | st.binary(max_size=3) | st.builds(loop) | st.builds(deep) | st.just(str)
)
OBJECTS = st.recursive(
    LEAVES | ODD | st.sets(st.integers(), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.integers() | st.none(), inner, max_size=6)
        | st.builds(Sly, st.dictionaries(TEXTS, inner, max_size=4))
    ),
    max_leaves=30,
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(messages=st.lists(JSON, max_size=4) | JSON, system=LEAVES, tools=JSON)
def test_json_garbage_is_reported(name: str, messages: Any, system: Any, tools: Any) -> None:
    for violation in check(messages, name, system=system, tools=tools):
        assert violation.rule in REMEDIES


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(messages=st.lists(OBJECTS, max_size=4) | OBJECTS, system=OBJECTS, tools=OBJECTS)
def test_python_garbage_is_reported(name: str, messages: Any, system: Any, tools: Any) -> None:
    for violation in check(messages, name, system=system, tools=tools):
        assert violation.rule in REMEDIES


# Known valid -------------------------------------------------------------------------------------------------------

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(lambda value: f"x{value}x")
STEPS = st.lists(st.tuples(st.sampled_from(["user", "say", "system"]) | st.integers(1, 4), PLAIN), max_size=8)


def openai_chat(steps: Any) -> list[Message]:
    out = [USER]
    for at, (kind, words) in enumerate(steps):
        if type(kind) is int:
            ids = [f"c{at}_{i}" for i in range(kind)]
            out += [asked(*(call(each, arguments=words) for each in ids)), *(result(each, words) for each in ids[::-1])]
        else:
            out.append({"role": {"say": "assistant"}.get(kind, kind), "content": words})
    return out


def openai_responses(steps: Any) -> list[Message]:
    out = [USER]
    for at, (kind, words) in enumerate(steps):
        if type(kind) is int:
            ids = [f"c{at}_{i}" for i in range(kind)]
            out += [reasoning(), *(fcall(each, arguments=words) for each in ids), *(fout(each, words) for each in ids)]
        else:
            out.append({"role": {"say": "assistant"}.get(kind, kind), "content": words})
    return out


def anthropic(steps: Any) -> list[Message]:
    out = [USER]
    for at, (kind, words) in enumerate(steps):
        if type(kind) is int:
            ids = [f"t{at}_{i}" for i in range(kind)]
            out += [
                used(SIGNED, text(words), *(use(each) for each in ids)),
                given_back(*ids[::-1], more=(text(words),)),
            ]
        else:
            out.append({"role": "assistant" if kind == "say" else "user", "content": words})
    return out


def gemini(steps: Any) -> list[Message]:
    out = [GO]
    for kind, words in steps:
        if type(kind) is int:
            names = [f"f{i // 2}" for i in range(kind)]
            out += [GO, gcall(*names), gout(*names[::-1])]
        else:
            out.append({"role": "model" if kind == "say" else "user", "parts": [{"text": words}]})
    return out


BUILDERS: dict[str, Callable[[Any], list[Message]]] = {
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_valid_histories_pass(name: str, steps: Any) -> None:
    assert check(BUILDERS[name](steps), name) == []


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(steps=STEPS.filter(lambda steps: any(type(kind) is int for kind, _ in steps)), data=st.data())
def test_a_history_with_a_lost_result_fails(name: str, steps: Any, data: st.DataObject) -> None:
    messages = BUILDERS[name](steps)
    results = [at for at, each in enumerate(messages) if any(word in str(each) for word in RESULT_WORDS)]
    del messages[data.draw(st.sampled_from(results))]
    assert "unanswered_tool_call" in codes(check(messages, name))


def spoil(node: Any, value: Any, draw: Callable[[list[Any]], Any]) -> Any:
    """A copy of `node` with `value` put somewhere inside."""
    keys = list(node) if type(node) is dict else list(range(len(node))) if type(node) is list else []
    key = draw([None, *keys])
    if key is None:
        return value
    copy = node.copy()
    copy[key] = spoil(node[key], value, draw)
    return copy


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(steps=STEPS, value=OBJECTS, data=st.data())
def test_a_spoiled_history_is_reported(name: str, steps: Any, value: Any, data: st.DataObject) -> None:
    messages = spoil(BUILDERS[name](steps), value, lambda choices: data.draw(st.sampled_from(choices)))
    for violation in check(messages, name):
        assert violation.rule in REMEDIES
        assert "the message raised" not in violation.message, "the safety net caught what a rule should have"


RESULT_WORDS = ("'role': 'tool'", "function_call_output", "'tool_result'", "functionResponse")


# Cost --------------------------------------------------------------------------------------------------------------


def seconds(messages: list[Message], name: str) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        check(messages, name)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("name", ["openai-chat", "openai-responses", "anthropic"])
def test_linear_and_quick(name: str) -> None:
    turns = [USER, {"role": "assistant", "content": "done"}] * 1_000
    small, large = seconds(turns, name), seconds(turns * 10, name)
    assert large < 30 * small, "ten times the messages took over thirty times as long"
    assert small / len(turns) < 30e-6, "the target is 3 microseconds a message; ten times that is a regression"


def test_the_messages_are_left_alone() -> None:
    messages = BUILDERS["anthropic"]([(3, "x"), ("say", "y")])
    before = repr(messages)
    check(messages, "anthropic")
    check(messages, "openai-chat")
    assert repr(messages) == before
