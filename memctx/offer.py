"""What stands before a request's messages: the tools on offer, the system text, the priming of the reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from memctx.edits import Offer
from memctx.tokens import Counter


def name_of(tool: Any) -> str:
    """A tool's name in any host's form: a schema dict of OpenAI, Anthropic or Gemini, or an object with a name."""
    if isinstance(tool, Mapping):
        function = tool.get("function")
        return str((function if isinstance(function, Mapping) else tool).get("name", ""))
    return str(getattr(tool, "name", getattr(tool, "__name__", "")))


def names_of(tools: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(map(name_of, tools or ()))


class Front:
    """The host's tools, those of them that stand in the request, and the system text; counted when they change.

    `catalogue` is the same object for as long as the host's tools stay equal. A tool without a name (a provider's own)
    always stands. Two of one name raise `ConfigError` where only some are offered. Providers put tools before the system
    text, so a change of either breaks the cached prefix there.
    """

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.catalogue: tuple[Any, ...] = ()
        self.names: tuple[str, ...] = ()
        self.system: Any = None
        self.offer: Offer | None = None
        self.moved = True  # something differs from how it stood in the last request
        self._host: tuple[Any, ...] | None = None
        self._places: list[int] | None = None  # of the tools that stand, in `_host`; None: all
        self._index: dict[str, int] = {}
        self._sound = False  # no two of the host's tools have one name
        self._nameless: list[int] = []
        self._sizes: dict[str, tuple[Any, int]] = {}
        self._frame: int | None = None  # tokens of having tools at all
        self._tokens: int | None = None
        self._sent: tuple[list[Any], Any] | None = None

    # -- what stands ---------------------------------------------------------------------------------------------------

    def take(self, tools: Sequence[Any] | None, system: Any) -> None:
        """The host's tools and system text for the coming request."""
        host = None if tools is None else tuple(tools)
        new = not _equal(host, self._host)
        self._host = host
        if new:
            self.catalogue, self.names, self._index, self._sound = host or (), names_of(host), {}, False
            self._stand()
        if new or not (system is self.system or system == self.system):
            self.moved, self._tokens = True, None
        self.system = system

    def put(self, offer: Offer | None) -> None:
        """Let an offer be in force."""
        unsound = offer is not None and not self._sound  # also where the last call failed for that
        if unsound or (offer is not self.offer and offer != self.offer):
            self.offer = offer
            self._stand()

    def _stand(self) -> None:
        self.moved, self._tokens = True, None
        if self.offer is not None and not self._sound:
            from memctx.validity import offerable  # which imports this module

            offerable(self.catalogue)
            self._sound = True
        if self.offer is None or self.offer.by == "defer":
            self._places = None
        elif self.offer.block:
            self._places = self._placed(self.offer.block)
        else:
            self._places = [index for index, name in enumerate(self.names) if name in ("", *self.offer.tools)]

    def _placed(self, block: Sequence[str]) -> list[int]:
        """Where the tools of a block are among the host's; those without a name come first."""
        known = self._known()
        return self._nameless + [known[name] for name in block if name in known]

    def _known(self) -> dict[str, int]:
        if not self._index:
            self._index = {name: index for index, name in enumerate(self.names) if name}
            self._nameless = [index for index, name in enumerate(self.names) if not name]
        return self._index

    @property
    def tools(self) -> list[Any] | None:
        """The tools of the request, the host's own objects."""
        if self._host is None:
            return None
        return list(self._host) if self._places is None else [self._host[index] for index in self._places]

    @property
    def usable(self) -> tuple[str, ...]:
        """Names of the tools the model may use."""
        if self.offer is None:
            return self.names
        known = self._known()
        return tuple(name for name in self.offer.tools if name in known)

    @property
    def allowed(self) -> tuple[str, ...] | None:
        """Which of them the model may call, in the request's order; None: all."""
        if self.offer is None or self.offer.by != "allow":
            return None
        usable = set(self.usable)
        return tuple(name for name in self.offer.block or self.names if name in usable)

    @property
    def deferred(self) -> tuple[str, ...]:
        """Which of them the provider is to load only when they are searched for."""
        if self.offer is None or self.offer.by != "defer":
            return ()
        usable = {"", *self.offer.tools}
        return tuple(name for name in self.names if name not in usable)

    def _prompted(self) -> list[Any]:
        """The tools whose definitions the model reads from the start."""
        tools = self.tools or []
        later = set(self.deferred)
        return [tool for tool in tools if name_of(tool) not in later] if later else tools

    # -- sizes -------------------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> int:
        """Tokens of tools, system text and reply priming as they stand."""
        if self._tokens is None:
            tools = self._prompted()
            self._tokens = self._beside() + (self.counter.tools(tools) if tools else 0)
        return self._tokens

    def _beside(self) -> int:
        """Tokens of system text and reply priming."""
        if not self.system:
            return self.counter.priming
        content = getattr(self.system, "content", self.system)
        return self.counter.priming + self.counter.message({"role": "system", "content": content})

    def weigh(self, name: str) -> int:
        """Tokens that one of the host's tools adds to a request that has tools."""
        return self._weight(name, self.catalogue[self._known()[name]])

    def _weight(self, name: str, tool: Any) -> int:
        known, size = self._sizes.get(name, (None, 0))
        if known is not tool and not _equal(known, tool):
            alone = self.counter.tools([tool])
            if self._frame is None:
                self._frame = 2 * alone - self.counter.tools([tool, tool])
            size = alone - self._frame
            self._sizes[name] = (tool, size)
        return size

    def sizes(self, block: Sequence[str]) -> tuple[int, int | None]:
        """About how many tokens there would be with these tools, and how many of them would be `kept`."""
        tools = [self.catalogue[index] for index in self._placed(block)]
        return self._beside() + sum(map(self.weigh, block)), self._common(tools)

    def kept(self) -> int | None:
        """Tokens from the start that stand as they did in the last request; None where all of it does."""
        return self._common(self._prompted()) if self.moved else None

    def _common(self, tools: list[Any]) -> int | None:
        if self._sent is None:
            return 0
        before, system = self._sent
        if _equal(tools, before) and self.system == system:
            return None
        same = takewhile(lambda pair: pair[0] is pair[1] or _equal(*pair), zip(tools, before, strict=False))
        return sum(self._weight(name_of(tool), tool) for tool, _ in same)

    def send(self) -> None:
        """The request goes out as it stands."""
        if self.moved:
            self._sent, self.moved = (self._prompted(), self.system), False


def _equal(one: Any, other: Any) -> bool:
    """Whether they are equal. Copies of what holds itself, as a schema may, are taken for different."""
    try:
        return bool(one == other)
    except RecursionError:
        return False
