"""`MemctxStore` beside LangGraph's own `InMemoryStore`, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("langgraph")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from memctx.adapters.langgraph import MemctxStore
from memctx.errors import ConfigError, EmbeddingError, FilterError, InvalidMessage, LimitError, ScopeError
from memctx.scope import scope
from memctx.stores.sql import SqlStore

DIM = 64


def embed(texts: list[str]) -> list[list[float]]:
    """Words thrown into a few numbers: texts that share words are near."""
    rows = np.full((len(texts), DIM), 0.01)
    for row, each in zip(rows, texts, strict=True):
        for word in each.lower().split():
            row[zlib.crc32(word.encode()) % DIM] += 1
    return rows.tolist()


async def aembed(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return embed(texts)


INDEX: Any = {"dims": DIM, "embed": embed, "fields": ["text"]}


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store() -> Iterator[MemctxStore]:
    with MemctxStore() as made:
        yield made


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


# -- the same answers as LangGraph's own store -----------------------------------------------------------------------

LABELS = ["users", "ana", "bo.b", "a@x.com", "50%", "a/b", "*", "v1", "ana2"]
namespaces = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(tuple)
patterns = st.lists(st.sampled_from(["*", "*", *LABELS]), min_size=1, max_size=2).map(tuple)
prefixes = st.lists(st.sampled_from(LABELS), max_size=3).map(tuple)
keys = st.sampled_from(["a", "b", "c", "x') --", "ключ"])
WORDS = ["red", "green", "blue", "deep sea", "high hill", "old town"]
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.5, 2**70]) | st.sampled_from(WORDS)
values = st.fixed_dictionaries(
    {"n": st.integers(-3, 3)},
    optional={
        "s": scalars,
        "x') OR '1'='1": scalars,
        "in": st.fixed_dictionaries({"s": scalars}),
        "l": st.lists(scalars),
    },
)
numbers = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
filters = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(["n", "s", "x') OR '1'='1", "n') --"]), scalars, max_size=2),
    st.fixed_dictionaries({"n": st.dictionaries(numbers | st.sampled_from(["$eq", "$ne"]), st.integers(-3, 3))}),
    st.fixed_dictionaries({"s": st.fixed_dictionaries({"$ne": scalars})}),
    st.fixed_dictionaries({"in": st.fixed_dictionaries({"s": scalars})}),
    st.fixed_dictionaries({"l": st.lists(scalars, max_size=2)}),
)


def shown(item: Any) -> tuple[Any, ...] | None:
    return item and (item.namespace, item.key, repr(item.value))


def only_with_items(store: InMemoryStore) -> None:
    """InMemoryStore lists a namespace that was only asked for, or is empty by now; none of the others does."""
    for namespace in [name for name, items in store._data.items() if not items]:
        del store._data[namespace]


class Both(RuleBasedStateMachine):
    """One sequence of operations through both stores."""

    ours: MemctxStore

    @initialize()
    def start(self) -> None:
        self.theirs = InMemoryStore()
        clear(self.ours)

    def both(self, *ops: Any) -> tuple[list[Any], list[Any]]:
        only_with_items(self.theirs)
        return self.theirs.batch(ops), self.ours.batch(ops)

    @rule(ops=st.lists(st.tuples(namespaces, keys, st.none() | values), min_size=1, max_size=5))
    def put(self, ops: list[Any]) -> None:
        puts = [PutOp(*op) for op in ops]
        reads = [GetOp(op.namespace, op.key) for op in puts]
        theirs, ours = self.both(*reads, *puts)
        assert [shown(item) for item in ours] == [shown(item) for item in theirs]

    @rule(namespace=namespaces, key=keys)
    def get(self, namespace: Any, key: str) -> None:
        theirs, ours = self.both(GetOp(namespace, key))
        assert shown(ours[0]) == shown(theirs[0])

    @rule(prefix=prefixes, filter=filters)
    def search(self, prefix: Any, filter: Any) -> None:
        theirs, ours = self.both(SearchOp(prefix, filter, 1_000))
        assert sorted(map(str, map(shown, ours[0]))) == sorted(map(str, map(shown, theirs[0])))

    @rule(namespace=namespaces, filter=filters, limit=st.integers(0, 4), offset=st.integers(0, 3))
    def page(self, namespace: Any, filter: Any, limit: int, offset: int) -> None:
        """Inside one namespace the order is the same too."""
        below = [found for found in self.ours.list_namespaces(prefix=namespace, limit=1_000) if found != namespace]
        if not below:
            theirs, ours = self.both(SearchOp(namespace, filter, limit, offset))
            assert [shown(item) for item in ours[0]] == [shown(item) for item in theirs[0]]

    @rule(
        paths=st.lists(st.tuples(st.sampled_from(["prefix", "suffix"]), patterns), max_size=2),
        depth=st.none() | st.integers(1, 3),
        limit=st.integers(0, 20),
        offset=st.integers(0, 3),
    )
    def listing(self, paths: Any, depth: int | None, limit: int, offset: int) -> None:
        conditions = tuple(MatchCondition(*each) for each in paths)
        theirs, ours = self.both(ListNamespacesOp(conditions, depth, limit, offset))
        assert ours == theirs

    @invariant()
    def same_items(self) -> None:
        if hasattr(self, "theirs"):
            theirs, ours = self.both(SearchOp((), None, 10_000))
            assert sorted(map(str, map(shown, ours[0]))) == sorted(map(str, map(shown, theirs[0])))


def clear(store: MemctxStore) -> None:
    store.batch([PutOp(item.namespace, item.key, None) for item in store.search((), limit=10_000)])


def test_the_same_answers_as_langgraphs_own_store(store: MemctxStore) -> None:
    machine = type("OnSqlite", (Both,), {"ours": store})
    run_state_machine_as_test(machine, settings=settings(max_examples=50, stateful_step_count=20, deadline=None))


def test_the_same_answers_on_postgresql(postgres_url: str) -> None:
    with MemctxStore(postgres_url) as store:
        machine = type("OnPostgres", (Both,), {"ours": store})
        run_state_machine_as_test(machine, settings=settings(max_examples=10, stateful_step_count=20, deadline=None))


texts = st.lists(st.sampled_from(["one", "two", "three", "four", "five", "six", "seven"]), min_size=1, max_size=4).map(
    " ".join
)


_store_with_vectors = MemctxStore(index=INDEX)


@settings(max_examples=60)
@given(items=st.lists(texts, unique=True, max_size=8), query=texts, limit=st.integers(1, 9), offset=st.integers(0, 2))
def test_the_same_items_found_by_meaning(items: list[str], query: str, limit: int, offset: int) -> None:
    theirs, ours = InMemoryStore(index=INDEX), _store_with_vectors
    clear(ours)
    for place, each in enumerate(items):
        for target in (theirs, ours):
            target.put(("docs", str(place % 2)), f"k{place}", {"text": each, "n": place % 3})
    for condition in (None, {"n": 1}):
        expected = theirs.search(("docs",), query=query, filter=condition, limit=limit, offset=offset)
        found = ours.search(("docs",), query=query, filter=condition, limit=limit, offset=offset)
        assert [item.score for item in found] == pytest.approx([item.score for item in expected], abs=1e-5)
        score = dict(zip(items, np.round(_cosines(query, items), 5), strict=True))
        assert [score[i.value["text"]] for i in found] == [score[i.value["text"]] for i in expected]


def _cosines(query: str, items: list[str]) -> Any:
    if not items:
        return []
    rows = np.array(embed([query, *items]))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[1:] @ rows[0]


# -- what it does beyond ---------------------------------------------------------------------------------------------


def test_ids_with_dots_and_at_signs(where: str) -> None:
    with MemctxStore(where) as store:
        odd = [("users", "ana.b@x.com"), ("users", "a/b"), ("users", "100%"), ("users", "a%2Fb"), ("users", "Ana")]
        for place, namespace in enumerate(odd):
            store.put(namespace, "k", {"n": place})
        for place, namespace in enumerate(odd):
            found = store.get(namespace, "k")
            assert found is not None
            assert found.namespace == namespace
            assert found.value == {"n": place}
            assert [item.value["n"] for item in store.search(namespace)] == [place]
        assert store.list_namespaces() == sorted(odd)
        store.delete(("users", "a/b"), "k")
        assert store.get(("users", "a/b"), "k") is None
        assert len(store.search(("users",))) == 4


def test_a_new_value_keeps_the_time_of_creation(store: MemctxStore) -> None:
    clock = Clock()
    store._clock = clock
    store.put(("a",), "k", {"n": 1})
    clock.now += 60
    store.put(("a",), "k", {"n": 2})
    item = store.get(("a",), "k")
    assert item is not None
    assert item.value == {"n": 2}
    assert (item.updated_at - item.created_at).total_seconds() == 60
    assert item.created_at.tzinfo is not None


def test_a_batch_reads_first_and_the_last_put_counts(where: str) -> None:
    with MemctxStore(where) as store:
        store.put(("a",), "k", {"n": 0})
        ops: list[Any] = [
            PutOp(("a",), "k", {"n": 1}), GetOp(("a",), "k"), PutOp(("a",), "k", {"n": 2}),
            SearchOp(("a",)), PutOp(("b",), "k", {"n": 1}), PutOp(("b",), "k", None), ListNamespacesOp(),
        ]  # fmt: skip
        results: list[Any] = store.batch(ops)
        assert [results[place] for place in (0, 2, 4, 5)] == [None] * 4
        assert results[1].value == {"n": 0}
        assert [item.value for item in results[3]] == [{"n": 0}]
        assert results[6] == [("a",)]
        assert shown(store.get(("a",), "k")) == (("a",), "k", "{'n': 2}")
        assert store.get(("b",), "k") is None


def test_values_come_back_as_they_were(where: str) -> None:
    value = {"big": 2**200, "f": 0.1, "s": "\0\ud800 \U0001f600", "n": None, "t": (1, [True, {}]), "q": "'; drop --"}
    with MemctxStore(where) as store:
        store.put(("a",), "k", value)
        found = store.get(("a",), "k")
        assert found is not None
        assert found.value == {**value, "t": [1, [True, {}]]}


def test_everything_awaited(where: str) -> None:
    async def walk() -> None:
        async with MemctxStore(where, index=cast("Any", {**INDEX, "embed": aembed})) as store:
            await asyncio.gather(*(store.aput(("d", f"u{i}"), "k", {"text": f"item {i}", "n": i}) for i in range(10)))
            assert len(await store.asearch(("d",), limit=99)) == 10
            hit = (await store.asearch(("d",), query="item 7", limit=1))[0]
            assert hit.value["n"] == 7
            assert hit.score == pytest.approx(1)
            await store.adelete(("d", "u7"), "k")
            assert await store.aget(("d", "u7"), "k") is None
            assert len(await store.alist_namespaces(prefix=("d", "*"))) == 9
            assert {i.value["n"] for i in await store.asearch(("d",), filter={"n": {"$gt": 7}})} == {8, 9}

    asyncio.run(walk())


def test_namespaces_by_prefix_and_suffix(store: MemctxStore) -> None:
    names = [("a", "b", "v1"), ("a", "c", "v1"), ("a", "c", "v2"), ("b", "c", "v1"), ("v1", "a")]
    for name in names:
        store.put(name, "k", {})
    assert store.list_namespaces(suffix=("v1",)) == [names[0], names[1], names[3]]
    assert store.list_namespaces(suffix=("c", "*")) == [names[1], names[2], names[3]]
    assert store.list_namespaces(prefix=("*", "c"), suffix=("v1",)) == [names[1], names[3]]
    assert store.list_namespaces(prefix=("a",), max_depth=2, offset=1) == [("a", "c")]


def test_pages_of_what_has_no_vector_go_on_after_what_has(where: str) -> None:
    with MemctxStore(where, index=INDEX) as store:
        for place in range(6):
            store.put(("d",), str(place), {"text": f"tea {'hot ' * place}"}, index=None if place < 3 else False)
        pages = [store.search(("d",), query="tea", limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        assert [[item.key for item in page] for page in pages] == [["0", "1"], ["2", "3"], ["4", "5"], []]
        assert [
            item.key for item in store.search(("d",), query="tea", filter={"text": {"$gt": "tea h"}}, offset=3)
        ] == ["4", "5"]


def test_what_comes_after_an_expired_item_is_a_new_one() -> None:
    clock = Clock()
    with MemctxStore(clock=clock) as store:
        store.batch([PutOp(("a",), f"{i:04}", {"n": 1}, ttl=1) for i in range(1_200)])
        store.put(("a",), "other", {"n": 2})
        clock.now += 61
        store.put(("a",), "1199", {"n": 3})
        assert [item.key for item in store.search(("a",))] == ["other", "1199"]
        item = store.get(("a",), "1199")
        assert item is not None
        assert item.created_at.timestamp() == clock.now


def test_found_by_meaning_in_each_listed_field() -> None:
    index: Any = {"dims": DIM, "embed": embed, "fields": ["title", "notes[*].text"]}
    with MemctxStore(index=index) as store:
        store.put(("d",), "one", {"title": "green hill", "notes": [{"text": "red boat"}, {"text": "blue whale"}]})
        store.put(("d",), "two", {"title": "old town"})
        store.put(("d",), "hidden", {"title": "blue whale"}, index=False)
        store.put(("d",), "other", {"title": "x", "body": "wild goose"}, index=["body"])
        found: list[Any] = [(hit.key, hit.score) for hit in store.search(("d",), query="blue whale")]
        assert found[0] == ("one", pytest.approx(1))
        assert found[-1] == ("hidden", None)
        assert store.search(("d",), query="wild goose")[0].key == "other"
        store.put(("d",), "one", {"title": "nothing of the kind"})
        assert store.search(("d",), query="blue whale")[0].score < 0.9  # type: ignore[operator]
        assert {hit.score for hit in store.search(("d",), query="")} == {None}


def test_vectors_that_cannot_be_are_refused_and_nothing_is_stored() -> None:
    bad: list[Callable[[list[str]], Any]] = [
        lambda texts: [[1.0] * (DIM - 1)] * len(texts),
        lambda texts: [[math.nan] * DIM] * len(texts),
        lambda texts: [],
        lambda texts: ["x"],
    ]
    for maker in bad:
        index: Any = {"dims": DIM, "embed": maker, "fields": ["text"]}
        with MemctxStore(index=index) as store:
            with pytest.raises(EmbeddingError):
                store.put(("a",), "k", {"text": "x"})
            assert store.get(("a",), "k") is None
    with pytest.raises(ConfigError, match="dims"):
        MemctxStore(index=cast("Any", {"embed": embed}))


@pytest.mark.parametrize("asynchronously", [False, True])
def test_time_to_live(where: str, asynchronously: bool) -> None:
    clock = Clock()

    async def walk(store: MemctxStore) -> None:
        async def get(key: str, **options: Any) -> Any:
            return (await store.aget(("a",), key, **options)) if asynchronously else store.get(("a",), key, **options)

        store.put(("a",), "short", {"n": 1})
        store.put(("a",), "forever", {"n": 2}, ttl=None)
        store.put(("a",), "long", {"n": 3}, ttl=100)
        clock.now += 50
        assert await get("short")  # a read starts its minute again
        clock.now += 50
        assert await get("short", refresh_ttl=False)
        clock.now += 30
        assert await get("short") is None
        assert len(store.search(("a",))) == 2
        clock.now += 6_000
        assert store.list_namespaces() == [("a",)]
        swept = await store.asweep_ttl() if asynchronously else store.sweep_ttl()
        assert swept == 2
        store.put(("a",), "short", {"n": 4})
        assert [item.key for item in store.search(("a",))] == ["forever", "short"]

    with MemctxStore(where, ttl={"default_ttl": 1, "refresh_on_read": True}, clock=clock) as store:
        assert store.supports_ttl
        asyncio.run(walk(store))


def test_what_expired_leaves_the_database(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "store.db"

    def held() -> int:
        return int(sqlite3.connect(path).execute("select count(*) from document").fetchone()[0])

    with MemctxStore(path, clock=clock, index=INDEX) as store:
        store.batch([PutOp(("a",), str(i), {"text": f"t {i}"}, ttl=1) for i in range(1_500)])
        clock.now += 61
        assert held() == 1_500
        assert store.search(("a",), query="t 1") == []
        store.put(("b",), "k", {"n": 1})
        assert held() == 501
        assert store.sweep_ttl() == 500
        assert held() == 1
        assert sqlite3.connect(path).execute("select count(*) from item_vector").fetchone()[0] == 0


# -- what is refused -------------------------------------------------------------------------------------------------

BAD_FILTERS: list[Any] = [
    {"n": {"$where": 1}}, {"n": {"$regex": ".*"}}, {"n": {"$EQ": 1}}, {"n": {"$gt": 1, "__class__": 2}},
    {"n": {"$gt": None}}, {"n": {"$gt": {"$gt": 1}}}, {"n": math.nan}, {"n": math.inf}, {"n": b"x"}, {"n": 10**400},
    {"n": object()}, {1: 2}, [1], {"n": {"$in": [1]}},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_FILTERS, ids=map(str, range(len(BAD_FILTERS))))
def test_bad_filters_are_refused(store: MemctxStore, bad: Any) -> None:
    with pytest.raises(FilterError):
        store.search(("a",), filter=bad)


def test_filters_have_bounds(store: MemctxStore) -> None:
    deep: Any = 1
    for _ in range(50):
        deep = {"$eq": deep}
    with pytest.raises(FilterError, match="nested"):
        store.search(("a",), filter={"n": deep})
    with pytest.raises(LimitError):
        store.search(("a",), filter={"n": list(range(100_000))})


_plain_store = MemctxStore()


@settings(max_examples=100)
@given(key=st.text(max_size=30) | st.sampled_from(["x') OR '1'='1", "$.a') --", 'a"]', "a\n", "", "$gt", "%s", ":a"]))
def test_a_filter_key_is_only_ever_a_key(key: str) -> None:
    _plain_store.put(("a",), "k", {"n": 1, key: "here"})
    _plain_store.put(("b",), "k", {"n": 1})
    assert [item.namespace for item in _plain_store.search((), filter={key: "here"})] == [("a",)]
    assert _plain_store.search((), filter={key: "there", "n": 1}) == []


def test_texts_and_numbers_are_ordered_among_themselves(store: MemctxStore) -> None:
    for key, value in {"one": 1, "two": 2.5, "text": "2024-02-01", "none": None, "list": [5], "true": True}.items():
        store.put(("a",), key, {"v": value})

    def found(filter: Any) -> set[str]:
        return {item.key for item in store.search(("a",), filter={"v": filter})}

    assert found({"$gt": 0}) == {"one", "two", "true"}
    assert found({"$gte": "2024-01-01", "$lt": "2024-03-01"}) == {"text"}
    assert found({"$eq": [5]}) == {"list"}
    assert found({"$ne": None}) == {"one", "two", "text", "list", "true"}


@pytest.mark.parametrize("bad", [-1, 10**10, "5", True, 2.5, None])
def test_bad_limits_and_offsets_are_refused(store: MemctxStore, bad: Any) -> None:
    for name in ("limit", "offset"):
        with pytest.raises(FilterError, match=name):
            store.search(("a",), **{name: bad})
        with pytest.raises(FilterError, match=name):
            store.list_namespaces(**{name: bad})
    assert store.search(("a",), limit=0) == []


BAD_NAMESPACES: list[Any] = [
    (),
    ("",),
    ("a", ""),
    ("a\n",),
    ("a\0",),
    ("a" * 300,),
    (5,),
    (["a"],),
    "users",
    None,
    ("langgraph",),
]


@pytest.mark.parametrize("bad", BAD_NAMESPACES, ids=repr)
def test_bad_namespaces_are_refused(store: MemctxStore, bad: Any) -> None:
    with pytest.raises(ScopeError) as caught:
        store.put(bad, "k", {})
    assert isinstance(caught.value, InvalidNamespaceError)  # what LangGraph's own callers would catch
    with pytest.raises(LimitError):
        store.put(("a",) * 100, "k", {})


@pytest.mark.parametrize("key", ["", "k" * 501, "a\0b"])
def test_bad_keys_are_refused(store: MemctxStore, key: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        store.put(("a",), key, {})
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize("value", [{1: 2}, {"a": b"x"}, {"a": math.nan}, {"a": {1, 2}}, [1], "text"], ids=repr)
def test_values_that_are_no_json_are_refused(store: MemctxStore, value: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        store.batch([PutOp(("a",), "first", {"n": 1}), PutOp(("a",), "k", value)])
    assert caught.value.code == "not_json"
    assert store.search(()) == []


def test_large_and_deep_values_are_refused(store: MemctxStore) -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(InvalidMessage):
        store.put(("a",), "k", {"d": deep})
    with pytest.raises(LimitError):
        store.put(("a",), "k", {"d": "x" * 10_000_001})


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, 10**12, "1h", True])
def test_bad_times_to_live_are_refused(store: MemctxStore, ttl: Any) -> None:
    with pytest.raises(ConfigError, match="ttl"):
        store.put(("a",), "k", {}, ttl=ttl)
    with pytest.raises(ConfigError, match="ttl"):
        MemctxStore(ttl={"default_ttl": ttl})


# -- tenants, concurrency, erasure -----------------------------------------------------------------------------------


def test_tenants_are_not_seen_through_prefixes(where: str) -> None:
    names = ["a", "ab", "A", "a.b", "a_b", "a-b", "a%", "a*", "a b", "..", "á", "a\u0301"]
    with MemctxStore(where, index=INDEX) as store:
        for name in names:
            store.put(("users", name), "k", {"who": name, "text": "the same for all"})
        for name in names:
            for found in (
                store.search(("users", name)),
                store.search(("users", name), query="the same for all", limit=99),
            ):
                assert [item.value["who"] for item in found] == [name]
            assert store.list_namespaces(prefix=("users", name)) == [("users", name)]


def test_tenants_below_a_root_of_their_own(where: str) -> None:
    database = SqlStore(where)
    ours, other = (MemctxStore(database, under=("tenants", name)) for name in ("a", "ab"))
    ours.put(("users", "x"), "k", {"n": 1})
    other.put(("users", "x"), "k", {"n": 2})
    assert [item.value for item in ours.search(())] == [{"n": 1}]
    assert ours.list_namespaces() == [("users", "x")]
    assert ours.list_namespaces(max_depth=1) == [("users",)]
    found = other.get(("users", "x"), "k")
    assert found is not None
    assert found.value == {"n": 2}
    assert found.namespace == ("users", "x")
    other.delete(("users", "x"), "k")
    assert len(MemctxStore(database).search(())) == 1
    database.close()


def test_concurrency_of_threads_and_event_loops_loses_no_put(where: str) -> None:
    with MemctxStore(where) as store:

        def threads(worker: int) -> None:
            for i in range(10):
                store.put(("w", f"t{worker}"), f"k{i}", {"n": i})
                store.put(("w", "shared"), "k", {"n": i})

        def loops(worker: int) -> None:
            async def walk() -> None:
                await asyncio.gather(*(store.aput(("w", f"l{worker}"), f"k{i}", {"n": i}) for i in range(10)))
                await asyncio.gather(*(store.aput(("w", "shared"), "k", {"n": i}) for i in range(5)))

            asyncio.run(walk())

        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(threads, worker) for worker in range(5)]
            jobs += [pool.submit(loops, worker) for worker in range(3)]
            for job in jobs:
                job.result(timeout=60)
        assert len(store.search(("w",), limit=1_000)) == 81


def test_erasure_of_a_scope_takes_its_items_along(tmp_path: Path) -> None:
    memory = pytest.importorskip("memctx.memory").Memory(tmp_path / "memory.db")
    with memory:
        store = MemctxStore(memory, index={"fields": ["text"]})
        store.put(("acme", "ana"), "k", {"text": "Ana likes the canary CANARY-0001"})
        store.put(("acme", "bo"), "k", {"text": "Bo likes tea"})
        assert store.search(("acme",), query="canaries that Ana likes")[0].key == "k"
        receipt = memory.at("acme", "ana").erase()
        assert receipt.complete
        assert [item.namespace for item in store.search(())] == [("acme", "bo")]
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"CANARY-0001" in path.read_bytes()]


def test_under_a_compiled_graph() -> None:
    def remember(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
        kept: BaseStore | None = runtime.store
        assert kept is not None
        kept.put(("users", "ana@x.com"), str(len(state["messages"])), {"text": str(state["messages"][-1].content)})
        return {"messages": [("ai", str(len(kept.search(("users",)))))]}

    async def aremember(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
        assert runtime.store is not None
        return {"messages": [("ai", str(len(await runtime.store.asearch(("users", "ana@x.com")))))]}

    with MemctxStore() as store:
        graph: Any = StateGraph(MessagesState).add_node("n", remember).add_node("m", aremember)
        graph = graph.add_edge(START, "n").add_edge("n", "m").compile(store=store)
        said = asyncio.run(graph.ainvoke({"messages": [("human", "hello")]}))["messages"]
        assert [message.content for message in said] == ["hello", "1", "1"]
    assert scope("users", "ana@x.com") == "users/ana@x.com/"
