"""Games with exact rules, ratings that know what they do not know, and tournaments that spend games well."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from random import Random
from typing import Any, ClassVar

import pytest

from benchmarks import memo
from memctx.component import load
from memctx.errors import ConfigError
from memctx.train import ratings
from memctx.train.envs import Env, kuhn, position, tictactoe
from memctx.train.envs._scripted import Policy, noisy, player, value
from memctx.train.envs.kuhn import Kuhn, Table
from memctx.train.envs.tictactoe import Board, TicTacToe
from memctx.train.ratings import Rating
from memctx.train.tournament import Played, Player, Start, Tournament, days

ENVS: list[Env] = [TicTacToe(), Kuhn(), Kuhn(hands=3)]
POLICIES: list[tuple[Env, Policy]] = [(TicTacToe(), tictactoe.optimal), (Kuhn(hands=4), kuhn.optimal)]
DEALS = [a + b for a, b in product("JQK", repeat=2) if a != b]


def hand_value(first: Policy, second: Policy) -> float:
    """What the first to act wins a hand, on average over the six deals."""
    return sum(value(Table((deal,)), (first, second))[0] for deal in DEALS) / len(DEALS)


# -- games ---------------------------------------------------------------------------------------------------------------


def test_perfect_tictactoe_is_a_draw_and_never_loses_to_anyone() -> None:
    assert value(Board(), (tictactoe.optimal, tictactoe.optimal)) == (0, 0)
    guess = noisy(tictactoe.optimal, 0)
    perfect, weak = player(tictactoe.optimal), player(guess)
    contest = Tournament(TicTacToe(), {"perfect": perfect, "guess": weak}, seed=3, seen=_never_loses)
    assert contest.run(200)["perfect"].mean > 1.5  # of the two games of a match


def _never_loses(played: Played) -> None:
    assert played.rewards[played.seats.index("perfect")] >= 0


def test_tictactoe_has_as_many_games_as_are_known() -> None:
    @cache
    def games(state: Board) -> Counter[tuple[float, ...]]:
        return (
            Counter([state.rewards])
            if state.rewards
            else sum((games(state.after(a)) for a in state.actions), Counter())
        )

    assert games(Board()) == {(1.0, -1.0): 131_184, (-1.0, 1.0): 77_904, (0.0, 0.0): 46_080}


def test_kuhn_poker_is_worth_a_loss_of_an_eighteenth_to_the_first_to_act() -> None:
    assert hand_value(kuhn.optimal, kuhn.optimal) == pytest.approx(-1 / 18)


def test_nobody_wins_more_against_the_equilibrium_of_kuhn_poker() -> None:
    """Against every pure strategy of either side: the value bounds what it wins, so both sides are an equilibrium."""
    as_second = [hand_value(kuhn.optimal, each) for each in _pure("check", "bet")]
    as_first = [hand_value(each, kuhn.optimal) for each in _pure("", "check bet")]
    assert len(as_first) == len(as_second) == 64
    assert min(as_second) == pytest.approx(-1 / 18)
    assert max(as_first) == pytest.approx(-1 / 18)


def _pure(*nodes: str) -> list[Policy]:
    """Every way to choose one of two actions with each card at each node."""
    places = list(product("JQK", nodes))

    def policy(bits: tuple[int, ...]) -> Policy:
        def chances(observation: str) -> Mapping[str, float]:
            card, said = observation.splitlines()[0][-1], observation.rpartition(": ")[2].removeprefix("-")
            return {kuhn.CHOICES[said][bits[places.index((card, said))]]: 1.0}

        return chances

    return [policy(bits) for bits in product((0, 1), repeat=len(places))]


@pytest.mark.parametrize(
    ("deal", "said", "chips"),
    [
        ("KJ", "check check", 1),
        ("JK", "check check", -1),
        ("JK", "bet fold", 1),
        ("JK", "bet call", -2),
        ("KQ", "bet call", 2),
        ("KQ", "check bet fold", -1),
        ("KQ", "check bet call", 2),
    ],
)
def test_kuhn_poker_pays_what_its_rules_say(deal: str, said: str, chips: int) -> None:
    table = Table((deal,))
    for word in said.split():
        assert word in table.actions
        table = table.after(word)
    assert table.rewards == (chips, -chips)


def test_hands_add_up_and_the_first_to_act_changes() -> None:
    table = Table(("KJ", "KJ", "JK"))
    first = []
    for _ in range(3):
        first.append(table.player)
        assert table.actions == ("check", "bet")
        table = table.after("bet").after("call")
    assert first == [0, 1, 0]
    assert table.rewards == (2, -2)


def test_a_player_sees_its_own_card_only() -> None:
    for deal in DEALS:
        seen = Table((deal,)).observation
        assert seen == Table((deal[0] + "JQK"[("JQK".index(deal[0]) + 1) % 3],)).observation
        assert f"Your card: {deal[0]}" in seen
        assert f"Your card: {deal[1]}" in Table((deal,)).after("bet").observation


@pytest.mark.parametrize("env", ENVS, ids=repr)
def test_every_game_ends_sums_to_nothing_and_replays(env: Env) -> None:
    for seed in range(60):
        chance, answers = Random(seed), list[str]()
        state = env.start(seed)
        while not state.rewards:
            assert state.player in range(env.players)
            assert state.observation
            answers.append(chance.choice(state.actions))
            state = state.after(answers[-1])
        assert not state.actions
        assert sum(state.rewards) == 0
        assert len(state.rewards) == env.players
        assert position(env, seed, answers) == state


@pytest.mark.parametrize("env", ENVS, ids=repr)
@pytest.mark.parametrize("answer", ["", "I resign", "99", "[bet] or [0], who knows"])
def test_what_is_no_action_loses_at_once(env: Env, answer: str) -> None:
    state = env.start(0).after(answer)
    assert state.rewards[0] < 0 < state.rewards[1]


@pytest.mark.parametrize("answer", ["bet", "I hold a king, so no check: **BET**.", "check? no.\n\n[bet]"])
def test_the_last_word_is_the_action(answer: str) -> None:
    assert Table(("KJ",)).after(answer) == Table(("KJ",)).after("bet")


def test_an_environment_is_a_component_found_by_its_file() -> None:
    assert load("train.envs", {"use": "kuhn", "hands": 3}) == Kuhn(hands=3)
    assert load("train.envs", Kuhn(hands=3).dump()) == Kuhn(hands=3)
    with pytest.raises(ConfigError, match="hands"):
        Kuhn(hands=0)


@pytest.mark.parametrize("skill", [0.0, 0.3, 0.6, 0.9])
def test_more_skill_wins_more(skill: float) -> None:
    def both(policy: Policy, other: Policy) -> float:
        return hand_value(policy, other) - hand_value(other, policy)

    better = noisy(kuhn.optimal, skill + 0.1)
    assert both(better, noisy(kuhn.optimal, skill)) > 0


# -- ratings -------------------------------------------------------------------------------------------------------------


def test_a_win_raises_a_loss_lowers_and_both_are_surer() -> None:
    start = ratings.fresh(2)
    won, lost = ratings.rated([start, start], [1, -1])
    assert won.mu > start.mu > lost.mu
    assert won.mu - start.mu == pytest.approx(start.mu - lost.mu)
    assert max(won.sigma, lost.sigma) < start.sigma
    assert (won.matches, won.points, won.mean, lost.mean) == (1, 1, 1, -1)


def test_a_draw_pulls_together() -> None:
    strong, weak = replace(ratings.fresh(2), mu=30.0), replace(ratings.fresh(2), mu=20.0)
    high, low = ratings.rated([strong, weak], [0, 0])
    assert 20 < low.mu < high.mu < 30


def test_sigma_falls_as_with_independent_matches() -> None:
    """As 1 / sqrt(n) for long, which the package's own gamma does not do."""
    one = other = ratings.fresh(2)
    at: dict[int, float] = {}
    for n in range(1, 401):
        one, other = ratings.rated([one, other], [1, -1] if n % 2 else [-1, 1])
        at[n] = one.sigma**2 + other.sigma**2
    gained = [1 / at[400] - 1 / at[100], 1 / at[200] - 1 / at[100]]
    assert gained[0] / gained[1] == pytest.approx(3, rel=0.4)


