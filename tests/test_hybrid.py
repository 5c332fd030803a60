"""Words and ranking: an index kept row by row equals one built afresh, and each part of a score does what it says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memctx.errors import EmbeddingError, FilterError, ScopeError, StoreError
from memctx.stores._terms import stem, terms
from memctx.stores.hybrid import Hybrid, Row
from memctx.stores.words import K1, B, WordIndex

A, OTHER, BELOW = "acme/ana/", "acme/bob/", "acme/ana/notes/"


# -- terms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cats were running", ["cat", "run"]),
        ("Caroline's don't", ["carolin", "don"]),
        ("order ORD-4711/b", ["ord", "ord-4711/b", "ord", "4711", "b"]),
        ("due 2024-03-15 at 8:30", ["due", "2024-03-15", "2024", "03", "15", "8:30", "8", "30"]),
        ("getUserName snake_case", ["getusername", "get", "user", "nam", "snake_case", "snak", "cas"]),
        ("ana@acme.org", ["ana@acme.org", "ana", "acm", "org"]),
        ("Café ＡＢＣ", ["caf", "abc"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("", []),
        ("the of and", []),
        ("🙂 !?", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    "forms",
    [("paint", "paints", "painted", "painting"), ("study", "studies", "studied", "studying"), ("plan", "planned", "planning"),
     ("move", "moved", "moving", "moves"), ("quick", "quickly"), ("kind", "kindness"), ("box", "boxes")],
)  # fmt: skip
def test_the_forms_of_a_word_are_one(forms: Sequence[str]) -> None:
    assert len({stem(form) for form in forms}) == 1


def test_different_words_stay_different() -> None:
    words = ["paint", "pain", "plan", "news", "bus", "boss", "glass", "thing", "king", "red", "care"]
    assert len({stem(word) for word in words}) == len(words)


# -- the index ---------------------------------------------------------------------------------------------------------


def bm25(texts: Mapping[int, str], query: str) -> dict[int, float]:
    """Written out plainly."""
    rows = {row: Counter(terms(text)) for row, text in texts.items()}
    mean = max(sum(sum(row.values()) for row in rows.values()) / max(len(rows), 1), 1.0)
    found: dict[int, float] = {}
    for row, counts in rows.items():
        score = 0.0
        for term in set(terms(query)) & set(counts):
            having = sum(term in other for other in rows.values())
            weight = math.log(1 + (len(rows) - having + 0.5) / (having + 0.5))
            length = sum(counts.values())
            score += weight * counts[term] * (K1 + 1) / (counts[term] + K1 * (1 - B + B * length / mean))
        if score > 0:
            found[row] = score
    return found


WORDS = st.lists(st.sampled_from(["anchor", "bridge", "copper", "dome", "engine", "ferry"]), max_size=8).map(" ".join)
STEPS = st.lists(st.tuples(st.integers(1, 12), st.one_of(st.none(), WORDS)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(STEPS, WORDS, st.integers(1, 6))
def test_after_any_changes_the_scores_are_those_of_what_is_there(
    steps: list[tuple[int, str | None]], query: str, k: int
) -> None:
    index, texts = WordIndex(), dict[int, str]()
    for row, text in steps:
        if text is None:
            assert index.remove(A, [row]) == (row in texts)
            texts.pop(row, None)
        else:
            index.add(A, [row], [text])
            texts[row] = text
    assert index.count(A) == index.count() == len(texts)
    expected = sorted(bm25(texts, query).items(), key=lambda each: (-round(each[1], 9), each[0]))[:k]
    ids, scores = index.search(query, k, A)
    assert np.allclose(scores, [score for _, score in expected], rtol=1e-5)
    assert [round(float(bm25(texts, query)[i]), 5) for i in ids] == [round(score, 5) for _, score in expected]


def test_a_filter_is_inside_the_search() -> None:
    index = WordIndex()
    index.add(A, range(1, 101), ["copper " * (101 - n) for n in range(1, 101)])
    ids, _ = index.search("copper", 3, A, np.array([97, 98, 99, 500]))
    assert sorted(ids.tolist()) == [97, 98, 99]
    assert len(index.search("copper", 3, A, np.array([], np.int64))[0]) == 0


def test_scopes_do_not_see_each_other() -> None:
    index = WordIndex()
    for scope in (A, OTHER, BELOW):
        index.add(scope, [1], ["copper bridge"])
    index.add(OTHER, range(2, 50), ["copper"] * 48)
    alone = WordIndex()
    alone.add(A, [1], ["copper bridge"])
    assert index.search("copper", 5, A)[1].tolist() == alone.search("copper", 5, A)[1].tolist()
    assert index.drop(A) == 2  # and what is below
    assert (index.count(A), index.count(BELOW), index.count(OTHER)) == (0, 0, 49)


def test_nothing_of_an_erased_text_stays() -> None:
    index = WordIndex()
    index.add(A, [1, 2, 3], ["canary4711 copper", "copper bridge", "dome"])
    index.remove(A, [1])
    assert "canary4711" not in repr(vars(index._parts[A]))
    index.drop(A)
    assert index._parts == {}


def test_what_cannot_be_is_refused() -> None:
    index = WordIndex()
    with pytest.raises(ScopeError):
        index.search("x", 1, "")
    with pytest.raises(FilterError):
        index.search("x", 0, A)
    with pytest.raises(EmbeddingError):
        index.add(A, [0], ["x"])
    assert index.count() == 0
    index.close()
    with pytest.raises(StoreError, match="closed"):
        index.search("x", 1, A)


def test_alike_shares_the_words_that_stand_out() -> None:
    index = WordIndex()
    index.add(A, [1, 2, 3, 4], ["lease harbour office june", "harbour office keys", "bread flour", "june rain"])
    ids, scores = index.alike({1: 1.0}, 10, A, but="lease")
    assert ids[0] in (1, 2)
    assert 3 not in ids
    assert scores[ids.tolist().index(1)] <= scores[ids.tolist().index(2)] + 1e-6  # itself is no better for it
    assert len(index.alike({}, 5, A)[0]) == 0
    assert index.alike({1: 1.0}, 5, A, np.array([4]))[0].tolist() == [4]


# -- ranking -----------------------------------------------------------------------------------------------------------


class Scene:
    """Records, and what the two lists say of them."""

    def __init__(self, meaning: Mapping[int, float], words: Mapping[int, float], **rows: Row) -> None:
        self.rows = {n: Row(n, "some text of usual length") for n in {*meaning, *words}}
        self.rows |= {row.id: row for row in rows.values()}
        self.meaning, self.words = meaning, words
        self.near: dict[int, list[int]] = {}

    def rank(self, k: int = 10, ranker: Hybrid | None = None, **more: Any) -> list[Any]:
        def find(scores: Mapping[int, float]) -> Callable[[int], Any]:
            def best(n: int) -> Any:
                order = sorted(scores, key=lambda each: (-scores[each], each))[:n]
                return np.array(order, np.int64), np.array([scores[each] for each in order], np.float32)

            return best

        return (ranker or PLAIN).rank(
            "query", k, dense=find(self.meaning), words=find(self.words),
            rows=lambda ids: {each: self.rows[each] for each in ids if each in self.rows},
            neighbours=lambda ids: {each: self.near.get(each, []) for each in ids}, **more,
        )  # fmt: skip


PLAIN = Hybrid(recency=0, brevity=0, trust=0, useful=0)
FLAT = dict.fromkeys(range(1, 9), 0.5)


def ids(found: list[Any]) -> list[int]:
    return [each.id for each in found]


def test_the_list_that_decides_counts_more() -> None:
    clear = dict.fromkeys(range(1, 21), 0.1) | {20: 5.0}
    vague = {n: 0.50 + 0.001 * n for n in range(1, 21)} | {20: 0.5}
    assert ids(Scene(vague, clear).rank(1)) == [20]
    assert ids(Scene(clear, vague).rank(1)) == [20]


def test_the_parts_add_up_to_the_score() -> None:
    scene = Scene({1: 0.9, 2: 0.5, 3: 0.1}, {2: 3.0, 3: 1.0})
    scene.near = {2: [1, 3]}
    for each in scene.rank(ranker=Hybrid()):
        assert each.score == pytest.approx(sum(each.parts.values()), abs=1e-3)
        assert {"meaning", "words", "neighbours", "recency", "brevity", "trust", "useful"} <= set(each.parts)


def test_the_same_question_has_the_same_answer_and_ties_go_by_id() -> None:
    scene = Scene(FLAT, {})
    assert ids(scene.rank(8)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert scene.rank(8) == scene.rank(8)


def test_nothing_found_and_nothing_visible() -> None:
    assert Scene({}, {}).rank() == []
    scene = Scene({1: 0.5}, {1: 1.0})
    scene.rows = {}
    assert scene.rank() == []
    assert ids(Scene({1: 0.5}, {}).rank()) == [1]


def test_a_neighbour_of_the_best_is_lifted_even_if_no_list_has_it() -> None:
    scene = Scene(dict.fromkeys(range(1, 20), 0.1) | {10: 0.9}, {10: 4.0}, far=Row(50, "the turn after"))
    scene.near = {10: [9, 50]}
    assert set(ids(scene.rank(3))) == {10, 9, 50}
    assert 50 not in ids(scene.rank(3, Hybrid(**{**PLAIN.model_dump(), "before": 0, "after": 0})))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Row(2, "some text", created=9.0), Row(1, "some text", created=1.0)),
        (Row(2, "short"), Row(1, "short" * 50)),
        (Row(2, "some text", trust=2), Row(1, "some text", trust=0)),
        (Row(2, "some text", helped=3.0, outcomes=3), Row(1, "some text", helped=-3.0, outcomes=3)),
    ],
)
def test_priors_decide_between_equals(better: Row, worse: Row) -> None:
    weights: dict[str, Any] = {"recency": 0.0, "brevity": 0.0, "trust": 0.0, "useful": 0.0}
    name = {9.0: "recency"}.get(better.created) or next(
        name for name, differs in (("brevity", len(better.text) != len(worse.text)), ("trust", worse.trust == 0),
                                   ("useful", bool(better.outcomes))) if differs
    )  # fmt: skip
    scene = Scene({1: 0.5, 2: 0.5}, {}, better=better, worse=worse)
    assert ids(scene.rank(2, Hybrid(**weights))) == [1, 2]
    assert ids(scene.rank(2, Hybrid(**{**weights, name: 0.5}))) == [2, 1]


def test_without_outcomes_usefulness_is_nothing() -> None:
    found = Scene({1: 0.9, 2: 0.1}, {}, used=Row(1, "text", uses=50)).rank(ranker=Hybrid())
    assert all(each.parts["useful"] == 0 for each in found)


def test_vectors_take_out_what_all_share_and_lift_kin() -> None:
    raw: dict[int, list[float]] = {1: [5, 1, 0, 0], 2: [5, 1, 0.2, 0], 3: [5, -1, 1, 0], 4: [5, -1, -1, 1]}
    vectors = {n: (np.array(v) / np.linalg.norm(v)).astype(np.float32) for n, v in raw.items()}
    query = np.array([5, 0.9, 0, 0]) / np.linalg.norm([5, 0.9, 0, 0])
    scene = Scene({n: float(v @ query) for n, v in vectors.items()}, {})
    found = scene.rank(4, vector=query.astype(np.float32), vectors=lambda asked: {n: vectors[n] for n in asked})
    assert set(ids(found[:2])) == {1, 2}
    assert min(each.parts["kin"] for each in found[:2]) > max(each.parts["kin"] for each in found[2:])
    part = {each.id: each.parts["meaning"] for each in found}
    assert min(part[1], part[2]) - max(part[3], part[4]) > 0.5


def test_echo_asks_about_the_candidates_with_shares_that_sum_to_one() -> None:
    asked: list[Any] = []

    def alike(shares: Mapping[int, float], among: Any) -> Any:
        asked.append((dict(shares), among.tolist()))
        return np.array([3], np.int64), np.array([2.0], np.float32)

    scene = Scene({1: 0.9, 2: 0.5, 3: 0.5, 4: 0.5}, {1: 2.0})
    assert ids(scene.rank(4, alike=alike))[:2] == [1, 3]
    shares, among = asked[0]
    assert among == [1, 2, 3, 4]
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda each: shares[each]) == 1


def test_a_reranker_has_the_last_word_on_the_best() -> None:
    def longest(query: str, texts: Sequence[str]) -> list[float]:
        assert query == "query"
        return [float(len(text)) for text in texts]

    scene = Scene({1: 0.9, 2: 0.8, 3: 0.1}, {}, two=Row(2, "x" * 99), three=Row(3, "x" * 500))
    ranker = Hybrid(**{**PLAIN.model_dump(), "rerank": 2, "reranker": longest})
    assert ids(scene.rank(3, ranker)) == [2, 1, 3]
    assert "reranker" not in Hybrid(reranker=longest).dump()


def test_ranking_is_fast() -> None:
    from time import perf_counter

    many = {n: 1 / n for n in range(1, 401)}
    scene = Scene(many, many)
    scene.rank(10, Hybrid())
    begin = perf_counter()
    for _ in range(10):
        scene.rank(10, Hybrid())
    assert (perf_counter() - begin) / 10 < 0.1  # measured: 3 ms; the bound allows for a busy machine
