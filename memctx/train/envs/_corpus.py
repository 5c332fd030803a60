"""A made-up corpus: people, the towns and firms they belong to, a passage about each, and questions about people.

Nothing in it can be known from elsewhere. Given names and family names are shared, so a passage about a namesake is found too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from random import Random

from memctx.scope import scope
from memctx.stores.words import WordIndex

HEADS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "gl", "kr", "pl", "tr"]
TAILS = ["l", "n", "r", "s", "th", "x", "nd", "rk"]
ONE_HOP = {
    "born": "In which town was {} born?",
    "works": "For which firm does {} work?",
    "dog": "What is the dog of {} called?",
}
TWO_HOPS = {
    ("born", "river"): "On which river lies the town where {} was born?",
    ("works", "founded"): "In which year was the firm founded that {} works for?",
}
CHAT = (
    "It rained all morning and nobody went out.",
    "The bus was late again, as it is on most days.",
    "There was soup for lunch and bread with it.",
    "A new bench stands under the old tree by the gate.",
    "Some say that the winters used to be colder.",
    "The market opens early and closes at noon.",
)
SCOPE = scope("corpus")


@dataclass(frozen=True, slots=True)
class Question:
    """`queries` find the passages that hold the answer, one a hop."""

    text: str
    answer: str
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """`facts`: entity -> relation -> value; `people`: who may be asked about."""

    facts: dict[str, dict[str, str]]
    people: tuple[str, ...]
    passages: tuple[str, ...]
    index: WordIndex

    def search(self, query: str, top: int) -> list[str]:
        """The best passages by BM25."""
        rows, _ = self.index.search(query, top, SCOPE)
        return [self.passages[row - 1] for row in rows]

    def questions(self, chance: Random, count: int, hops: int) -> tuple[Question, ...]:
        """About as many people; with two hops, half of them lead over a town or firm."""
        return tuple(
            self._over(chance, name) if hops == 2 and chance.random() < 0.5 else self._about(chance, name)
            for name in chance.sample(self.people, count)
        )

    def _about(self, chance: Random, name: str) -> Question:
        relation = chance.choice(list(ONE_HOP))
        return Question(ONE_HOP[relation].format(name), self.facts[name][relation], (name,))

    def _over(self, chance: Random, name: str) -> Question:
        first, second = chance.choice(list(TWO_HOPS))
        between = self.facts[name][first]
        return Question(TWO_HOPS[first, second].format(name), self.facts[between][second], (name, between))


@lru_cache(maxsize=64)
def corpus(seed: int, people: int, words: int = 0) -> Corpus:
    """The world of a seed. A passage that says what it has to say in fewer than `words` words goes on with small talk."""
    chance = Random(f"corpus {seed}")
    given, family = made_up(chance, people // 2), made_up(chance, people // 2)
    towns, rivers, firms, dogs = (made_up(chance, people // 2) for _ in range(4))
    firms = [f"{each} Works" for each in firms]
    facts = {town: {"river": river} for town, river in zip(towns, rivers, strict=True)}
    facts |= {firm: {"founded": str(chance.randrange(1700, 2000))} for firm in firms}
    names = tuple(f"{a} {b}" for a, b in chance.sample(list(product(given, family)), people))
    for name in names:
        facts[name] = {"born": chance.choice(towns), "works": chance.choice(firms), "dog": chance.choice(dogs)}
    passages = tuple(_filled(chance, _passage(name, fact), words) for name, fact in facts.items())
    index = WordIndex()
    index.add(SCOPE, range(1, len(passages) + 1), passages)
    return Corpus(facts, names, passages, index)


def made_up(chance: Random, count: int) -> list[str]:
    """As many different words that look like names."""
    found: dict[str, None] = {}
    while len(found) < count:
        parts = (chance.choice(HEADS) + chance.choice("aeiou") for _ in range(2))
        found["".join(parts).title() + chance.choice(TAILS)] = None
    return list(found)


def normal(answer: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: as answers are compared in MEM1's and SQuAD's scoring."""
    plain = re.sub(r"[^\w\s]|_", "", answer.lower())
    return " ".join(word for word in plain.split() if word not in {"a", "an", "the"})


def _passage(name: str, facts: dict[str, str]) -> str:
    if "river" in facts:
        return f"{name} is a town. It lies on the river {facts['river']}."
    if "founded" in facts:
        return f"{name} is a firm. It was founded in {facts['founded']}."
    return f"{name} was born in {facts['born']}, works for {facts['works']} and has a dog called {facts['dog']}."


def _filled(chance: Random, text: str, words: int) -> str:
    while len(text.split()) < words:
        text += f" {chance.choice(CHAT)}"
    return text
