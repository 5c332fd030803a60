"""Static vectors: a table of word pieces, averaged. No model runs, so a short text takes a fifth of a millisecond.

The table and the tokenizer are those of `wordllama` (MIT; https://github.com/dleemiller/WordLlama), distilled from the token
tables of larger models; the files are read from the installed package, which itself need not be imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memctx.errors import MissingDependency, require

if TYPE_CHECKING:
    from memctx.stores import Vectors

LEAD = 600  # characters that say what a text is about: they weigh as much as the whole of it
LONGEST = 40_000  # characters of a text that are read
WORDS, WORD = 50_000, 40  # words whose pieces are kept, and their characters
_WORDS = re.compile(r" ( *[^ ]+(?: +\Z)?| *\Z)")  # each after a space; more of them belong to the word
_WHOLE = re.compile("<s>|</s>|<unk>|\u2581")  # what the tokenizer takes for more than text


class Static:
    """The mean of the whole text plus the mean of its beginning, 256 numbers.

    The beginning of a long text says what it is about, and the mean of the whole drowns it: weighing both alike raised recall@10
    from .62 to .65 on sessions of 8,000 characters. A short text is its own beginning.
    """

    batch = 1_024

    def __init__(self) -> None:
        found = find_spec("wordllama")
        if found is None or not found.submodule_search_locations:
            text = (
                "the default embedder needs 'wordllama': pip install 'memctx-agents[embed]', or name another embedder"
            )
            raise MissingDependency(text, package="wordllama", extra="embed")
        folder = Path(found.submodule_search_locations[0])
        tokenizers = require("tokenizers", extra="embed")
        weights = require("safetensors.numpy", extra="embed")
        table = weights.load_file(folder / "weights" / "l2_supercat_256.safetensors")
        self._table: Vectors = next(iter(table.values())).astype("float32")
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(
            str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._known = lru_cache(maxsize=WORDS)(self._split)
        self.dim: int | None = self._table.shape[1]
        self.name = f"wordllama-{version('wordllama')}-{self.dim}-lead{LEAD}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, 256); a text without any word piece has the vector of the unknown one."""
        cut = [text[:LONGEST] for text in texts]
        long = [number for number, text in enumerate(cut) if len(text) > LEAD]
        whole = self._means(cut)
        if long:
            whole[long] += self._means([cut[number][:LEAD] for number in long])
        return _at_length_one(whole)

    def _means(self, texts: Sequence[str]) -> Vectors:
        """The mean of the pieces of each text, at length one."""
        import numpy as np

        pieces = [self._pieces(text) or [0] for text in texts]
        ends = np.cumsum([len(ids) for ids in pieces])
        flat = np.fromiter(chain.from_iterable(pieces), np.int64, int(ends[-1]))
        sums: Vectors = np.add.reduceat(self._table[flat], np.concatenate([[0], ends[:-1]]), axis=0)
        return _at_length_one(sums)

    def _pieces(self, text: str) -> list[int]:
        """The word pieces of a text: none goes beyond a space, so a word that is known is not split again."""
        if _WHOLE.search(text):
            return self._split(text)
        words = _WORDS.findall(f" {text}")
        return [piece for word in words for piece in (self._known if len(word) <= WORD else self._split)(word)]

    def _split(self, text: str) -> list[int]:
        pieces: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return pieces

    def clear(self) -> None:
        """Forget the words seen so far."""
        self._known.cache_clear()


def _at_length_one(rows: Vectors) -> Vectors:
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
