"""Environments that need memory: the same seed gives the same task, positions are values, and only what was kept can be told."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from memctx.component import load
from memctx.dialects.mem_alpha import MemAlpha
from memctx.errors import ConfigError, MissingDependency
from memctx.memory import Memory
from memctx.train.envs import _feed, position
from memctx.train.envs._notes import Notes
from memctx.train.envs.multi_objective import MultiObjective
from memctx.train.envs.stream import Stream, measure, well_formed
from memctx.train.envs.taubench import TauBench, _case
from memctx.train.envs.textworld import OPEN, TextWorld
from tests import tau

SHARED = Path(__file__).parents[2] / "shared" / "data"
RECORDED = [("retail", "tau1_retail_grok3"), ("airline", "tau1_airline_gpt4o")]
with_data = pytest.mark.skipif(not (SHARED / "taubench").exists(), reason="tau-bench's data is not here")

ENVS: list[Any] = [
    MultiObjective(),
    MultiObjective(questions=16),
    MultiObjective(questions=4, hops=2, scoring="count"),
    Stream(),
    Stream(chunks=64, each=2, facts=4, events=0),
]
SYMBOLS = Stream(form="symbols")


def called(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


# -- what all of them promise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", [*ENVS, SYMBOLS], ids=repr)
def test_the_expert_has_the_full_reward_and_positions_are_values(env: Any) -> None:
    best = env.questions if getattr(env, "scoring", "") == "count" else 1.0
    answers: list[str] = []
    for seed in range(20):
        answers = env.expert(seed)
        state, path = env.start(seed), []
        for number, answer in enumerate(answers):
            assert not state.rewards, f"over after {number} of {len(answers)}"
            path.append((state, state.observation))
            state.after("")  # a branch changes nothing
            state = state.after(answer)
        assert state.rewards == (best,)
        assert position(env, seed, answers) == state
        assert [(each, each.observation) for each, _ in path] == path
        assert load("train.envs", env.dump()) == env
    assert env.start(1).after(answers[0]) != env.start(2).after(answers[0])


@pytest.mark.parametrize("env", ENVS, ids=repr)
@pytest.mark.parametrize("text", ["", "  ", "\x00", "answer", "{", "ö" * 5000, '{"name": 3}', "[[[", "search:", "null"])
def test_whatever_is_said_is_answered_and_ends_without_reward(env: Any, text: str) -> None:
    state = env.start(3)
    for _ in range(500):
        if state.rewards:
            break
        assert state.observation
        state = state.after(text)
    assert state.rewards[0] <= 0.05
    assert not state.observation


# -- multi_objective -----------------------------------------------------------------------------------------------------


def searched(env: MultiObjective, seed: int) -> Any:
    """After the expert's searches."""
    return position(env, seed, env.expert(seed)[:-1])


def test_the_answers_stand_in_the_passages_and_nowhere_else() -> None:
    env = MultiObjective(questions=16, hops=2)
    for seed in range(10):
        state, seen = env.start(seed), ""
        asked = {each.answer for each in env.asked(seed)}
        assert not any(re.search(rf"\b{each}\b", state.observation) for each in asked)
        for answer in env.expert(seed)[:-1]:
            state = state.after(answer)
            seen += state.observation
        assert all(each in seen for each in asked)


def test_who_remembers_the_last_passages_only_has_one_answer() -> None:
    env = MultiObjective(questions=8)
    total = 0.0
    for seed in range(20):
        state = searched(env, seed)
        known = [each.answer if each.answer in state.observation else "" for each in env.asked(seed)]
        total += state.after("answer: " + "; ".join(known)).rewards[0]
    assert 1 / 8 <= total / 20 < 0.3


@pytest.mark.parametrize("scoring", ["share", "count"])
def test_one_answer_counts_once_and_in_its_place(scoring: Any) -> None:
    env = MultiObjective(questions=4, scoring=scoring)
    unit = 1 if scoring == "count" else 1 / 4
    state, right = searched(env, 6), [each.answer for each in env.asked(6)]
    assert len(set(right)) == 4
    for given, worth in [
        ("; ".join(right * 3), 4),
        ("; ".join([right[0]] * 4), 1),
        ("; ".join(right[1:] + right[:1]), 0),
        ("; ".join(" ".join(right) for _ in right), 0),
        ("; ".join(f"The {each.upper()}!" for each in right), 4),
        (right[0], 1),
        ("; ; ;", 0),
    ]:
        assert state.after(f"answer: {given}").rewards == (worth * unit,), given


