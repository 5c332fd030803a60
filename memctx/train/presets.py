"""The papers' algorithms as values of the slots: `presets.load("supo")`. Each says its paper, its formula, and where the
released code does something else; ours follows the paper. `memctx.train.algorithm` has the defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from memctx.errors import NotFound
from memctx.train.advantages import Term, clamp, where_outcomes_agree
from memctx.train.algorithm import Algorithm, Critic, PairLoss, WeightedNLL
from memctx.train.losses import PolicyLoss, Rejection
from memctx.train.memory_shapers import CallValidity, Compression, FoldProcess, Omission, Probed
from memctx.train.regularisers import KL, Entropy, EntropySmooth
from memctx.train.rollouts import Role
from memctx.train.sampling import EntropyBranch, Group, ReplayInject, ResampleFrom, Tree, top_spread
from memctx.train.schedules import ByTurn, CriticThenActor, Iterative
from memctx.train.shapers import (
    BipartiteMatch,
    EfficiencyDecay,
    Flagged,
    InfoGainCounterfactual,
    InfoGainGold,
    MultiTool,
    PotentialDiff,
    Repetition,
    TurnDecay,
)


def reinforce() -> Algorithm:
    """REINFORCE (Williams, 1992): A = R; loss -A log pi."""
    plain = Term(baseline="none", scale="none")
    return Algorithm(terms=(plain,), loss=PolicyLoss(surrogate="reinforce"))


def rloo() -> Algorithm:
    """RLOO (2402.14740): A = R less the mean of the others in the group."""
    return Algorithm(terms=(Term(baseline="loo", scale="none"),), loss=PolicyLoss(surrogate="reinforce"))


def grpo() -> Algorithm:
    """GRPO (2402.03300): A = (R - mean) / (std + 1e-6) of the group; token clip; KL k3."""
    return Algorithm(kl=KL())


def dr_grpo() -> Algorithm:
    """Dr.GRPO (2503.20783): GRPO without the deviation and without dividing by a response's length."""
    return Algorithm(terms=(Term(scale="none"),), loss=PolicyLoss(agg="sum"))


def ppo() -> Algorithm:
    """PPO (1707.06347): token GAE with a critic."""
    return Algorithm(critic=Critic("token"), sampling=Group(1))


def supo() -> Algorithm:
    """SUPO (2510.06727): summaries are turns; every segment has the rollout's advantage; truncated rollouts teach nothing."""
    return Algorithm(loss=PolicyLoss(overlong=True))


def resum() -> Algorithm:
    """ReSum-GRPO (2509.13313): as SUPO with a summariser that does not learn."""
    return Algorithm(loss=PolicyLoss(overlong=True), train_modules=frozenset({"agent"}))


def memagent() -> Algorithm:
    """MemAgent (2507.02259): a conversation a chunk; the final reward, group mean, no deviation, once a rollout."""
    return Algorithm(layout="per_turn", terms=(Term(scale="none"),), kl=KL(), sampling=Group(16))


def iter_research() -> Algorithm:
    """IterResearch (2511.07327): each turn a sample, r = 0.995^(T - t) R, compared over all turns of the task."""
    every = Term("efficiency", "immediate")
    return Algorithm(layout="per_turn", shapers=(EfficiencyDecay(),), terms=(every,))


def turn_ppo() -> Algorithm:
    """Turn-PPO of ST-PPO (2511.20718): the ratio is pooled over a turn by geometric mean; all its tokens are clipped or none."""
    return Algorithm(critic=Critic("token"), sampling=Group(1), loss=PolicyLoss(ratio="turn"))


def s_ppo() -> Algorithm:
    """S-PPO of ST-PPO (2511.20718): the gradient over the norm of the clipping bias, where that is above 1 (our guard)."""
    return Algorithm(critic=Critic("token"), sampling=Group(1), loss=PolicyLoss(clip_bias=True))


def st_ppo() -> Algorithm:
    """ST-PPO (2511.20718): the turn's ratio and the clipping-bias norm together."""
    return Algorithm(critic=Critic("token"), sampling=Group(1), loss=PolicyLoss(ratio="turn", clip_bias=True))


def so_grpo() -> Algorithm:
    """SO-GRPO (2511.20718, second version): ST-PPO's loss with a group's advantage. No code is public; inferred."""
    return Algorithm(loss=PolicyLoss(ratio="turn", clip_bias=True))


def seeupo() -> Algorithm:
    """SeeUPO (2602.06554): turn updates from the last to the first, A = z(R - mean) clamped to 3, times the accumulated ratio.

    The released code pairs the ratio with rows by position, which batch balancing permutes; ours goes with the rollout.
    """
    loss, centred = PolicyLoss(ratio="segment"), Term(scale="batch")
    return Algorithm(
        layout="per_turn", terms=(centred,), post=(clamp(3),), loss=loss, kl=KL(coef=0.002), schedule=ByTurn()
    )