def test_a_rating_of_one_who_plays_alone_is_a_mean_with_jeffreys_deviation() -> None:
    rating = ratings.fresh(1)
    for reward in (1, 0, 1, 1, 0, 1, 1, 1, 0, 1):
        (rating,) = ratings.rated([rating], [reward])
    assert rating.mean == 0.7
    assert rating.mu == pytest.approx(7.5 / 11)
    assert rating.sigma == pytest.approx((7.5 * 3.5 / (11**2 * 12)) ** 0.5)
    assert rating.lower(2) == pytest.approx(rating.mu - 2 * rating.sigma)


def test_who_is_known_well_is_ranked_before_who_was_lucky() -> None:
    found = {"known": Rating(28, 1), "lucky": Rating(30, 6)}
    assert ratings.ranked(found) == ["known", "lucky"]
    assert ratings.ranked(found, k=0) == ["lucky", "known"]


# -- tournaments ---------------------------------------------------------------------------------------------------------


def ladder(optimal: Policy, skills: tuple[float, ...] = (0.1, 0.4, 0.7, 0.95)) -> dict[str, Player]:
    return {f"p{number}": player(noisy(optimal, skill)) for number, skill in enumerate(skills)}


@pytest.mark.parametrize(("env", "optimal"), POLICIES, ids=lambda each: getattr(each, "name", ""))
@pytest.mark.parametrize("matching", ["top_two", "round_robin"])
def test_both_seats_are_played_with_the_same_luck_within_the_budget(env: Env, optimal: Policy, matching: Any) -> None:
    games: list[Played] = []
    contest = Tournament(env, ladder(optimal), matching=matching, seed=5, seen=games.append)
    contest.run(51)
    assert len(games) == contest.games == 50
    for one, other in zip(games[::2], games[1::2], strict=True):
        assert one.seats == other.seats[::-1]
        assert one.start == other.start
    assert sum(each.matches for each in contest.ratings.values()) == 50


