"""The papers' algorithms as values of the slots: `presets.preset("supo")`. Each says its paper, its formula, and where the
released code does something else; ours follows the paper. `memctx.train.algorithm` has the defaults. Those for agents that
rewrite their own context or keep a memory stand in `_memory_presets`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from memctx.errors import NotFound
from memctx.train import _memory_presets
from memctx.train.advantages import Term, clamp, where_outcomes_agree
from memctx.train.algorithm import Algorithm, Critic, PairLoss, WeightedNLL
from memctx.train.filters import reject_unprofiled, top_spread
from memctx.train.losses import PolicyLoss, Rejection
from memctx.train.regularisers import KL, Entropy, EntropySmooth
from memctx.train.rollouts import Role
from memctx.train.sampling import EntropyBranch, Group, ReplayInject, ResampleFrom, Tree
from memctx.train.schedules import ByTurn, CriticThenActor, Iterative, Joint
from memctx.train.shapers import (
    BipartiteMatch,
    Flagged,
    Graded,
    InfoGainCounterfactual,
    InfoGainGold,
    MultiTool,
    Novelty,
    PotentialDiff,
    Repetition,
    TurnDecay,
    WellFormed,
)

FOUR = Joint(minibatches=4)


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


def turn_ppo() -> Algorithm:
    """Turn-PPO of ST-PPO (2511.20718): the ratio is pooled over a turn by geometric mean; all its tokens are clipped or none.

    Its critic's lambda is not known; ours is 1.
    """
    loss = PolicyLoss(ratio="turn", agg="response")
    return Algorithm(critic=Critic("token"), sampling=Group(1), loss=loss, schedule=FOUR)


def s_ppo() -> Algorithm:
    """S-PPO of ST-PPO (2511.20718): the gradient over the norm of the clipping bias, where that is above 1 (our guard).

    With one update a batch nothing is clipped and this is PPO; so four, as in the others of its family.
    """
    return Algorithm(
        critic=Critic("token"), sampling=Group(1), loss=PolicyLoss(clip_bias=True, agg="response"), schedule=FOUR
    )


def st_ppo() -> Algorithm:
    """ST-PPO (2511.20718): the turn's ratio and the clipping-bias norm together."""
    loss = PolicyLoss(ratio="turn", clip_bias=True, agg="response")
    return Algorithm(critic=Critic("token"), sampling=Group(1), loss=loss, schedule=FOUR)


def so_grpo() -> Algorithm:
    """SO-GRPO (2511.20718, second version): ST-PPO's loss with a group's advantage. No code is public; inferred."""
    return Algorithm(loss=PolicyLoss(ratio="turn", clip_bias=True), schedule=FOUR)


def seeupo() -> Algorithm:
    """SeeUPO (2602.06554): turn updates from the last to the first, A = z(R - mean) clamped to 3, times the accumulated ratio.

    The released code pairs the ratio with rows by position, which batch balancing permutes; ours goes with the rollout.
    """
    loss, centred = PolicyLoss(ratio="segment", agg="segment"), Term(scale="batch")
    return Algorithm(
        layout="per_turn", terms=(centred,), post=(clamp(3),), loss=loss, kl=KL(coef=0.002), schedule=ByTurn()
    )


def epo() -> Algorithm:
    """EPO (2509.22576), on GRPO: an entropy bonus and a band around past entropy. The released band has no gradient; ours has.

    `EntropySmooth(fade=N)` gives its weight by progress, which is optional in the paper too.
    """
    smooth, wrong = partial(EntropySmooth, low=0.0, high=2.0, alpha=0.1), (Flagged("invalid", -0.1),)
    kl, entropy, terms = KL(coef=0.01), Entropy(), (Term("sum"),)
    return Algorithm(layout="per_turn", shapers=wrong, terms=terms, entropy=entropy, smooth=smooth, kl=kl)