def test_turns_grow_with_the_questions_and_run_out() -> None:
    for count in (1, 5):
        state: Any = MultiObjective(questions=count).start(0)
        for left in range(3 * count, 0, -1):
            assert state.observation.startswith("[last turn: answer now]" if left == 1 else f"[{left} turns left]")
            state = state.after("search: nothing of the kind")
        assert state.rewards == (0.0,)


def test_the_last_line_that_acts_counts_and_other_words_are_notes() -> None:
    state: Any = MultiObjective().start(0)
    assert state.after("I know\nsearch: x\nno: SEARCH: Vukon").acts == (("search", "Vukon"),)
    assert "neither" in state.after("I would like to look for Vukon").observation
    assert "Nothing was found" in state.after("search: qqq").observation


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="questions"):
        MultiObjective(questions=17)
    with pytest.raises(ConfigError, match="people"):
        MultiObjective(people=3)


# -- stream --------------------------------------------------------------------------------------------------------------


def insert(content: str, memory_type: str = "semantic_memory") -> str:
    return called("new_memory_insert", memory_type=memory_type, content=content)


def played(env: Stream, seed: int, writer: Any) -> Any:
    """The end of a run in which `writer` (position) answers each chunk."""
    state: Any = env.start(seed).after("ready")
    while not state.rewards:
        state = state.after(writer(state))
    return state


def mean(env: Stream, writer: Any, seeds: range = range(20)) -> float:
    return float(sum(played(env, seed, writer).rewards[0] for seed in seeds) / len(seeds))


def test_only_what_was_written_can_be_told_at_the_end() -> None:
    """Who keeps the newest statements only forgets; who keeps the first ones tells what was once; who keeps all is full soon."""
    long = Stream(chunks=64)
    assert mean(long, lambda state: "nothing to note") == 0
    assert mean(long, _everything) < 0.5
    assert mean(long, _newest) < 0.3
    assert mean(long, lambda state: state.best()) == 1


def _everything(state: Any) -> str:
    return "\n".join(insert(each.text) for each in state.statements)


def _newest(state: Any) -> str:
    gone = (called("memory_delete", memory_type="semantic_memory", memory_id=each.id) for each in state.notes.items)
    return "\n".join([*gone, _everything(state)])


def test_a_rumour_and_a_stale_value_mislead_the_reader() -> None:
    env = Stream(chunks=16, facts=1, events=0)
    (question,) = env.told(0).questions
    texts = [each.text for chunk in env.told(0).chunks for each in chunk]
    true = [text for text in texts if f"is {question.answer}." in text and not text.startswith("Somebody")][-1]
    name, what = question.words
    other = next(each for each in _feed.VALUES[what] if each != question.answer)
    wrong = f"Somebody said that the {what} of {name.title()} is {other}."
    change = f"Wrong is {other}: the {what} of {name.title()} is {question.answer}."
    assert _feed.answer([change], question) == question.answer
    assert _feed.answer([f"The {what} of {name.title()} is {other}.", change], question) == other  # not updated: stale
    assert _feed.score([true], [question]) == 1
    assert _feed.answer([wrong], question) == other
    assert _feed.score([], [question]) == 0
    assert _feed.score([true.replace(name.title(), "Nobody")], [question]) == 0


def test_writing_all_values_or_all_words_at_once_does_not_pay() -> None:
    env = Stream(chunks=8, events=0)
    values = "red blue calm glad tea milk"

    def lists_values(state: Any) -> str:
        return "\n".join(insert(each.text.replace(each.value, values)) for each in state.statements if each.value)

    assert mean(env, lists_values) < 0.35
    assert mean(env, lambda state: insert(" ".join(each.text for each in state.statements))) < 0.9


def test_memory_as_a_value_does_what_the_dialect_does(tmp_path: Path) -> None:
    chance = Random(4)
    with Memory(tmp_path / "memory.db") as memory:
        tools, notes, ids = MemAlpha(memory.at("acme", "ana")), Notes(room=10_000), dict[str, str]()
        for _ in range(200):
            kind = chance.choice(["core_memory", "semantic_memory", "episodic_memory", "secret_memory"])
            number = chance.choice([*ids, "00ff", "x y"])
            name, fields = chance.choice(
                [
                    ("new_memory_insert", {"content": f"text {chance.randrange(30)}"}),
                    ("memory_update", {"memory_id": number, "new_content": f"new {chance.randrange(99)}"}),
                    ("memory_update", {"memory_id": number, "new_content": " "}),
                    ("memory_delete", {"memory_id": number}),
                    ("memory_forget", {}),
                ]
            )
            before = notes
            notes, said = notes.call(name, {"memory_type": kind, **fields})
            theirs = {**fields, "memory_type": kind, "memory_id": ids.get(number, number)}
            told = json.loads(tools.call(name, theirs))
            assert told["status"] == said["status"], (name, kind, fields, told, said)
            if name == "new_memory_insert" and said["status"] == "ok":
                ids[notes.items[-1].id] = next(iter(told["new_memory"]))
            assert notes == before or said["status"] == "ok"
        kept = sorted(record.text for record in memory.at("acme", "ana").list(limit=1000))
        assert kept == sorted(notes.texts)
        assert notes.items


