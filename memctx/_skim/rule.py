"""When a result is skimmed, and what the skim may leave out. The rule of `lean`, as pure functions.

A result stands in full while its step is the newest with results. When the next step's results arrive it is skimmed
once and stays so: one rewrite in its life, near the end of the view, so the prefix before it stays byte-stable.

A word is left out of an index if it stands elsewhere for good: in text that is never edited (user, system, assistant,
call arguments), in a skim made earlier, or among the index words of a newer result, which will keep them in its turn.
So of several holders exactly one keeps a word: the newest when the word comes again, the oldest once it is skimmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memctx._skim import index_words, shown_words, skim


def level_at(age: int, outline_steps: int = 0) -> int:
    """The depth of a result whose step has `age` newer steps with results: whole, outline for a while, then index."""
    if age <= 0:
        return 0
    return 1 if age <= outline_steps else 2


def skim_step(results: Iterable[str], settled: Callable[[str], bool], newer: Iterable[str]) -> list[str]:
    """The indexes of one step's results, in order.

    `settled(word)`: the word stands in text that stays. `newer`: the full texts of all later results so far. The caller
    adds `shown_words(...)` of what it shows for the step (the skim, or the whole text where that is shorter) to what is
    settled.
    """
    later = {word for text in newer for word in index_words(text)}
    held: set[str] = set()

    def known(word: str) -> bool:
        return word in held or word in later or settled(word)

    skims: list[str] = []
    for text in results:
        skims.append(skim(text, level=2, known=known))
        held |= shown_words(text, skims[-1])
    return skims