@pytest.mark.parametrize(("env", "optimal"), POLICIES, ids=lambda each: getattr(each, "name", ""))
def test_a_tournament_repeats_and_goes_on_after_a_stop(env: Env, optimal: Policy) -> None:
    whole = Tournament(env, ladder(optimal), seed=1).run(64)
    assert Tournament(env, ladder(optimal), seed=1).run(64) == whole
    assert Tournament(env, ladder(optimal), seed=2).run(64) != whole
    first, second = (Tournament(env, ladder(optimal), seed=1) for _ in range(2))
    first.run(24)
    second.load(json.loads(json.dumps(first.dump())))
    assert second.run(64) == whole


def test_async_players_play_a_batch_at_once_with_the_same_result() -> None:
    busy, most = 0, 0
    plain = ladder(tictactoe.optimal)

    def slow(name: str) -> Player:
        async def answer(observation: str, seed: int) -> str:
            nonlocal busy, most
            busy, most = busy + 1, max(most, busy + 1)
            await asyncio.sleep(0)
            busy -= 1
            return str(plain[name](observation, seed))

        return answer

    contest = Tournament(TicTacToe(), {name: slow(name) for name in plain}, seed=1)
    assert asyncio.run(contest.arun(32)) == Tournament(TicTacToe(), plain, seed=1).run(32)
    assert most == 8
    with pytest.raises(ConfigError, match="starts with an a"):
        Tournament(TicTacToe(), {name: slow(name) for name in plain}).run(8)


def test_a_player_that_raises_loses_its_batch_and_no_more() -> None:
    calls, plain = Counter[str](), ladder(tictactoe.optimal)

    def fails_once(observation: str, seed: int) -> str:
        calls["all"] += 1
        if calls["all"] == 60:
            raise TimeoutError("the provider is away")
        return str(plain["p1"](observation, seed))

    contest = Tournament(TicTacToe(), {**plain, "p1": fails_once}, matching="round_robin", seed=1)
    with pytest.raises(TimeoutError):
        contest.run(200)
    assert 0 < contest.games < 200
    assert contest.run(200) == Tournament(TicTacToe(), plain, matching="round_robin", seed=1).run(200)


def test_opponents_are_met_equally_often_and_not_chosen() -> None:
    games: list[Played] = []
    players, foes = ladder(tictactoe.optimal, (0.2, 0.8)), {"foe": player(tictactoe.optimal), "fool": lambda *_: "0"}
    contest = Tournament(
        TicTacToe(), players, opponents=foes, matching="round_robin", batch=3, seen=games.append, seed=1
    )
    contest.run(80)
    pairs = Counter(frozenset(game.seats) for game in games)
    assert pairs == {frozenset((one, foe)): 20 for one in players for foe in foes}
    assert contest.best == "p1"


@pytest.mark.parametrize(
    "names", [["a", "b"], ["a", "b", "c"], [f"p{n}" for n in range(8)], [f"p{n}" for n in range(9)]]
)
def test_days_hold_every_pair_once_and_spread_them(names: list[str]) -> None:
    pairs = list(days(names))
    assert Counter(map(frozenset, pairs)) == {frozenset(pair): 1 for pair in product(names, names) if pair[0] < pair[1]}
    played: Counter[str] = Counter()
    for number, pair in enumerate(pairs, 1):
        played.update(pair)
        assert max(played.values()) - min(played[name] for name in names) <= 2, number


@pytest.mark.parametrize("answers", [(), ("4", "0")])
def test_top_two_spends_its_games_on_the_best(answers: tuple[str, ...]) -> None:
    """Also where every match has one and the same start: its seed is the game's, not the players'."""
    contest = Tournament(TicTacToe(), ladder(tictactoe.optimal), seed=1, starts=lambda _: Start(4, answers))
    found = contest.run(160)
    assert found["p3"].matches + found["p2"].matches > 100
    assert found["p0"].sigma > found["p3"].sigma


