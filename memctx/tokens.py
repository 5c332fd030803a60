"""How many tokens a text, a message or a set of tools costs. No network, ever.

    counter("gpt-4.1").text("hello")            1, exact
    counter("o200k_base").message({...})        text exact, overhead by the published rule
    counter("claude-sonnet-4-5")                an estimate, corrected by `calibrate` from reported usage
    counter("hf:/models/qwen"), counter(tok)    a Hugging Face tokenizer by path, cached name or object
    counter(my_function)                        any `str -> int`

Text is exact for OpenAI's encodings. What OpenAI wraps around it follows the rule it published: 3 tokens a message plus
its role, 1 more with a name, 3 to prime the reply; calls as `_bill.py` found them billed; tools as the TypeScript
namespace the model is shown, plus 9 (up to 4 fewer are billed where a system message is present). Media follow
`_images.py`. A message's count never changes, so it is made once; what calibration learns is applied by `total`.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite
from statistics import median
from typing import Any, Protocol, runtime_checkable

from memctx import _bill, _images, _tools, _vocab, _wire
from memctx.errors import ConfigError


@runtime_checkable
class Counter(Protocol):
    """What counts for a model. `exact` says that `text` is what the provider counts; `priming` is tokens a request."""

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    @property
    def priming(self) -> int: ...
    @property
    def ratio(self) -> float: ...

    def text(self, text: str) -> int:
        """Tokens of a string. Special-token text is plain text."""
        ...

    def message(self, raw: Any) -> int:
        """Tokens of one host message in any wire form, overhead and media included. Raises InvalidMessage."""
        ...

    def tools(self, tools: Sequence[Any]) -> int:
        """Tokens of the tool definitions of a request; 0 for none. Raises ConfigError for what is no tool."""
        ...

    def total(self, counted: int) -> int:
        """A sum of counts, corrected by what calibration learned. The sum itself for exact counters."""
        ...

    def calibrate(self, estimated: int, reported: int | None) -> None:
        """Learn from a reply's usage: `estimated` is the plain sum of counts, `reported` the prompt tokens billed."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """Counts with a tokenizer. Ignores calibration: its text is what the provider counts."""

    name: str
    count: _vocab.TextCount = field(repr=False)
    media: _images.MediaRule = field(repr=False)
    overhead: _bill.Overhead = field(default=_bill.Overhead(), repr=False)
    exact: bool = True
    ratio: float = 1.0

    @property
    def priming(self) -> int:
        return self.overhead.priming

    def text(self, text: str) -> int:
        return self.count(text)

    def message(self, raw: Any) -> int:
        return _bill.message(_wire.read(raw), self.count, self.media, self.overhead)

    def tools(self, tools: Sequence[Any]) -> int:
        if not tools:
            return 0
        return self.overhead.tools + self.count(_tools.as_typescript(_tools.definitions(tools)))

    def total(self, counted: int) -> int:
        return counted

    def calibrate(self, estimated: int, reported: int | None) -> None:
        """Nothing to learn."""


@dataclass(slots=True)
class Calibrated:
    """An estimate where the tokenizer is not public: a public one's count times `factor`, then `ratio` on the sum.

    `ratio` is the median of the last five reported / estimated, approached by half a step a report: one wild report
    moves it little, a lasting difference is learned whole, and there is no cap. Reports that are no positive number, or
    more than twenty-fold off, are taken as broken and ignored. Safe under threads; same reports, same ratio.
    """

    name: str
    count: _vocab.TextCount = field(repr=False)
    media: _images.MediaRule = field(repr=False)
    factor: float = 1.0
    overhead: _bill.Overhead = field(default=_bill.Overhead(), repr=False)
    exact: bool = False
    ratio: float = 1.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=5), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def priming(self) -> int:
        return self.overhead.priming

    def text(self, text: str) -> int:
        return ceil(self.count(text) * self.factor)

    def message(self, raw: Any) -> int:
        return _bill.message(_wire.read(raw), self.text, self.media, self.overhead)

    def tools(self, tools: Sequence[Any]) -> int:
        if not tools:
            return 0
        return self.overhead.tools + self.text(_tools.as_json(_tools.definitions(tools)))

    def total(self, counted: int) -> int:
        return ceil(counted * self.ratio)

    def calibrate(self, estimated: int, reported: int | None) -> None:
        if not (_positive(estimated) and reported is not None and _positive(reported)):
            return
        found = reported / estimated
        if not 0.05 <= found <= 20:
            return
        with self._lock:
            first = not self._recent
            self._recent.append(found)
            target = median(self._recent)
            self.ratio = target if first else (self.ratio + target) / 2

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON-able data for `restore`."""
        with self._lock:
            return {"name": self.name, "ratio": self.ratio, "recent": list(self._recent)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what another instance learned. Raises ConfigError for a state of another counter or none at all."""
        ratio, recent = state.get("ratio"), state.get("recent")
        sound = isinstance(recent, list) and all(_positive(one) for one in [ratio, *recent])
        if not sound or state.get("name") != self.name:
            text = f"this is no state of the counter {self.name!r}: pass what its `state()` gave"
            raise ConfigError(text, code="bad_state", counter=self.name)
        with self._lock:
            self.ratio = float(ratio)  # type: ignore[arg-type]  # checked above
            self._recent = deque((float(one) for one in recent or ()), maxlen=5)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0