def test_memory_is_bounded_and_says_so() -> None:
    env = Stream(chunks=3, each=8, room=10)
    state: Any = env.start(0).after("ready").after("\n".join(insert(f"word {n} of many words") for n in range(4)))
    assert [each.ok for each in state.done] == [True, True, False, False]
    assert "new_memory_insert was refused: memory holds 10 words" in state.observation
    assert state.after(insert("x " * 11)).notes == state.notes
    assert state.after(called("memory_delete", memory_type="semantic_memory", memory_id="0000")).notes.words == 5


def test_raw_chunks_that_fit_into_the_room() -> None:
    env = Stream(chunks=8, each=1, facts=2, events=1, room=22)
    raw = env.raw(0)
    newest, oldest = env.fitting(0, reversed(range(8))), env.fitting(0, range(8))
    assert newest == raw[-len(newest) :]
    assert oldest == raw[: len(oldest)]
    for kept, more in ((newest, raw[-len(newest) - 1]), (oldest, raw[len(oldest)])):
        words = len(re.findall(r"\w+", " ".join(kept)))
        assert words <= 22 < words + len(re.findall(r"\w+", more))


def test_words_without_spaces_between_them_take_the_same_room() -> None:
    """The reader would find them, so they count."""
    state: Any = Stream(room=11).start(0).after("ready").after(insert("The-mood,of/Ana:is;calm."))
    assert state.notes.words == 6
    assert not state.after(insert("The-colour-of-Ana-is-red.")).done[0].ok


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (called("fly"), "tool = 'fly'"),
        (called("new_memory_insert", content="x"), "memory_type = None"),
        (called("new_memory_insert", memory_type="semantic_memory", content=3), "content = 3"),
        (called("new_memory_insert", memory_type="core_memory", content="x"), "memory_type = 'core_memory'"),
        (called("memory_update", memory_type="semantic_memory", memory_id="0009", new_content="x"), "'0009'"),
        ('{"name": "new_memory_insert", "arguments": "{"}', "not JSON"),
        ('{"name": "new_memory_insert", "arguments": [1]}', "are list"),
        ('{"name": "new_memory_insert"}', "are NoneType"),
        (insert("   "), "content is empty"),
    ],
)
def test_a_call_on_memory_that_cannot_be_is_refused_in_words(text: str, told: str) -> None:
    state = Stream().start(0).after("ready").after(text)
    assert "was refused" in state.observation
    assert told in state.observation
    assert not state.notes.items


@pytest.mark.parametrize(
    ("kind", "content", "fits"),
    [
        ("semantic_memory", "The mood of Ana is calm.", True),
        ("episodic_memory", "On day 3 Ana met Bo.", True),
        ("episodic_memory", "[day 3] Ana met Bo.", True),
        ("episodic_memory", "The mood of Ana is calm.", False),
        ("semantic_memory", "On day 3 Ana met Bo.", False),
        ("semantic_memory", "Somebody said that the mood of Ana is sad.", False),
        ("semantic_memory", "calm", False),
        ("semantic_memory", "word " * 41, False),
        ("core_memory", "Ana", True),
        ("core_memory", " ", False),
    ],
)
def test_what_is_written_has_its_type(kind: str, content: str, fits: bool) -> None:
    assert well_formed(kind, content) is fits


