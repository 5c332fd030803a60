"""MEMO's loop: the bank, the replay of positions, and prompts that evolve."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from memctx.errors import ConfigError
from memctx.experience import Add, Edit, Experience, Library, Merge, Op, Remove
from memctx.memory import Memory
from memctx.train._bank import overlap
from memctx.train.envs import tictactoe
from memctx.train.envs._scripted import noisy, player
from memctx.train.envs.tictactoe import TicTacToe
from memctx.train.insights import (
    Evolution,
    Generation,
    InsightBank,
    Memo,
    Met,
    Position,
    PriorityReplay,
    contested,
    spread,
    strategic,
)
from memctx.train.tournament import Move, Played, Start


def add(text: str, **fields: Any) -> Add:
    return Add(Experience(text, **fields))


@pytest.fixture(params=["memory", "library"])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty bank of at most four, kept either way."""
    if request.param == "memory":
        yield InsightBank(4)
        return
    with Memory(tmp_path / "bank.db") as memory:
        yield InsightBank(4, Library(memory.at("acme")))


def texts(bank: InsightBank) -> list[str]:
    return [item.advice for item in bank.items]


FOUR = ("take the centre first", "block every open row", "corners beat edges", "make two threats at once")


def filled(bank: InsightBank) -> list[int]:
    """The ids of four insights."""
    bank.apply([add(text) for text in FOUR])
    assert texts(bank) == list(FOUR)
    return [item.id for item in bank.items]


def test_operations_are_done_in_one_order_whatever_the_order_given(bank: InsightBank) -> None:
    one, two, three, four = filled(bank)
    new = "watch what the other side never does"
    ops: list[Op] = [
        add(new),
        Merge((three, four), "corners make two threats"),
        Edit(two, "block at once"),
        Remove(one),
    ]
    changed = bank.apply(ops)
    assert [type(op) for op in changed.done] == [Remove, Edit, Merge, Add]
    assert texts(bank) == ["block at once", "corners make two threats", new]
    assert [item.id for item in bank.items][:2] == [two, three], "ids are stable"
    assert bank.items[-1].id not in {one, two, three, four}


def test_the_same_operations_again_change_nothing(bank: InsightBank) -> None:
    one, two, three, _ = filled(bank)
    ops: list[Op] = [Remove(one), Edit(two, "block at once"), add("know when a game is drawn"), Merge((two, three))]
    bank.apply(ops)
    before = texts(bank)
    again = bank.apply(ops)
    assert texts(bank) == before
    assert not again.done
    assert Counter(why for _, why in again.refused) == {"unknown": 2, "same": 1, "repeats": 1}


def test_what_repeats_an_insight_is_refused(bank: InsightBank) -> None:
    bank.apply([add("one two three four five")])
    (three,) = bank.apply([add("one two three nine ten eleven")]).done  # 3 of 5 words: 60 %, and no more
    assert isinstance(three, Add)
    ((_, why),) = bank.apply([add("FOUR, five: one two")]).refused
    assert why == "repeats"
    assert overlap("a b c d", "A b c x y z") == 0.75


def test_two_adds_that_say_the_same_give_one(bank: InsightBank) -> None:
    changed = bank.apply([add("take the centre"), add("Take the centre!")])
    assert len(changed.done) == 1
    assert len(bank.items) == 1


def test_a_full_bank_makes_room_at_the_cost_of_what_helped_least(bank: InsightBank) -> None:
    one, two, three, four = filled(bank)
    bank.report([one, three], 1.0)
    bank.report([two], -0.5)
    bank.apply([add("count the moves that are left")])
    assert two not in [item.id for item in bank.items]
    assert len(bank.items) == 4
    bank.apply([add(f"lesson{n} number{n} says{n}") for n in range(9)])
    assert len(bank.items) == 4
    assert not {one, three, four} & {item.id for item in bank.items}


def test_what_was_just_added_does_not_make_room(bank: InsightBank) -> None:
    changed = bank.apply([add(f"lesson{n} number{n}") for n in range(6)])
    assert [why for _, why in changed.refused] == ["full", "full"]
    assert texts(bank) == [f"lesson{n} number{n}" for n in range(4)]