_CLAUDE = _bill.Overhead(tools=346, call=50)  # 346 is published; ids are billed with each call and result
_PLAIN = _bill.Overhead(tools=0, call=12)
_TEMPLATE = _bill.Overhead(tools=60, message=4, call=12)  # ChatML, as most open models have it
_FACTORS = (  # tokens for one of o200k_base, where calibration starts; Claude's from 240 recorded bills of Opus 4.6
    (re.compile(r"claude-(opus-4-[7-9]|(opus|sonnet|haiku|fable)-[5-9])"), 1.45, _CLAUDE),
    (re.compile(r"(^|[/.:])(claude|anthropic)"), 1.1, _CLAUDE),
    (re.compile(r"(^|[/.:])gemini"), 1.05, _PLAIN),
    (re.compile(r"(^|[/.:])deepseek"), 1.1, _PLAIN),
)
_OPENAI = (  # beside what tiktoken knows
    (re.compile(r"(gpt-5|gpt-4\.[15]|gpt-4o|chatgpt-4o|o[134])([-.]|$)"), "o200k_base"),
    (re.compile(r"(gpt-4|gpt-3\.5|text-embedding-3)([-.]|$)"), "cl100k_base"),
)
ACCEPTED = (
    "an encoding (o200k_base, cl100k_base), an OpenAI model (gpt-5, gpt-4.1, gpt-4o, o3, gpt-4, ...), claude*, "
    "gemini*, deepseek*, 'hf:NAME' or 'hf:PATH', a tokenizer object, or a function from str to int"
)


def counter(name: Any = "o200k_base") -> Counter:
    """The counter for an encoding, a model, a tokenizer or a function; a counter is handed back as it is.

    Loading is lazy: a vocabulary is read at the first count. Raises ConfigError for a name it does not know, for a
    model whose encoding is not known (there is no guess), and for a function that does not count.
    """
    if isinstance(name, str):
        return _named(name.strip())
    if isinstance(name, Counter):
        return name
    rule = _images.media_rule("")
    if (count := _vocab.tokenizer(name)) is not None:
        label = str(getattr(name, "name_or_path", None) or getattr(name, "name", None) or type(name).__name__)
        overhead = _bill.Overhead() if hasattr(name, "encode_ordinary") else _TEMPLATE
        return Exact(label, _vocab.checked(count), rule, overhead)
    if callable(name):
        return Calibrated(getattr(name, "__qualname__", type(name).__name__), _vocab.checked(name), rule)
    raise ConfigError(f"{name!r} cannot count tokens: give {ACCEPTED}", code="unknown_counter")


def _named(name: str) -> Counter:
    if name.startswith("hf:"):
        return Exact(name, _vocab.hugging_face(name[3:]), _images.media_rule(""), _TEMPLATE)
    model = name.lower()
    for pattern, factor, overhead in _FACTORS:
        if pattern.search(model):
            rule = _images.media_rule(model)
            return Calibrated(name, _vocab.openai("o200k_base"), rule, factor=factor, overhead=overhead)
    bare = re.split(r"^(?:openai|azure|azure_openai)[/:]", model)[-1]
    return Exact(name, _vocab.openai(_encoding_name(bare, name)), _images.media_rule(bare))


def _encoding_name(model: str, given: str) -> str:
    """The packaged encoding of an OpenAI model or encoding name."""
    if model in _vocab.ENCODINGS:
        return model
    from tiktoken.model import encoding_name_for_model

    try:
        found = encoding_name_for_model(model).replace("o200k_harmony", "o200k_base")  # the same ranks for plain text
    except KeyError:
        found = next((encoding for pattern, encoding in _OPENAI if pattern.match(model)), "")
    if found not in _vocab.ENCODINGS:
        why = (
            f"its encoding {found} is not packaged"
            if found
            else "its encoding is not known, and a guess would be wrong"
        )
        text = f"no token counter for {given!r}: {why}. Give {ACCEPTED}"
        raise ConfigError(text, code="unknown_counter", given=given)
    return found
