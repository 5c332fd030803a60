"""The arms of `local_model`: strategies as plain data, and what an agent under them has to be told and to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks._local_agents import GRAPH
from benchmarks._local_server import Json
from memctx import component
from memctx.pipeline import EditWhen, Pipeline
from memctx.strategies import Strategy

LOW = 0.85  # share of the budget that a forced cut leaves: the tools and the policy alone are more than half
STATE = "In each answer write all that you need to know from here on between <state> and </state>: what is older leaves your context."


@dataclass(frozen=True)
class Arm:
    """`stack` None: no memctx; else strategies as plain data. `rules`: what the model must know beside their `instructions`.

    `says`: what the scripted agent writes because of them. `memory`: they ask one.
    """

    stack: Sequence[Json] | None
    edit_when: EditWhen = "pays"
    memory: bool = False
    says: str = ""
    rules: str = ""

    def strategies(self) -> list[Strategy]:
        return [component.load("strategies", each) for each in self.stack or ()]


def arms() -> dict[str, Arm]:
    """Every strategy there is, each by itself where that makes sense; what then is over the budget the pipeline drops."""
    truncate: Json = {"use": "truncate", "high": 0.95, "low": LOW}
    summarize = {"use": "summarize", "keep": 2, "max_tokens": 300, "min_tokens": 300, "max_source_tokens": 2_000}
    chunked = {"use": "chunked", "over": 500, "chunk": 500, "memory": 250, "problem": 200}
    kept = [{"use": "remember"}, truncate]
    return {
        "none": Arm(None),
        "safe": Arm(Pipeline.safe().dump()["strategies"]),
        "lean": Arm([{"use": "skim"}], "always"),
        "skim+fade": Arm([{"use": "skim"}, {"use": "fade", "keep": 1}]),
        "clear": Arm([{"use": "clear", "keep": 2}]),
        "window": Arm([{"use": "window", "W": 3, "S": 2}], "always"),
        "discard": Arm([{"use": "discard"}], "always"),
        "truncate": Arm([truncate]),
        "offload": Arm([{"use": "offload", "over": 300, "preview": 400}], "always"),
        "summarize": Arm([summarize], "budget"),
        "chunked": Arm([chunked], "always"),
        "internal_state": Arm([{"use": "internal_state"}], "always", says="<state>{known}</state>", rules=STATE),
        "omit": Arm([{"use": "omit"}], "always", says="{known} <omit>1-{before}</omit>"),
        "fold": Arm([{"use": "fold"}], "always", says="<fold>1-{latest}: {known}</fold>"),
        "branch": Arm([{"use": "branch"}], "always"),
        "drift": Arm([{"use": "drift", "level": 0.9, "noise": 0.05}, truncate], memory=True),
        "turn_budget": Arm([{"use": "turn_budget", "limit": 16, "extend": []}, truncate]),
        "tool_window": Arm([{"use": "tool_window", "cap": 8, "k": 5}, truncate]),
        "next_tool": Arm([{"use": "next_tool", "graph": GRAPH, "confidence": 0.3}, truncate], memory=True),
        "experience": Arm([{"use": "experience"}, truncate], memory=True),
        "remember+recall": Arm([{"use": "recall", "tokens": 300}, *kept], memory=True),
        "remember+episodes": Arm([{"use": "episodes"}, *kept], memory=True),
    }