def test_no_change_leaves_the_bank_empty(bank: InsightBank) -> None:
    ids = filled(bank)
    changed = bank.apply([Remove(each) for each in ids])
    assert [why for _, why in changed.refused] == ["last"]
    assert texts(bank) == [FOUR[-1]]
    assert bank.apply([Merge((ids[-1], 999))]).refused[0][1] == "unknown"
    assert len(bank.items) == 1


def test_a_merge_keeps_the_first_with_what_is_known_of_all(bank: InsightBank) -> None:
    one, two, *_ = filled(bank)
    bank.report([one, two], 1.0)
    bank.report([two], -0.5)
    bank.apply([Merge((one, two), "centre, then block")])
    merged = bank.items[0]
    assert (merged.id, merged.advice, merged.outcomes, merged.helped) == (one, "centre, then block", 3, 1.5)


def test_evidence_and_both_kinds_of_insight_are_kept(bank: InsightBank) -> None:
    bank.apply([add("corners win"), add("edges lose", level="mistake")], evidence=["run/g1"])
    assert {(item.polarity, item.evidence) for item in bank.items} == {
        ("worked", ("run/g1",)),
        ("failed", ("run/g1",)),
    }


@pytest.mark.parametrize("seed", range(20))
def test_any_operations_keep_the_promises(seed: int) -> None:
    chance, bank, ever = Random(seed), InsightBank(5), set[int]()
    words = ["centre", "corner", "edge", "fork", "block", "row", "win", "draw", "trap", "wait"]
    for _ in range(60):
        before = {item.id for item in bank.items}
        some = [chance.randint(0, 12) for _ in range(3)]
        kinds: list[Op] = [Remove(some[0]), Edit(some[1], " ".join(chance.sample(words, 3))), Merge(tuple(some))]
        kinds += [add(" ".join(chance.sample(words, 3))) for _ in range(2)]
        bank.apply(chance.sample(kinds, 3))
        after = {item.id for item in bank.items}
        assert len(after) <= 5
        assert after or not before
        assert not (after - before) & ever, "an id came back"
        ever |= after


def test_a_bank_in_memory_goes_through_json() -> None:
    bank, other = InsightBank(4), InsightBank(4)
    ids = filled(bank)
    bank.report(ids[:2], 0.5)
    other.load(json.loads(json.dumps(bank.dump())))
    assert other.items == bank.items
    other.apply([Remove(ids[-1]), add("a new one altogether")])
    assert other.items[-1].id > ids[-1]


# -- positions -----------------------------------------------------------------------------------------------------------


def position(prefix: str, observation: str = "", outcome: int = 0) -> Position:
    return Position(Start(1, tuple(prefix)), observation or prefix, outcome)


def held(*positions: Position, capacity: int = 1000) -> PriorityReplay:
    replay = PriorityReplay(capacity)
    for each in positions:
        replay.put(each)
    return replay


def test_a_rare_prefix_is_drawn_more_often_by_the_power() -> None:
    common, rare = position("ab"), position("cd")
    replay = held(*[common] * 9, rare)
    assert replay.priority(common) == pytest.approx(1 / 9)
    assert replay.priority(rare) == 1
    drawn = Counter(replay.draw(Random(seed)).observation for seed in range(4000))
    expected = 1 / (1 + 9 * (1 / 9) ** 0.6)
    assert drawn["cd"] / 4000 == pytest.approx(expected, abs=0.025)


def test_the_newest_are_held_and_visits_forgotten_with_the_last() -> None:
    replay = held(position("a"), position("b"), position("a"), capacity=2)
    assert len(replay) == 2
    assert replay.visits == {("a",): 2, ("b",): 1}
    replay.put(position("c"))
    assert replay.visits == {("a",): 2, ("c",): 1}


def test_a_game_leaves_every_position_but_the_first_seen_by_who_moved() -> None:
    moves = (Move(0, "s0", "x"), Move(1, "s1", "y"), Move(0, "s2", "z"))
    replay = PriorityReplay()
    replay.add(Played(("a", "b"), Start(5), moves, (1.0, -1.0)))
    known = {met.observation: met for met in held(*[replay.draw(Random(s)) for s in range(60)]).met()}
    assert set(known) == {"s2"}, "s1 was never won"
    assert {replay.draw(Random(s)).start.answers for s in range(60)} == {("x",), ("x", "y")}
    assert (known["s2"].won, known["s2"].lost) == (1, 0)


