"""What is told over a long stream, what is asked at its end, and a reader that answers from texts by words alone.

The reader is frozen and knows no better than its texts: it takes a rumour for the truth, and of two values the later one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Literal

from memctx.scope import scope
from memctx.stores.words import WordIndex
from memctx.train.envs._corpus import made_up

VALUES = {
    "colour": ("red", "blue", "green", "white", "black", "brown", "pink", "grey"),
    "mood": ("calm", "glad", "tired", "bored", "proud", "shy", "bold", "sad"),
    "drink": ("tea", "milk", "water", "juice", "cider", "cocoa", "broth", "wine"),
}
CHAT = ("{} was late for the bus again.", "It rained all morning in {}.", "{} has not had lunch yet.")
RUMOUR, CHANGE = 0.3, 0.3  # of what is neither told first nor an event; the rest is chat
SCOPE = scope("reader")

Kind = Literal["fact", "change", "event", "rumour", "chat"]


@dataclass(frozen=True, slots=True)
class Statement:
    """`subject`: what it is about, by number; `value`: what it says of it."""

    kind: Kind
    text: str
    subject: int = -1
    value: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """`words`: all of them stand in a sentence that answers it; `values`: what an answer looks like."""

    text: str
    words: tuple[str, ...]
    values: str
    answer: str


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    chunks: tuple[tuple[Statement, ...], ...]
    questions: tuple[Question, ...]


@lru_cache(maxsize=256)
def feed(seed: int, chunks: int, each: int, facts: int, events: int) -> Feed:
    """`chunks` of `each` statements: every fact is told, some are changed, some talked of without knowledge; all are asked."""
    chance = Random(f"feed {seed}")
    names = made_up(chance, facts + 2 * events)
    topics = [(name, chance.choice(list(VALUES))) for name in names[:facts]]
    pairs = list(zip(names[facts::2], names[facts + 1 :: 2], strict=True))
    places = chance.sample(range(chunks * each), facts + events)
    first = dict(zip(places, range(facts + events), strict=True))
    now: dict[int, str] = {}
    told: list[Statement] = []
    for place in range(chunks * each):
        subject, day = first.get(place, -1), place // each + 1
        if subject >= facts:
            one, other = pairs[subject - facts]
            now[subject] = str(day)
            told.append(Statement("event", f"On day {day} {one} met {other}.", subject, str(day)))
        else:
            told.append(_said(chance, topics, now, subject))
    asked = [_about(topic, now[number]) for number, topic in enumerate(topics)]
    asked += [_when(pair, now[number]) for number, pair in enumerate(pairs, facts)]
    return Feed(tuple(tuple(told[n : n + each]) for n in range(0, len(told), each)), tuple(asked))


def _said(chance: Random, topics: Sequence[tuple[str, str]], now: dict[int, str], subject: int) -> Statement:
    """A fact told first, or something about one that is known, or chat. What becomes true goes into `now`."""
    draw = chance.random()
    known = [number for number in now if number < len(topics)]
    if subject < 0 and (not known or draw > RUMOUR + CHANGE):
        return Statement("chat", chance.choice(CHAT).format(*made_up(chance, 1)))
    hearsay = subject < 0 and draw < RUMOUR
    subject = chance.choice(known) if subject < 0 else subject
    name, topic = topics[subject]
    old = now.get(subject, "")
    value = chance.choice([each for each in VALUES[topic] if each != old])
    text = f"the {topic} of {name} is {value}."
    if hearsay:
        return Statement("rumour", f"Somebody said that {text}", subject, value)
    now[subject] = value
    if not old:
        return Statement("fact", f"The{text.removeprefix('the')}", subject, value)
    return Statement("change", f"{chance.choice(('It is no longer', 'Wrong is'))} {old}: {text}", subject, value)


def _about(topic: tuple[str, str], answer: str) -> Question:
    name, what = topic
    return Question(f"What is the {what} of {name}?", (name.lower(), what), "|".join(VALUES[what]), answer)


def _when(pair: tuple[str, str], answer: str) -> Question:
    one, other = pair
    return Question(f"On which day met {one} and {other}?", (one.lower(), other.lower(), "day"), r"\d+", answer)


def ranked(texts: Sequence[str], question: Question) -> list[str]:
    """The texts that share a word with the question, by BM25; of equal ones the newest first."""
    index = WordIndex()
    index.add(SCOPE, range(1, len(texts) + 1), list(reversed(texts)))
    rows, _ = index.search(question.text, max(len(texts), 1), SCOPE)
    return [texts[len(texts) - int(row)] for row in rows]


def answer(texts: Sequence[str], question: Question) -> str:
    """What the reader finds in texts, oldest first: in the best one that has the words, the last thing that fits. Else ''."""
    for text in ranked(texts, question):
        for sentence in reversed(re.split(r"(?<=[.!?])\s+", text.lower())):
            if set(question.words) <= set(re.findall(r"\w+", sentence)):
                found = re.findall(rf"\b(?:{question.values})\b", sentence)
                if found:
                    return str(found[-1])
    return ""


def score(texts: Sequence[str], questions: Sequence[Question]) -> float:
    """The share of questions that the reader answers rightly."""
    return sum(answer(texts, each) == each.answer for each in questions) / len(questions)
