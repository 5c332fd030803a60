"""Presets for agents that rewrite their own context or keep a memory. `memctx.train.presets` has them all."""

from __future__ import annotations

from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm, Critic
from memctx.train.losses import PolicyLoss
from memctx.train.memory_shapers import CallValidity, Compression, FoldProcess, Omission, Probed
from memctx.train.regularisers import KL
from memctx.train.sampling import Group, PartialRestart
from memctx.train.shapers import EfficiencyDecay, Outcome


def supo() -> Algorithm:
    """SUPO (2510.06727): summaries are turns; every segment has the rollout's advantage; truncated rollouts teach nothing."""
    return Algorithm(loss=PolicyLoss(overlong=True))


def resum() -> Algorithm:
    """ReSum-GRPO (2509.13313): as SUPO with a summariser that does not learn: the policy itself, or another of `Stage.others`."""
    return Algorithm(loss=PolicyLoss(overlong=True), train_modules=frozenset({"agent"}))


def memagent() -> Algorithm:
    """MemAgent (2507.02259): a conversation a chunk; the final reward, group mean, no deviation, once a rollout."""
    return Algorithm(layout="per_turn", terms=(Term(scale="none"),), kl=KL(), sampling=Group(16))


def iter_research() -> Algorithm:
    """IterResearch (2511.07327): each turn a sample, r = 0.995^(T - t) R, compared over all turns of the task."""
    every = Term("efficiency", "immediate")
    return Algorithm(layout="per_turn", shapers=(EfficiencyDecay(),), terms=(every,))


def mem_alpha() -> Algorithm:
    """Mem-α (2509.25911): each chunk has the answer's reward, the store's smallness and its own calls; over all rows of the task.

    So it groups, as released: a rollout of more chunks counts more.
    """
    shared = (Compression(), Outcome("task", on="all"), Outcome("compression", on="all"))
    shapers = (*shared, CallValidity(), Probed("content", 0.1))
    return Algorithm(layout="per_turn", shapers=shapers, terms=(Term("turns", "immediate"),), kl=KL())


def mem1() -> Algorithm:
    """MEM1 (2506.15841): PPO over a state written anew each turn; a run cut off has failed, as in the released code.

    Segments replace the 2-D mask, whose positions were wrong.
    """
    return Algorithm(layout="per_turn", critic=Critic("token", bootstrap=False), kl=KL())


def agent_omit() -> Algorithm:
    """Agent-Omit (2602.04284): a share of the reward for text left out, where the task succeeded; contexts as they acted.

    The released trainer scores one flat sequence, a context that the policy never saw.
    """
    return Algorithm(sampling=PartialRestart(8), shapers=(Omission(),), kl=KL())


def fold_grpo() -> Algorithm:
    """FoldGRPO (2510.11967): GRPO over threads, plus what each turn earns for how it folds."""
    terms = (Term(), Term("fold", "immediate", baseline="none", scale="none"))
    return Algorithm(shapers=(FoldProcess(budget=2048),), terms=terms, loss=PolicyLoss(overlong=True))


def memory_policy() -> Algorithm:
    """Ours, for policies of memory: half outcome, half return by turn number; turn ratio; truncated rollouts masked."""
    terms = (Term(weight=0.5), Term("sum", "togo", group="prompt+turn", weight=0.5))
    return Algorithm(terms=terms, loss=PolicyLoss(ratio="turn", clip=(0.2, 0.28), overlong=True), kl=KL())