def test_the_terms_of_the_reward_are_measured() -> None:
    """A duplicate is no success; what is of the wrong type, told twice or never asked is no good item."""
    env = Stream(facts=1, events=1, chunks=1, each=2)
    fact, event = sorted(env.told(0).chunks[0], key=lambda each: each.kind != "fact")
    right, wrong = insert(event.text, "episodic_memory"), insert(event.text)
    for calls, ok, good, noise in [
        ([insert(fact.text), right], [True, True], 1.0, 0.0),
        ([insert(fact.text), insert(fact.text)], [True, False], 1 / 2, 1 / 2),
        ([insert(fact.text), insert(f"Yes, {fact.text}")], [True, True], 1 / 2, 1 / 2),
        ([wrong], [True], 0.0, 1 / 2),
        ([insert("It rained all morning in Bonn.")], [True], 0.0, 1 / 2),
        ([right, called("memory_delete")], [True, False], 1 / 2, 0.0),
        ([called("memory_delete", memory_type="core_memory")], [True], 0.0, 0.0),
        ([], [], 0.0, 0.0),
    ]:
        state = env.start(0).after("ready").after("\n".join(calls))
        rollout, turn = SimpleNamespace(meta={}), SimpleNamespace(probe={})
        measure(SimpleNamespace(state=state, recorder=SimpleNamespace(rollout=rollout)), turn)  # type: ignore[arg-type]
        assert [each["ok"] for each in turn.calls] == ok
        assert turn.probe == {"content": good, "noise": noise}, calls
        assert rollout.meta == {
            "memory_tokens": state.notes.words,
            "input_tokens": len(f"{fact.text} {event.text}".split()),
        }


def test_symbols_are_calls_in_short() -> None:
    text, short = Stream(), SYMBOLS
    for seed in range(5):
        ends: list[Any] = [position(each, seed, each.expert(seed)) for each in (text, short)]
        assert ends[0].notes == ends[1].notes
    state: Any = short.start(0).after("ready")
    assert re.fullmatch(r"\|([=>?@][A-H]|~~){3}", state.observation)
    assert not state.after("!!!").notes.items
    assert [each.ok for each in state.after("!!!").done] == [False] * 3
    assert len(state.after("+" * 99).done) == 3
    assert state.after("---").done == ()


def test_a_stream_too_short_for_its_facts_is_refused() -> None:
    with pytest.raises(ConfigError, match="chunks"):
        Stream(chunks=1).start(0)


# -- taubench ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> str:
    return tau.written(tmp_path)


CANCEL = called("cancel_pending_order", order_id="#W1", reason="no longer needed")


def test_the_gold_actions_and_what_had_to_be_told_get_the_reward(shop: str) -> None:
    env = TauBench(path=shop)
    assert [position(env, seed, env.expert(seed)).rewards for seed in range(4)] == [(1.0,)] * 4
    first = env.start(0).observation
    assert all(each in first for each in ("Be kind.", "Cancel #W1", *tau.SCHEMAS))
    assert position(env, 0, env.expert(0)[1:]).rewards == (1.0,)  # what only reads may be left out
    branch = position(env, 0, [CANCEL])
    for told, worth in [
        ("DONE: 20.20 dollars come back.", 1.0),
        ("DONE", 0.0),
        ("DONE: 120.2 or 20.25, or 1 2 3 20 2", 0.0),
    ]:
        assert branch.after(told).rewards == (worth,), told


def test_doing_nothing_too_much_or_something_else_gets_nothing(shop: str) -> None:
    env = TauBench(path=shop)
    other = called("modify_pending_order_payment", order_id="#W1", payment_method_id="paypal_2")
    assert env.start(0).after("DONE: 20.2").rewards == (0.0,)
    assert position(env, 0, [other, CANCEL, "DONE: 20.2"]).rewards == (0.0,)
    assert position(env, 1, [CANCEL, "DONE"]).rewards == (0.0,)
    assert position(TauBench(path=shop, turns=2), 0, [CANCEL, "20.2 come back"]).rewards == (0.0,)  # no DONE in time
    assert len(env.tasks()) == 2
    assert TauBench(path=shop, idle=True).start(2).after("DONE: I cannot").rewards == (1.0,)