def test_replayed_games_start_where_they_say() -> None:
    replay = held(position("48"))
    starts = [replay.start(Random(seed), 0.25).answers for seed in range(2000)]
    assert set(starts) == {(), ("4", "8")}
    assert starts.count(()) / 2000 == pytest.approx(0.75, abs=0.03)
    assert PriorityReplay().start(Random(0), 1.0).answers == ()


def test_scores_measure_what_they_say() -> None:
    """One-sided: largest where all games went one way. Open: largest where half was won and half lost."""
    always, even, drawn = Met("always", 8, 1.0, 0.0), Met("even", 8, 0.5, 0.5), Met("drawn", 8, 0.1, 0.1)
    assert always.one_sided == pytest.approx(math.log(9))
    assert (even.one_sided, drawn.one_sided) == (0, 0)
    assert always.open == 0
    assert even.open == pytest.approx(math.log(9))
    outcomes = [1, -1, *[0] * 8]
    variance = sum(each**2 for each in outcomes) / 10 - (sum(outcomes) / 10) ** 2
    assert drawn.open == pytest.approx(variance * math.log(9))
    assert [met.observation for met in strategic([even, drawn, always], 1)] == ["always"]
    assert [met.observation for met in contested([always, drawn, even], 1)] == ["even"]


def test_only_positions_met_twice_and_won_once_count() -> None:
    replay = held(position("a", "once", 1), *[position("b", "lost", -1)] * 3, *[position("c", "won", 1)] * 2)
    replay.put(position("d", "won", -1))
    (met,) = replay.met()
    assert (met.observation, met.count) == ("won", 3)
    assert met.won == pytest.approx(2 / 3)
    assert met.lost == pytest.approx(1 / 3)


# -- the loop ------------------------------------------------------------------------------------------------------------

SMALL = Memo(population=5, generations=3, games=30, elites=0.4, crossover=0.25, fresh=0.25, evaluation=8)


def player_of(prompt: str) -> Callable[[str, int], str]:
    """A prompt's hidden skill is the number in it."""
    skills = re.findall(r"skill (0\.\d+)", prompt)
    return player(noisy(tictactoe.optimal, float(skills[-1]) if skills else 0.0))


def model(messages: list[dict[str, Any]]) -> str:
    """A scripted model: the same answer to the same question."""
    text = messages[-1]["content"]
    chance = Random(text)
    if "operations" in text:
        return json.dumps({"operations": [{"type": "add", "text": f"lesson{n} {chance.random()}"} for n in range(2)]})
    return f"play with skill 0.{chance.randint(10, 99)}"


def loop(generate: Callable[..., Any] = model, memo: Memo = SMALL, **options: Any) -> Evolution:
    return Evolution(TicTacToe(), player_of, generate, first=["skill 0.30"], memo=memo, **options)


def test_a_run_repeats_and_another_seed_differs() -> None:
    assert loop().run() == loop().run()
    assert loop(memo=SMALL.model_copy(update={"seed": 1})).run() != loop().run()


def test_plain_and_async_runs_agree() -> None:
    async def amodel(messages: list[dict[str, Any]]) -> str:
        await asyncio.sleep(0)
        return model(messages)

    assert asyncio.run(loop(amodel).arun(at_once=3)) == loop().run()
    with pytest.raises(ConfigError, match="starts with an a"):
        loop(amodel).run()


def test_a_stopped_run_goes_on_as_if_it_had_not() -> None:
    saved: list[str] = []

    def watch(found: Any) -> None:
        if isinstance(found, Generation):
            saved.append(json.dumps(first.dump()))

    first = loop(watch=watch)
    whole = first.run()
    second = loop()
    second.load(json.loads(saved[0]))
    assert second.run() == replace(whole, generations=whole.generations[1:])
    assert second.bank.items == first.bank.items


