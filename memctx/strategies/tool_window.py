"""The tools that stand in a request, out of many: MemTool's three modes (arXiv 2507.21428), made cheap on the prompt cache.

The host gives all its tools to each view, with `search_tools` and `remove_tools` of `Session.search_tools` among them. What
was chosen is an `Offer` in the plan; what the model searched for and removed is read from the transcript. New tools go to
the end of the block, so the tools before them stay cached; what is no longer wanted stays in it until its removal pays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from memctx.component import Component
from memctx.edits import Delivery, Offer
from memctx.effects import Asks, Embed, Index
from memctx.errors import EffectError
from memctx.messages import Message
from memctx.offer import name_of
from memctx.strategies import Context, Proposal
from memctx.strategies._graph import graph_of, path_of, state_of
from memctx.strategies._tool_news import REMOVE, SEARCH, News, Uses, news, question, waiting
from memctx.strategies._tool_prune import asked, latest, useful

if TYPE_CHECKING:
    from memctx.catalogue import Catalogue

SHARE = 0.5  # the most of the limit that the tools may take,
WHOLE = 0.125  # and that all of them take where all are offered
LIKELY = 0.2  # chance from which on a tool that the graph suggests as the next is added,
SERVED = 0.01  # and share of near requests from which on one that served them is;
LEARNED = 4  # both together are at most one in so many of the `k`
OWN = {"autonomous": (SEARCH, REMOVE), "workflow": (), "hybrid": (SEARCH,)}
DECISIVE = {"autonomous": ("found", "removed"), "workflow": ("request",), "hybrid": ("request", "found")}

Names = Mapping[str, Any]  # the host's tools by name


class ToolWindow(Component):
    """At most `cap` tools in a request; `keep` are always among them.

    Mode "autonomous": the model searches, and removes. "workflow": each new user request keeps at most `k` of the tools on
    offer, as `prune` says, and adds the `k` best for it; then the list is frozen. "hybrid": the same, and the model may search
    for more. `prune`: "lru" keeps what was used last; "utility" what was useful and is like the request; "model" asks one,
    which also words the searches, and falls back to "lru".

    `delivery`: how tools are kept from the model, see `Offer`; "auto" is "allow" on OpenAI Responses, else "list". `graph`: a
    `ToolGraph`, by its name in memory or as a .graphml file: up to a quarter of the `k` are then tools that served requests
    like this one in the runs it learned from, or that are likely next.
    A full list makes room by what was touched least recently; a tool whose result is awaited or that is forced stays. Where
    all tools fit into `cap` and an eighth of the limit, all stand.
    """

    offers: ClassVar[bool] = True

    mode: Literal["autonomous", "workflow", "hybrid"] = "hybrid"
    cap: int = Field(default=64, ge=1, le=10_000)
    k: int = Field(default=16, ge=1)
    keep: tuple[str, ...] = ()
    prune: Literal["lru", "utility", "model"] = "lru"
    delivery: Literal["auto", "list", "allow", "defer"] = "auto"
    graph: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = self.k + len(self.keep) + len(OWN[self.mode])
        if needed > self.cap:
            raise ValueError(f"k, keep and our own tools need {needed} places: raise cap, or lower k")
        if self.delivery == "defer" and self.mode == "workflow":
            raise ValueError("what is deferred is found by the model's searches: use mode 'hybrid' or 'autonomous'")
        return self

    def propose(self, ctx: Context) -> Proposal:
        """One Offer where something happened that changes what is wanted, or nothing."""
        hidden = [name for name in OWN["autonomous"] if name not in OWN[self.mode]]
        names = _names(ctx, hidden)
        if not names or not ctx.transcript.messages:
            return []
        now = ctx.offer.tools if ctx.offer else ()
        held = self._held(ctx, names)
        if self.delivery == "defer":
            shown = tuple(dict.fromkeys((*now, *held)))
            same = ctx.offer is not None and ctx.offer.by == "defer" and shown == now
            return [] if same else [Offer(shown, by="defer", at=ctx.offer.at if ctx.offer else "")]
        if self._all_fit(ctx, names):
            return [] if set(now) == set(names) else [self._offer(ctx, names, held, list(names))]
        happened = list(news(ctx.transcript, ctx.offer.at if ctx.offer else ""))
        stands = ctx.offer is not None and self._allowed(ctx.offer, ctx, names) and set(held) <= set(now)
        if stands and not any(self._matters(each) for each in happened):
            return []
        wanted = yield from self._wanted(ctx, names, happened)
        return [self._offer(ctx, names, held, wanted)]

    def _allowed(self, offer: Offer, ctx: Context, names: Names) -> bool:
        """Whether an offer keeps within the cap: it may be of another's settings, and the host's tools change."""
        standing = [name for name in offer.block or offer.tools if name in names]
        return offer.by != "defer" and len(standing) <= self._places(ctx)

    def _places(self, ctx: Context) -> int:
        """How many tools with a name there is room for; one without always stands."""
        return self.cap - int(ctx.memo["names"][2])

    def _all_fit(self, ctx: Context, names: Names) -> bool:
        """Whether there is nothing to choose: a block that never changes is cheaper than a smaller one that does."""
        if len(names) > self._places(ctx):
            return False
        if "small" not in ctx.memo or ctx.memo["small"][0] is not ctx.catalogue:
            ctx.memo["small"] = (ctx.catalogue, sum(map(ctx.weigh, names)))
        return bool(ctx.memo["small"][1] <= WHOLE * ctx.limit)

    def _held(self, ctx: Context, names: Names) -> tuple[str, ...]:
        """Tools that are never taken away now: ours, the host's to keep, those forced or waited for."""
        always = (*OWN[self.mode], *self.keep, *ctx.forced, *sorted(waiting(ctx.transcript)))
        return tuple(dict.fromkeys(name for name in always if name in names))

    def _matters(self, news: News) -> bool:
        return news.kind in DECISIVE[self.mode]

    def _wanted(self, ctx: Context, names: Names, happened: list[News]) -> Asks:
        """The tools to be offered beside those held, touched least recently first."""
        wanted = [name for name in (ctx.offer.tools if ctx.offer else ()) if name in names]
        requests = [each for each in happened if each.kind == "request" and self._matters(each)]
        for each in happened:
            if each in requests[-1:]:
                wanted = yield from self._for_request(ctx, names, each.message, wanted)
            elif each.kind == "found" and self._matters(each):
                wanted = _touched(wanted, [name for name in each.tools if name in names][: self.cap])
            elif each.kind == "removed" and self._matters(each):
                wanted = [name for name in wanted if name not in each.tools]
            elif each.kind == "used":
                wanted = _touched(wanted, [name for name in each.tools if name in wanted])
        return wanted

    # -- a new request -------------------------------------------------------------------------------------------------

    def _for_request(self, ctx: Context, names: Names, request: Message, tools: list[str]) -> Asks:
        """What a new request keeps of the tools on offer, and the best that there are for it."""
        query = question(ctx.transcript, request)
        queries, kept = [query], None
        if self.prune == "model":
            try:
                drop, worded = yield from asked(tools, query)
                queries, kept = [query, *worded], [name for name in tools if name not in drop]
            except EffectError as cause:
                _warn_once(ctx, f"tool_window pruned by rule: {cause}")
        learned = yield from self._learned(ctx, names)
        found = yield from self._found(ctx, names, queries, learned)
        if kept is None:
            kept = yield from self._kept(ctx, tools, query)
        return _touched(kept, found)

    def _kept(self, ctx: Context, tools: list[str], query: str) -> Asks:
        uses = Uses.of(ctx)
        if self.prune != "utility" or not tools:
            return latest(tools, uses, self.k)
        try:
            hits = (yield from _catalogue(ctx)).search(query, len(tools), only=set(tools))
        except Exception:  # `_found` has warned
            return latest(tools, uses, self.k)
        return useful(tools, uses, {hit.tool.name: hit.score for hit in hits}, self.k)

    def _found(self, ctx: Context, names: Names, queries: list[str], learned: list[str]) -> Asks:
        """The `k` best tools, the queries and the graph taking turns; where the catalogue cannot be read, the host's first."""
        ours = {*OWN["autonomous"], *self.keep}
        try:
            catalogue = yield from _catalogue(ctx)
            ranked = [[hit.tool.name for hit in catalogue.search(query, self.k + len(ours))] for query in queries]
        except Exception as cause:  # the cap must hold whatever a host's tools look like
            _warn_once(ctx, f"tool_window offers the first tools, for it cannot search them: {cause!r:.200}")
            ranked = [list(names)]
        turns = (name for turn in zip_longest(*ranked, learned) for name in turn if name in names and name not in ours)
        return list(dict.fromkeys(turns))[: self.k]

    def _learned(self, ctx: Context, names: Names) -> Asks:
        """What the tool graph adds, the likeliest first: tools that come next, and those that served requests like this one."""
        most = -(-self.k // LEARNED)
        try:
            graph = yield from graph_of(ctx, self.graph)
            if graph is None:
                return []
            state = state_of(ctx)
            with suppress(EffectError):
                yield Embed((state,))  # off the loop; the graph's embedder remembers it
            suggested = graph.suggest(path_of(ctx), state, k=most)
            served = graph.served(state, available=names, k=most)
        except Exception as cause:  # the cap must hold whatever becomes of the graph
            _warn_once(ctx, f"tool_window goes on without its graph: {cause!r:.200}")
            return []
        likely = [each.tool for each in suggested if each.tool in names and each.score >= LIKELY]
        return list(dict.fromkeys((*likely, *(each.tool for each in served if each.score >= SERVED))))[:most]

    # -- what stands ---------------------------------------------------------------------------------------------------

    def _offer(self, ctx: Context, names: Names, held: Sequence[str], wanted: Sequence[str]) -> Offer:
        """The offer of tools held and wanted, as many as there is room for, with the block that carries them."""
        cap = self._places(ctx)
        held = held[: max(0, cap)]
        others = [name for name in wanted if name not in held]
        room = max(0, cap - len(held))
        left = SHARE * ctx.limit - sum(ctx.weigh(name) for name in held)
        fitting: list[str] = []
        for name in reversed(others):
            if len(fitting) < room and ctx.weigh(name) <= left:  # one that is too large makes no other leave
                left -= ctx.weigh(name)
                fitting.append(name)
        evicted = [name for name in others if name not in fitting]
        if evicted:
            ctx.record({"strategy": self.name, "evicted": evicted})
        tools = (*held, *reversed(fitting))
        by: Delivery = "allow" if self.delivery == "allow" or self._allows(ctx) else "list"
        block = ctx.settle(self._blocks(ctx, names, tools, cap))
        return Offer(tools, block, by, ctx.transcript.messages[-1].id)

    def _allows(self, ctx: Context) -> bool:
        return self.delivery == "auto" and ctx.provider == "openai-responses"

    def _blocks(self, ctx: Context, names: Names, tools: tuple[str, ...], cap: int) -> list[tuple[str, ...]]:
        """Blocks that hold `tools`: the standing one with the new at its end, then with ever more of its spare tools gone.

        Spare tools go from the end: the nearer to the end a block is changed, the more of it stays cached. What was spare
        before goes with the first change that is made anyway.
        """
        before = ctx.offer or Offer(())
        added = [name for name in tools if name not in before.block]
        standing = [name for name in before.block if name in names and (not added or name in before.tools)]
        spare = [name for name in standing if name not in tools]
        left = SHARE * ctx.limit - sum(map(ctx.weigh, (*standing, *added)))
        blocks = []
        for gone in range(len(spare) + 1):
            out = set(spare[len(spare) - gone :])
            if (len(standing) + len(added) - gone <= cap and left >= 0) or gone == len(spare):
                blocks.append((*(name for name in standing if name not in out), *added))
            left += ctx.weigh(spare[-1 - gone]) if gone < len(spare) else 0
        return blocks


def _names(ctx: Context, hidden: Sequence[str]) -> Names:
    """The host's tools by name, less those `hidden`; made again only when one changed."""
    known: tuple[object, Names, int] = ctx.memo.get("names", (None, {}, 0))
    if known[0] is not ctx.catalogue:
        named = [(name_of(tool), tool) for tool in ctx.catalogue]
        names = {name: tool for name, tool in named if name and name not in hidden}
        known = ctx.memo["names"] = (ctx.catalogue, names, sum(not name for name, _ in named))
    return known[1]


def _catalogue(ctx: Context) -> Asks:
    """The `Catalogue` of the host's tools; made in a thread where the call is async."""
    known: tuple[object, Catalogue] | None = ctx.memo.get("catalogue")
    if known is None or known[0] is not ctx.catalogue:
        from memctx.catalogue import shared

        try:
            made = yield Index(ctx.catalogue)
        except EffectError as cause:
            if cause.code != "no_handler":
                raise
            made = shared(ctx.catalogue)
        known = ctx.memo["catalogue"] = (ctx.catalogue, made)
    return known[1]


def _touched(tools: Sequence[str], names: Sequence[str]) -> list[str]:
    """`tools` with `names`, best first, put at the end: the best is touched last."""
    touched = set(names)
    return [name for name in tools if name not in touched] + list(reversed(names))


def _warn_once(ctx: Context, text: str) -> None:
    if not ctx.memo.get("warned"):
        ctx.memo["warned"] = True
        warnings.warn(text, stacklevel=2)