def igpo() -> Algorithm:
    """IGPO (2510.14967): a turn earns the rise of p(gold), the last one F1, or -2 for a broken format; normed, then summed up.

    The released code takes undiscounted token returns less the mean of the group at the same token position.
    """
    gain = Term("sum", "togo", order="norm_then_return")
    shapers = (Graded(broken=-2.0), InfoGainGold())
    return Algorithm(sampling=Group(16), shapers=shapers, terms=(gain,), kl=KL(), entropy=Entropy())


def hiper() -> Algorithm:
    """HiPER (2602.16165): GAE for actions, subgoals and the choice to switch, each on its own tokens."""
    penalties = (Flagged("keep", -0.3), Flagged("inconsistent", -0.3), Flagged("invalid", -0.1))
    critic = Critic("hierarchical", lam=1.0, lam_high=0.95)
    return Algorithm(layout="per_turn", shapers=penalties, critic=critic, kl=KL(coef=0.01))


def arpo() -> Algorithm:
    """ARPO for agents (2507.19849): branches where entropy rises after a tool's result; GRPO over the leaves.

    The released code draws u and branches where u - 0.2 dH <= 0.5; the paper's alpha + beta dH > tau is the same rule turned.
    """
    return Algorithm(sampling=EntropyBranch(), shapers=(Graded(), MultiTool()), schedule=Joint(minibatches=8))


def arpo_gui() -> Algorithm:
    """ARPO for GUIs (2505.16282): GRPO on task + format / 2; an old success takes a place in a group that all but fails."""
    return Algorithm(sampling=ReplayInject(), shapers=(WellFormed(),), loss=PolicyLoss(clip=(0.2, 0.3)))


def flow_grpo() -> Algorithm:
    """Flow-GRPO of AgentFlow (2510.05592): only the planner learns; statistics over rollouts.

    The released code takes them over turn rows, so long rollouts weigh more.
    """
    loss, planner = PolicyLoss(clip=(0.2, 0.3), agg="rollout"), frozenset({"planner", "agent"})
    return Algorithm(layout="per_turn", train_modules=planner, loss=loss, kl=KL(), schedule=FOUR)


def refuel() -> Algorithm:
    """REFUEL (2410.04612): regress the difference of two rollouts' rewards on the turn they part at.

    eta is for rewards of about 0.01; for rewards of 0..1 take 10.
    """
    return Algorithm(sampling=ResampleFrom(), loss=PairLoss("refuel", 1000.0), schedule=Iterative())


def mica() -> Algorithm:
    """MICA, once MAPO (2603.06194): half the return by turn number, half the immediate reward over the group.

    Its clip and KL are not known; ours are the defaults.
    """
    gain = Term("sum", "immediate", scale="popstd", weight=0.5)
    togo = Term("sum", "togo", group="prompt+turn", scale="popstd", weight=0.5)
    return Algorithm(shapers=(PotentialDiff(),), terms=(togo, gain))


def matchtir() -> Algorithm:
    """MatchTIR (2601.10712): calls matched with gold calls; half by rollout, half by turn number.

    The released "KM" is greedy; ours is exact.
    """
    terms = (Term("sum", weight=0.5), Term("sum", "togo", 0.9, group="prompt+turn", weight=0.5))
    group, match, parts = Group(16), (BipartiteMatch(),), Joint(minibatches=8)
    return Algorithm(sampling=group, shapers=match, terms=terms, kl=KL(), entropy=Entropy(), schedule=parts)


def infopo() -> Algorithm:
    """InfoPO (2603.00656): outcome, plus what a turn's feedback changed in the next action where outcomes do not tell."""
    gain = Term("gain", "immediate", nonzero=True, weight=0.5, gate=where_outcomes_agree())
    return Algorithm(sampling=Group(5), shapers=(InfoGainCounterfactual(),), terms=(Term(), gain), entropy=Entropy())


def trloo() -> Algorithm:
    """TRLOO of Dr.Kernel (2602.05885): returns less the mean of the others alive at the same turn; both its rejections."""
    by_turn = Term("sum", "togo", group="prompt+turn", baseline="loo", scale="none", singleton="raw")
    loss = PolicyLoss(clip=(0.2, 0.28), dual=3.0, agg="sum", reject=Rejection())
    kept = (reject_unprofiled(),)
    return Algorithm(layout="per_turn", sampling=Group(16), filters=kept, terms=(by_turn,), loss=loss)