def test_the_best_stay_with_their_ratings_and_every_kind_is_written() -> None:
    result = loop().run()
    for before, after in zip(result.generations, result.generations[1:], strict=False):
        kept = before.prompts[:2]
        assert set(kept) <= set(after.prompts)
        assert all(after.ratings[each.name].matches >= before.ratings[each.name].matches for each in kept)
        assert len(after.prompts) == 5
    assert {each.origin for g in result.generations for each in g.prompts} == {"given", "memory", "crossover", "fresh"}
    last = result.generations[-1]
    assert result.best == max(last.prompts, key=lambda each: last.ratings[each.name].lower())


def test_new_prompts_are_told_insights_that_are_credited_once() -> None:
    asked: list[str] = []

    def generate(messages: list[dict[str, Any]]) -> str:
        asked.append(messages[-1]["content"])
        return model(messages)

    evolution = loop(generate)
    result = evolution.run()
    told = [each for each in result.generations[1].prompts if each.origin == "memory" and each.insights]
    assert told
    assert any("Lessons to build on" in text for text in asked)
    born = {each.name: each for g in result.generations for each in g.prompts if each.insights}
    uses = Counter(number for each in born.values() for number in each.insights)
    assert {item.id: item.uses for item in evolution.bank.items if item.uses} == uses


def test_the_loop_finds_better_players() -> None:
    memo = Memo(population=6, generations=4, games=80)
    skills = [float(loop(memo=memo.model_copy(update={"seed": s})).run().best.text[-4:]) for s in range(5)]
    over = spread(skills)
    assert over.runs == 5
    assert over.mean > 0.7, skills  # the first has 0.30, and the mean of all that are written is 0.55
    assert over.least <= over.mean <= over.most


@pytest.mark.parametrize("answer", ["", "   ", "x" * 9000, "no operations here", '{"operations": [{"type": "burn"}]}'])
def test_whatever_the_model_says_the_loop_goes_on(answer: str) -> None:
    evolution = loop(lambda _: answer)
    result = evolution.run()
    assert len(result.generations) == 3
    assert all(0 < len(each.text) <= 8_000 for g in result.generations for each in g.prompts)
    assert not evolution.bank.items


def test_opponents_measure_and_decide_nothing() -> None:
    perfect = {"perfect": player(tictactoe.optimal)}
    alone, measured = loop().run(), loop(opponents=perfect).run()
    assert alone.best == measured.best
    assert all(g.evaluation is None for g in alone.generations)
    assert all(g.evaluation is not None and -1 <= g.evaluation <= 0 for g in measured.generations)


def test_the_bank_may_be_a_library(tmp_path: Path) -> None:
    with Memory(tmp_path / "memo.db") as memory:
        library = Library(memory.at("acme"))
        loop(bank=InsightBank(15, library)).run()
        assert library.items()
        assert all(item.evidence for item in library.items())


def test_games_begin_at_positions_met_before_as_often_as_asked() -> None:
    def replayed(share: float) -> float:
        games: list[Played] = []
        memo = SMALL.model_copy(update={"replayed": share, "games": 200, "generations": 1})
        loop(memo=memo, watch=lambda found: games.append(found) if isinstance(found, Played) else None).run()
        return sum(bool(game.start.answers) for game in games) / len(games)

    assert replayed(0) == 0
    assert replayed(0.4) == pytest.approx(0.4, abs=0.12)


def test_a_run_needs_a_first_prompt() -> None:
    with pytest.raises(ConfigError, match="first"):
        Evolution(TicTacToe(), player_of, model, first=[]).run()


def test_one_run_has_no_deviation() -> None:
    assert spread([0.5]).deviation == 0
    assert spread([0.0, 1.0]).deviation == pytest.approx(0.7071, abs=1e-4)


def test_a_model_that_says_nothing_is_no_failure_and_what_is_no_text_is_named() -> None:
    assert loop(lambda _: None).run().best.text
    with pytest.raises(ConfigError, match="answered with dict"):
        loop(lambda _: {"content": "x"}).run()


def test_an_async_model_that_fails_raises_what_a_plain_one_does() -> None:
    async def fails(_: Any) -> str:
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError, match="no answer"):
        asyncio.run(loop(fails).arun())