def test_top_two_needs_fewer_games_than_playing_all_equally() -> None:
    def right(matching: Any) -> int:
        players = ladder(tictactoe.optimal, tuple(number / 10 for number in range(2, 10)))
        found = [Tournament(TicTacToe(), players, matching=matching, seed=s) for s in range(30)]
        for contest in found:
            contest.run(100)
        return sum(contest.best == "p7" for contest in found)

    assert right("top_two") >= right("round_robin") + 2


def test_names_on_both_sides_and_too_few_players_are_refused() -> None:
    players = ladder(tictactoe.optimal)
    with pytest.raises(ConfigError, match="both sides"):
        Tournament(TicTacToe(), players, opponents=players)
    with pytest.raises(ConfigError, match="too few"):
        Tournament(TicTacToe(), {"alone": players["p1"]})


# -- tasks for one -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coin:
    """A task for one: call the coin. The seed decides how it falls, and half the time it is told."""

    seed: int = 0
    called: str = ""
    players: ClassVar[int] = 1
    rules: ClassVar[str] = "heads or tails?"

    def start(self, seed: int) -> Coin:
        return replace(self, seed=seed)

    @property
    def falls(self) -> str:
        return "heads" if Random(self.seed).random() < 0.5 else "tails"

    @property
    def player(self) -> int:
        return 0

    @property
    def observation(self) -> str:
        return f"it will be {self.falls}" if self.seed % 2 else "nobody knows; perhaps heads"

    @property
    def actions(self) -> tuple[str, ...]:
        return () if self.called else ("heads", "tails")

    @property
    def rewards(self) -> tuple[float, ...]:
        return (float(self.called == self.falls),) if self.called else ()

    def after(self, text: str) -> Coin:
        return replace(self, called=text or "nothing")


@pytest.mark.parametrize("matching", ["top_two", "round_robin"])
def test_tasks_for_one_are_rated_by_their_share(matching: Any) -> None:
    players: dict[str, Player] = {
        "reads": lambda seen, _: seen.rpartition(" ")[2],
        "calls": lambda seen, _: "heads",
        "silent": lambda seen, _: "",
    }
    contest = Tournament(Coin(), players, matching=matching, seed=2)
    found = contest.run(300)
    assert contest.best == "reads"
    assert found["silent"].mean == 0
    assert found["calls"].lower(2) < 0.5 < found["calls"].mu + 2 * found["calls"].sigma


# -- the benchmark -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skills", [("0.30", "0.80"), ("0.90", "0.20")])
def test_the_odds_of_the_benchmark_are_those_of_the_game(skills: tuple[str, str]) -> None:
    cases: list[tuple[str, memo.Begun, Policy]] = [
        ("tictactoe", Board("XO.X....."), tictactoe.optimal),
        ("kuhn", Table(("KQ",)), kuhn.optimal),
    ]
    for game, start, optimal in cases:
        rewards, ends = memo.odds(game, start, *skills)
        shares = [end - before for end, before in zip(ends, [0.0, *ends], strict=False)]
        exact = value(start, (noisy(optimal, float(skills[0])), noisy(optimal, float(skills[1]))))
        assert ends[-1] == pytest.approx(1)
        assert sum(reward * share for reward, share in zip(rewards, shares, strict=True)) == pytest.approx(exact[0])


def test_drawn_games_have_the_mean_of_played_ones() -> None:
    """Over all hands, seats turned as the table turns them."""
    skills = {"weak": 0.1, "strong": 0.9}
    drawn = Tournament(memo.Drawn("kuhn"), {name: memo.says(skill) for name, skill in skills.items()}, seed=1)
    policies = {name: noisy(kuhn.optimal, skill) for name, skill in skills.items()}
    worth = hand_value(policies["strong"], policies["weak"]) - hand_value(policies["weak"], policies["strong"])
    assert drawn.run(3000)["strong"].mean == pytest.approx(10 * worth, abs=0.6)  # ten hands from either seat


def test_the_benchmark_prints_a_line_a_budget_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    memo.main(["--game", "kuhn", "--setting", "newcomers", "--repetitions", "2", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(line["games"], line["rule"]) for line in lines} == set(product((8, 16, 32, 64, 128), memo.RULES))
    assert all(line["interval"][0] <= line["right"] <= line["interval"][1] for line in lines)


def test_wilson_is_wilson() -> None:
    assert list(memo.wilson(9, 10)) == pytest.approx([0.596, 0.982], abs=1e-3)