def epo() -> Algorithm:
    """EPO (2509.22576): an entropy bonus and a band around past entropy. The released band has no gradient; ours has one."""
    wrong = Flagged("invalid", -0.1)
    smooth = partial(EntropySmooth, low=0.0, high=2.0, alpha=0.1)
    return Algorithm(layout="per_turn", shapers=(wrong,), terms=(Term("sum"),), entropy=Entropy(), smooth=smooth)


def igpo() -> Algorithm:
    """IGPO (2510.14967): a turn earns the rise of p(gold); rewards are normed over the group's turns, then summed up.

    The released code takes undiscounted token returns less the mean of the group at the same token position.
    """
    gain = Term("sum", "togo", order="norm_then_return")
    return Algorithm(sampling=Group(16), shapers=(InfoGainGold(),), terms=(gain,), kl=KL(), entropy=Entropy())


def hiper() -> Algorithm:
    """HiPER (2602.16165): GAE for actions, subgoals and the choice to switch, each on its own tokens."""
    penalties = (Flagged("keep", -0.3), Flagged("inconsistent", -0.3), Flagged("invalid", -0.1))
    critic = Critic("hierarchical", lam=1.0, lam_high=0.95)
    return Algorithm(layout="per_turn", shapers=penalties, critic=critic, kl=KL(coef=0.01))


def arpo() -> Algorithm:
    """ARPO for agents (2507.19849): branches where entropy rises after a tool's result; GRPO over the leaves.

    The released code draws u and branches where u - 0.2 dH <= 0.5; the paper's alpha + beta dH > tau is the same rule turned.
    """
    shapers = (Flagged("malformed", -1.0), MultiTool())
    return Algorithm(sampling=EntropyBranch(), shapers=shapers, terms=(Term("sum"),))


def arpo_gui() -> Algorithm:
    """ARPO for GUIs (2505.16282): GRPO; an old success takes a place in a group that all but fails."""
    return Algorithm(sampling=ReplayInject(), loss=PolicyLoss(clip=(0.2, 0.3)))


def flow_grpo() -> Algorithm:
    """Flow-GRPO of AgentFlow (2510.05592): only the planner learns; statistics over rollouts.

    The released code takes them over turn rows, so long rollouts weigh more.
    """
    loss = PolicyLoss(clip=(0.2, 0.3), agg="rollout")
    return Algorithm(layout="per_turn", train_modules=frozenset({"planner", "agent"}), loss=loss, kl=KL())


def refuel() -> Algorithm:
    """REFUEL (2410.04612): regress the difference of two rollouts' rewards on the turn they part at."""
    return Algorithm(sampling=ResampleFrom(), loss=PairLoss("refuel", 1.0), schedule=Iterative())


def mapo() -> Algorithm:
    """MAPO / MICA (2603.06194): half of the return by turn number, half of the immediate reward over the group."""
    gain = Term("sum", "immediate", scale="popstd", weight=0.5)
    togo = Term("sum", "togo", group="prompt+turn", scale="popstd", weight=0.5)
    return Algorithm(shapers=(PotentialDiff(),), terms=(togo, gain))


def matchtir() -> Algorithm:
    """MatchTIR (2601.10712): calls matched with gold calls; half by rollout, half by turn number.

    The released "KM" is greedy; ours is exact.
    """
    terms = (Term("sum", weight=0.5), Term("sum", "togo", 0.9, group="prompt+turn", weight=0.5))
    return Algorithm(sampling=Group(16), shapers=(BipartiteMatch(),), terms=terms, kl=KL(), entropy=Entropy())


def infopo() -> Algorithm:
    """InfoPO (2603.00656): outcome, plus what a turn's feedback changed in the next action where outcomes do not tell."""
    gain = Term("gain", "immediate", nonzero=True, weight=0.5, gate=where_outcomes_agree())
    return Algorithm(sampling=Group(5), shapers=(InfoGainCounterfactual(),), terms=(Term(), gain), entropy=Entropy())


def trloo() -> Algorithm:
    """TRLOO of Dr.Kernel (2602.05885): returns less the mean of the others alive at the same turn; mismatch rejection."""
    by_turn = Term("sum", "togo", group="prompt+turn", baseline="loo", scale="none", singleton="raw")
    loss = PolicyLoss(clip=(0.2, 0.28), dual=3.0, agg="sum", reject=Rejection())
    return Algorithm(layout="per_turn", sampling=Group(16), terms=(by_turn,), loss=loss)