def test_money_goes_where_the_tools_say(shop: str) -> None:
    state = TauBench(path=shop).start(0).after(CANCEL)
    order = json.loads(state.observation)
    assert order["status"] == "cancelled"
    assert order["payment_history"][-1] == {
        "transaction_type": "refund", "amount": 20.2, "payment_method_id": "gift_card_1"
    }  # fmt: skip
    user = json.loads(state.after(called("get_user_details", user_id="ana_1")).observation)
    assert user["payment_methods"]["gift_card_1"]["balance"] == 25.2
    assert tau.SHOP["users"]["ana_1"]["payment_methods"]["gift_card_1"]["balance"] == 5.0
    swapped = json.loads(
        TauBench(path=shop).start(0).after(called("modify_pending_order_items", **tau.SWAP)).observation
    )
    assert [each["item_id"] for each in swapped["items"]] == ["i2", "i1"]
    assert swapped["status"] == "pending (item modified)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (called("fly"), "no tool 'fly'"),
        (called("cancel_pending_order", order_id="#W1"), "lacks reason"),
        (called("cancel_pending_order", order_id="#W1", reason="why not"), "one of no longer needed"),
        (called("cancel_pending_order", order_id="#W2", reason="no longer needed"), "non-pending order"),
        (called("get_order_details", order_id="#W9"), "order not found"),
        (called("get_order_details", order_id=7), "must be of type string"),
        (called("get_order_details", order_id="#W1", also=1), "no field 'also'"),
        (called("modify_pending_order_items", **{**tau.SWAP, "new_item_ids": ["i3"]}), "i3 not found or available"),
        (called("modify_pending_order_items", **{**tau.SWAP, "item_ids": ["i1"] * 3}), "i1 not found"),
        (called("modify_pending_order_items", **{**tau.SWAP, "item_ids": "i1"}), "must be of type array"),
        (called("modify_pending_order_items", **{**tau.SWAP, "payment_method_id": "x"}), "payment method not found"),
        (called("modify_pending_order_items", **{**tau.SWAP, "new_item_ids": []}), "should match"),
        (called("calculate", expression="__import__('os')"), "invalid characters"),
        (called("calculate", expression="9**9**9"), "invalid characters"),
        (called("calculate", expression="1/0"), "invalid characters"),
        ('{"name": "think", "arguments": ', "one JSON object"),
        ('{"name": "think", "arguments": "{"}', "must be of type object"),
        ('{"name": "think", "arguments": [1]}', "must be of type object"),
        ("{" * 2000, "one JSON object"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_changes_nothing(shop: str, text: str, told: str) -> None:
    state = TauBench(path=shop).start(0).after(text)
    assert state.observation.startswith("Error: ")
    assert told in state.observation
    assert not state.changed
    assert not state.rewards


def test_a_call_is_found_in_what_stands_around_it(shop: str) -> None:
    start = TauBench(path=shop).start(0)
    assert start.after("<tool_call>" + called("calculate", expression="2 * (3 + 1)") + "</tool_call>").heard == "8.0"
    assert start.after('{"name": "calculate", "arguments": "{\\"expression\\": \\"-1\\"}"}').heard == "-1.0"
    assert start.after("May I cancel it?").heard.startswith("User: Yes")
    assert start.after(called("transfer_to_human_agents", summary="x")).rewards == (0.0,)


def test_files_that_are_absent_and_tools_that_are_unknown_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the folder"):
        TauBench().start(0)
    with pytest.raises(ConfigError, match="cannot read"):
        TauBench(path=str(tmp_path / "none")).start(0)
    folder = tau.written(tmp_path, [{"instruction": "", "actions": [{"name": "fly", "kwargs": {}}], "outputs": []}])
    with pytest.raises(ConfigError, match="retail-test-0 needs the tool 'fly'"):
        TauBench(path=folder).start(0)
    with pytest.raises(ConfigError, match="domain"):
        TauBench(domain="telecom")  # pyright: ignore[reportArgumentType]


@with_data
@pytest.mark.parametrize(("domain", "recorded"), RECORDED)
def test_recorded_tool_results_are_reproduced(domain: Any, recorded: str) -> None:
    """All but faults that were put in, and two searches that show the next day's flights with the first day's seats."""
    case, same, other = _case(str(SHARED / "taubench"), domain), 0, 0
    for line in gzip.decompress((SHARED / "trajectories" / f"{recorded}.jsonl.gz").read_bytes()).splitlines():
        changed: Any = {}
        calls: dict[str, Any] = {}
        for message in json.loads(line)["messages"]:
            calls |= {call["id"]: call["function"] for call in message.get("tool_calls") or ()}
            if message["role"] == "tool" and message["content"] != "Error: 503 Service Unavailable":
                call = calls[message["tool_call_id"]]
                changed, found = case.call(changed, call["name"], json.loads(call["arguments"]))
                hit = found == message["content"].replace('"province"', '"state"')
                same, other = same + hit, other + (not hit)
    assert (same, other) == {"retail": (544, 0), "airline": (782, 2)}[domain]


@with_data
@pytest.mark.parametrize(("domain", "split", "count"), [("retail", "train", 330), ("airline", "test", 21)])
def test_every_real_task_is_solved_by_its_gold_actions_only(domain: Any, split: Any, count: int) -> None:
    env = TauBench(path=str(SHARED / "taubench"), domain=domain, split=split)
    assert len(env.tasks()) == count
    for seed in range(count):
        assert position(env, seed, env.expert(seed)).rewards == (1.0,)
        assert env.start(seed).after("DONE").rewards == (0.0,)


# -- textworld -----------------------------------------------------------------------------------------------------------

KEY = "key_bar__plus_01"
ALFWORLD = {"game.tw-pddl": {"pddl_problem": f"(:objects {KEY} key_bar__minus_02 Box_bar__plus_03)"}}


class Hall:
    """Stands in for a game of `textworld`: take the key, open the box. Counts its steps over all games."""

    steps = 0
    closed = 0

    def __init__(self) -> None:
        self.taken = False

    def reset(self) -> Any:
        return self.state("  | $$ /\\ |\n\nYou see a key_bar__minus_02.\n\n\n\n> \n", won=False)

    def step(self, command: str) -> tuple[Any, float, bool]:
        Hall.steps += 1
        won = self.taken and command == "open box_bar__plus_03"
        self.taken = self.taken or command == f"take {KEY}"
        return self.state(f"You {command}.\n>     -= Hall =-0/1", won=won), float(won), won

    def state(self, feedback: str, *, won: bool) -> Any:
        path = [f"take {KEY}", "open box_bar__plus_03"]
        return SimpleNamespace(feedback=feedback, won=won, admissible_commands=path, policy_commands=path)

    def close(self) -> None:
        Hall.closed += 1


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextWorld:
    """A game in ALFWorld's form, played by a stand-in for the package."""
    Hall.steps = Hall.closed = 0
    package = SimpleNamespace(start=lambda *_: Hall(), EnvInfos=lambda **wanted: wanted)
    monkeypatch.setitem(sys.modules, "textworld", package)
    (tmp_path / "games.jsonl").write_text(json.dumps(ALFWORLD) + "\n")
    return TextWorld(path=str(tmp_path / "games.jsonl"), turns=6)


def test_a_game_is_won_by_its_walkthrough_in_the_players_own_names(hall: TextWorld) -> None:
    assert hall.expert(0) == ["take key 2", "open box 1"]
    start: Any = hall.start(0)
    assert start.observation == "You see a key 1.\n\nYou may: take key 2, open box 1"
    taken = start.after("I think.\n\n  Take key 2!\n")
    assert taken.scene.text == f"You take {KEY}.".replace(KEY, "key 2")
    assert taken.after("open box 1").rewards == (1.0,)
    assert start.after("open box 1").rewards == ()
    assert position(hall, 0, ["open box 1"] * 6).rewards == (0.0,)
    assert position(hall, 7, hall.expert(7)).rewards == (1.0,)


def test_a_branch_is_played_again_and_a_line_is_only_stepped_on(hall: TextWorld) -> None:
    state: Any = hall.start(0)
    for _ in range(4):
        state = state.after("wait")
        assert not state.rewards
    assert Hall.steps == 4
    assert state.after("take key 2").scene.text != state.after("take key 1").scene.text
    assert Hall.steps == 4 + 1 + 5
    for seed in range(2 * OPEN):
        assert hall.start(seed).observation
    assert Hall.closed >= OPEN


@pytest.mark.parametrize("text", ["", "quit", "SAVE", "\x00", "restart now", "{}", "\n\n"])
def test_what_is_about_the_program_is_not_given_to_it(hall: TextWorld, text: str) -> None:
    state: Any = hall.start(0).after(text)
    assert state.observation.startswith("Say what you do")
    assert Hall.steps == 0


def test_without_the_package_or_a_game_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no game"):
        assert TextWorld(path=str(tmp_path)).start(0).observation
    monkeypatch.setitem(sys.modules, "textworld", None)
    with pytest.raises(MissingDependency, match="textworld"):
        assert TextWorld().start(0).observation


def test_real_games_run() -> None:
    pytest.importorskip("textworld", reason="TextWorld is not installed")
    envs = [TextWorld(rooms=2, objects=3, quest=2)]
    if (SHARED / "alfworld").exists():
        pytest.importorskip("fast_downward", reason="ALFWorld's games need fast-downward-textworld")
        envs.append(TextWorld(path=str(SHARED / "alfworld" / "valid_unseen_games.jsonl.gz")))
    for env in envs:
        commands = env.expert(1)
        assert position(env, 1, commands).rewards == (1.0,)
        assert not position(env, 1, ["look", *commands[:-1]]).rewards
