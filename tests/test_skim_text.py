"""The text skimmers: what each kind of result keeps, and that no input makes them slow, long or unsteady."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memctx._skim import identifiers, index_words, skim, words
from memctx._skim.rule import level_at, skim_step

PROFILE: dict[str, Any] = {
    "user_id": "mei_kovacs_8020",
    "name": {"first_name": "Mei", "last_name": "Kovacs"},
    "email": "mei.kovacs@example.com",
    "dob": "1990-04-05",
    "note": None,
    "tags": [],
    "orders": ["#W6390527", "#W7800651"],
    "created_at": "2024-01-02T03:04:05",
}
FLIGHTS = [
    {"number": f"HAT{n:03}", "origin": "ATL", "departs": f"{n % 24:02}:00:00", "prices": {"economy": 100 + n}}
    for n in range(30)
]
CODE = "\n".join(
    [
        "[File: /repo/fields.py (900 lines total)]",
        "1:import os",
        "2:from repo.core import checks",
        *(f"{n}:        value_{n % 3} = checks.run(value_{n % 3})" for n in range(3, 80)),
        "80:class FilePathField(Field):",
        "81:    def __init__(self, path=''):",
        "82:        self.path = path",
    ]
)
LOG = "\n".join(
    [
        *(f"2026-01-05 10:00:{n % 60:02} INFO worker-7 handled request {n} in 0.{n}s" for n in range(300)),
        "2026-01-05 10:05:00 ERROR worker-7 request 8f3a9c21 failed: ConnectionRefusedError 10.0.0.7:5432",
        "2026-01-05 10:05:01 INFO worker-7 shutdown",
    ]
)
PROSE = (
    "The treaty was signed in 1648 by two parties. It ended a long war. Many people wrote about it since. "
    "The archive holds it as item WA-1648-22b, see https://archive.example.org/items/22b for a scan. "
) * 12
TABLE = "\n".join(
    [
        "| id | city | opened |",
        "|---|---|---|",
        *(f"| ST-{n:04} | town {n} | 2001-02-{n % 28 + 1:02} |" for n in range(90)),
    ]
)
KINDS = {"json": json.dumps(PROFILE), "records": json.dumps(FLIGHTS), "code": CODE, "log": LOG, "prose": PROSE}
KINDS["table"] = TABLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [1, 2])
def test_a_skim_is_shorter_and_always_the_same(kind: str, level: int) -> None:
    short = skim(KINDS[kind], level=level)
    assert 0 < len(short) < len(KINDS[kind])
    assert short == skim(KINDS[kind], level=level)
    assert len(skim(short, level=level)) <= len(short)


@pytest.mark.parametrize(
    ("kind", "level", "parts"),
    [
        (
            "json",
            2,
            ["user_id mei_kovacs_8020", "email mei.kovacs@example.com", "dob 1990-04-05", "#W6390527 #W7800651"],
        ),
        ("json", 1, ["first_name Mei", "last_name Kovacs", "dob 1990-04-05", "created_at 2024-01-02T03:04:05"]),
        ("records", 2, ["number HAT000 HAT001", "HAT029"]),
        ("records", 1, ["number | departs | prices.economy", "HAT003 | 03:00:00 | 103", "(all: origin ATL)", "HAT029"]),
        ("code", 2, ["/repo/fields.py", "repo.core", "checks.run", "FilePathField", "value_2"]),
        ("code", 1, ["[File: /repo/fields.py", "80:class FilePathField(Field):", "def __init__(self, path=''):"]),
        ("log", 2, ["ERROR worker-7 request 8f3a9c21 failed: ConnectionRefusedError", "10.0.0.7:5432", "2026-01-05"]),
        ("log", 1, ["handled request 0", "request 8f3a9c21 failed", "shutdown"]),
        ("prose", 2, ["WA-1648-22b", "https://archive.example.org/items/22b"]),
        ("prose", 1, ["The treaty was signed in 1648 by two parties.", "WA-1648-22b"]),
        ("table", 2, ["ST-0000", "2001-02-01"]),
        ("table", 1, ["| id | city | opened |", "| ST-0000 | town 0 | 2001-02-01 |"]),
    ],
)
def test_each_kind_keeps_what_it_promises(kind: str, level: int, parts: list[str]) -> None:
    short = skim(KINDS[kind], level=level)
    assert [part for part in parts if part not in short] == []


def test_empty_fields_and_bookkeeping_leave_an_index() -> None:
    short = skim(KINDS["json"], level=2)
    assert "note" not in short
    assert "2024-01-02" not in short


def test_an_index_leaves_out_what_stands_elsewhere() -> None:
    known = {"mei_kovacs_8020", "#W6390527"}
    short = skim(KINDS["json"], level=2, known=known.__contains__)
    assert "mei_kovacs_8020" not in short
    assert "orders #W7800651" in short
    assert skim(KINDS["json"], level=2, known=lambda word: True) == ""


@pytest.mark.parametrize(
    "wrapped",
    [
        "meta=None content=[TextContent(type='text', text='{}')] isError=False",
        '{{"content": [{{"type": "text", "text": "{}"}}]}}',
    ],
)
def test_json_inside_a_printed_wrapper_is_read(wrapped: str) -> None:
    inner = json.dumps(PROFILE, indent=1)
    text = wrapped.format(json.dumps(inner)[1:-1])
    short = skim(text, level=2)
    assert "user_id mei_kovacs_8020" in short
    assert "#W6390527 #W7800651" in short


def test_level_zero_is_the_text() -> None:
    assert skim(LOG, level=0) == LOG


def test_over_the_limit_rare_groups_come_first() -> None:
    text = json.dumps({"rows": [f"ROW-{n:06}" for n in range(4000)], "next_cursor": "c9f8e7d6"})
    short = skim(text, level=2)
    assert "next_cursor c9f8e7d6" in short
    assert "+3895 more" in short
    assert len(short) <= 1200


@pytest.mark.parametrize(
    ("word", "copied"),
    [
        ("W1234567", True),
        ("2024-05-11", True),
        ("/a/b.py", True),
        ("snake_case", True),
        ("CamelCase", True),
        ("a@b.io", True),
        ("32.873055", True),
        ("1234567890", True),
        ("Hello", False),
        ("word", False),
        ("12.50", False),
        ("1234", False),
        ("NOTICE", False),
        ("10:30:00", False),
    ],
)
def test_what_an_identifier_is(word: str, copied: bool) -> None:
    assert (word in set(identifiers(f"see {word}, please"))) is copied


def test_of_two_holders_exactly_one_keeps_a_word() -> None:
    older, newer = json.dumps({"a_id": "X-10001", "b_id": "Y-20002"}), json.dumps({"b_id": "Y-20002", "c_id": "Z-3000"})
    first = skim_step([older], settled=lambda _: False, newer=[newer])
    assert first == ["a_id X-10001"]
    second = skim_step([newer], settled=set(words(first[0])).__contains__, newer=[])
    assert second == ["b_id Y-20002; c_id Z-3000"]
    assert skim_step([newer, newer], settled=lambda _: False, newer=[]) == ["b_id Y-20002; c_id Z-3000", ""]


def test_levels_by_age() -> None:
    assert [level_at(age) for age in range(3)] == [0, 2, 2]
    assert [level_at(age, outline_steps=1) for age in range(3)] == [0, 1, 2]


MEGA = 1_000_000
HARD: dict[str, Callable[[], str]] = {
    "one word": lambda: "a" * MEGA,
    "one line": lambda: "ab1 " * (MEGA // 4),
    "marks": lambda: "#" * MEGA,
    "dots": lambda: "a" + "." * MEGA,
    "quotes": lambda: '"a' * (MEGA // 2),
    "braces": lambda: '{"' * (MEGA // 2),
    "deep list": lambda: "[" * 3000 + "]" * 3000,
    "deep dict": lambda: '{"a":' * 3000 + "1" + "}" * 3000,
    "broken json": lambda: '{"a": 1, ' * (MEGA // 9),
    "cjk": lambda: "漢字かな交じり文。" * (MEGA // 9),
    "surrogates": lambda: "\ud800 x1y2 " * (MEGA // 8),
    "blank": lambda: " " * MEGA,
    "newlines": lambda: "\n" * MEGA,
    "escapes": lambda: '\\"a_b\\n' * (MEGA // 7),
    "clocks": lambda: "12:34" * (MEGA // 5),
    "errors": lambda: "xError= null " * (MEGA // 13),
    "long error": lambda: "a" * MEGA + "error",
    "urls": lambda: "http://" * (MEGA // 7),
    "handlers": lambda: "1:    raise ValueError\n" * (MEGA // 23),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_inputs_are_quick_and_never_grow(name: str) -> None:
    text = HARD[name]()
    start = time.perf_counter()
    for level in (1, 2):
        assert len(skim(text, level=level)) <= len(text)
    index_words(text)
    assert time.perf_counter() - start < 10  # a quadratic step would take hours


def test_ten_megabytes_cost_ten_times_one() -> None:
    rows = [{"id": f"A{n}", "city": f"town {n}", "at": "2024-05-11", "n": n} for n in range(200_000)]
    text = json.dumps(rows)
    assert len(text) > 10 * MEGA
    start = time.perf_counter()
    assert len(skim(text, level=2)) <= 1200
    assert len(skim(text, level=1)) <= 3000
    assert time.perf_counter() - start < 60


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=300), st.recursive(st.text() | st.integers() | st.none(), st.lists).map(json.dumps)))
def test_any_text_gives_a_skim_no_longer_than_itself(text: str) -> None:
    for level in (1, 2):
        short = skim(text, level=level)
        assert len(short) <= len(text)
        assert short == skim(text, level=level)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.recursive(st.text(max_size=20), st.lists, max_leaves=8)))
def test_index_words_stand_in_the_index(data: dict[str, Any]) -> None:
    text = json.dumps(data)
    short = skim(text, level=2)
    assert all(word in short for word in index_words(text))