def archer() -> Algorithm:
    """ArCHer (2402.19446): double Q and V over utterances, off the tokens; -A log pi for the actor."""
    critic = Critic("utterance_q", gamma=0.95, normed=False)
    return Algorithm(critic=critic, loss=PolicyLoss(surrogate="reinforce"), schedule=CriticThenActor(0, 5, 1))


def m_dpo() -> Algorithm:
    """M-DPO (2409.02392): a task's best rollout over its worst; what the environment said is left out of the sums."""
    return Algorithm(loss=PairLoss("mdpo", 0.1), schedule=Iterative())


def m_kto() -> Algorithm:
    """M-KTO (2409.02392): rollouts above their task's mean against those below, each for itself."""
    return Algorithm(loss=PairLoss("mkto", 0.1), schedule=Iterative())


def ufo() -> Algorithm:
    """UFO (2507.14295): try again; reward 0.5^turns, less repetition; the quarter of the groups that spread most."""
    shapers, loss = (TurnDecay(), Repetition()), PolicyLoss(clip=(0.2, 0.28))
    return Algorithm(shapers=shapers, filters=(top_spread(0.25),), critic=Critic("token"), loss=loss, entropy=Entropy())


def mua_rl() -> Algorithm:
    """MUA-RL (2508.18669): GRPO with a simulated user in the loop; 1 where the final database and the outputs are right."""
    return Algorithm(kl=KL())


def rise() -> Algorithm:
    """RISE (2407.18219): exp(r / 0.4) times the negative log-prob of the last attempt."""
    return Algorithm(loss=WeightedNLL(), schedule=Iterative(moving=False))


def dial_tree() -> Algorithm:
    """DialTree (2510.02286): a pruned tree of turns; format tokens are never pushed down."""
    return Algorithm(sampling=Tree(), loss=PolicyLoss(protect=Role.FORMAT), kl=KL())


def br_rm() -> Algorithm:
    """BR-RM (2510.23596): two turns; a broken format costs most; leave-one-out over the deviation."""
    return Algorithm(terms=(Term("sum", baseline="loo"),), shapers=(Flagged("malformed", -100.0),), kl=KL())


def mem_alpha() -> Algorithm:
    """Mem-α (2509.25911): answers from the final memory, less its size, plus valid calls; compared over all rows of the task.

    So it groups, as released; `Term(group="prompt", horizon="episode")` would count a rollout once.
    """
    shapers = (Compression(), CallValidity(), Probed("content", 0.1))
    terms = (Term("turns", "immediate"), Term())
    return Algorithm(layout="per_turn", shapers=shapers, terms=terms, kl=KL())


def mem1() -> Algorithm:
    """MEM1 (2506.15841): PPO over a state written anew each turn. Segments replace the 2-D mask, whose positions were wrong."""
    return Algorithm(critic=Critic("token"), kl=KL())


def gigpo() -> Algorithm:
    """GiGPO (2505.10978) and SLEA-RL (2603.18079): the rollout's advantage plus that among turns that saw the same."""
    step = Term("sum", "togo", 0.95, group="prompt+anchor", scale="none")
    return Algorithm(layout="per_turn", terms=(Term(scale="none"), step), kl=KL(coef=0.01))


def agent_omit() -> Algorithm:
    """Agent-Omit (2602.04284): a share of the reward for text left out, where the task succeeded; contexts as they acted.

    The released trainer scores one flat sequence, a context that the policy never saw.
    """
    return Algorithm(shapers=(Omission(),), kl=KL())


def fold_grpo() -> Algorithm:
    """FoldGRPO (2510.11967): GRPO over threads, plus what each turn earns for how it folds."""
    terms = (Term(), Term("fold", "immediate", baseline="none", scale="none"))
    return Algorithm(shapers=(FoldProcess(budget=2048),), terms=terms, loss=PolicyLoss(overlong=True))


def memory_policy() -> Algorithm:
    """Ours, for policies of memory: half outcome, half return by turn number; turn ratio; truncated rollouts masked."""
    terms = (Term(weight=0.5), Term("sum", "togo", group="prompt+turn", weight=0.5))
    return Algorithm(terms=terms, loss=PolicyLoss(ratio="turn", clip=(0.2, 0.28), overlong=True), kl=KL())


def names() -> list[str]:
    """All presets, in the order of this file."""
    return [name for name, made in globals().items() if _is_preset(name, made)]


def load(name: str) -> Algorithm:
    """The preset called `name`; raises `NotFound` listing them."""
    if name not in names():
        raise NotFound(f"no preset {name!r}; known: {', '.join(names())}")
    made: Callable[[], Algorithm] = globals()[name]
    return made()


def _is_preset(name: str, made: object) -> bool:
    hints = getattr(made, "__annotations__", {})
    return not name.startswith("_") and name != "load" and hints == {"return": "Algorithm"}