def archer() -> Algorithm:
    """ArCHer (2402.19446): double Q and V over utterances; -A log pi for the actor, from batch 21 on.

    The released code draws fresh utterances for V and the actor at replayed states; ours takes both from the newest rollouts.
    """
    critic = Critic("utterance_q", gamma=0.95, normed=False)
    return Algorithm(critic=critic, loss=PolicyLoss(surrogate="reinforce"), schedule=CriticThenActor())


def m_dpo() -> Algorithm:
    """M-DPO (2409.02392): a task's best rollout over its worst; only policy tokens are summed. Its eta: ours."""
    return Algorithm(loss=PairLoss("mdpo", 0.1), schedule=Iterative())


def m_kto() -> Algorithm:
    """M-KTO (2409.02392): rollouts above their task's mean and those below, each for itself. Its eta and weights: ours."""
    return Algorithm(loss=PairLoss("mkto", 0.1), schedule=Iterative())


def ufo() -> Algorithm:
    """UFO (2507.14295): try again; reward 0.5^turns, less repetition; the quarter of the groups that spread most."""
    shapers = (TurnDecay(), Repetition(), Flagged("malformed", -0.1))
    group, few, critic, loss = Group(16), (top_spread(0.25),), Critic("token"), PolicyLoss(clip=(0.2, 0.28))
    return Algorithm(sampling=group, shapers=shapers, filters=few, critic=critic, loss=loss, entropy=Entropy())


def mua_rl() -> Algorithm:
    """MUA-RL (2508.18669): GRPO; 1 where the final database and the outputs are right. The user: `Stage.others`."""
    return Algorithm(kl=KL())


def rise() -> Algorithm:
    """RISE (2407.18219): exp(r / 0.4) times the negative log-prob of the last attempt; r is 1, 0, or -1 without an answer."""
    return Algorithm(shapers=(Graded(),), loss=WeightedNLL(), schedule=Iterative(moving=False))


def dial_tree() -> Algorithm:
    """DialTree (2510.02286): a pruned tree of turns; format tokens are never pushed down. Its clip, width and KL: ours."""
    return Algorithm(sampling=Tree(), loss=PolicyLoss(protect=Role.FORMAT, agg="response"), kl=KL())


def mint() -> Algorithm:
    """MINT for empathic talk (2604.11742): quality, plus how much a turn's moves differ from those of the one before."""
    return Algorithm(shapers=(Novelty(),), terms=(Term("sum"),), kl=KL(coef=0.01))


def br_rm() -> Algorithm:
    """BR-RM (2510.23596): two turns; 0, -10 if wrong, -100 if broken; leave-one-out over the deviation. Released KL: 0.02."""
    return Algorithm(terms=(Term(baseline="loo"),), shapers=(Graded(0.0, -10.0, -100.0),), kl=KL())


def gigpo() -> Algorithm:
    """GiGPO (2505.10978) and SLEA-RL (2603.18079): the rollout's advantage plus that among turns that saw the same."""
    step = Term("sum", "togo", 0.95, group="prompt+anchor")
    return Algorithm(layout="per_turn", terms=(Term(), step), kl=KL(coef=0.01))


def makers() -> dict[str, Callable[[], Algorithm]]:
    """What makes each preset, by name; its docstring says the paper. Those of memory come last."""
    both = {**globals(), **vars(_memory_presets)}
    return {name: made for name, made in both.items() if _is_preset(name, made)}


def names() -> list[str]:
    """All presets."""
    return list(makers())


def preset(name: str) -> Algorithm:
    """The preset called `name`; raises `NotFound` listing them."""
    known = makers()
    if name not in known:
        raise NotFound(f"no preset {name!r}; known: {', '.join(known)}")
    return known[name]()


def _is_preset(name: str, made: object) -> bool:
    hints = getattr(made, "__annotations__", {})
    return not name.startswith("_") and hints == {"return": "Algorithm"}
