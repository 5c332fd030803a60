"""Acting: runs played through a pipeline, many at a time, each recorded token for token as the policy saw it.

An `Actor` is one run: a position of an environment, a history, a session that turns it into views, a tape of ids and a
recorder. Runs go on side by side; whenever all of them wait for the policy, one batch is sampled. A strategy that asks for
text (`Generate`) is answered by the same policy, and its turn is recorded under the strategy's module.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from memctx.effects import Generate
from memctx.errors import BudgetError, ConfigError
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.train.codec import Codec, Tape
from memctx.train.draws import mixed
from memctx.train.envs import Env, State
from memctx.train.models import Policy, Sampled
from memctx.train.rollouts import Recorder, Rollout, Turn

Layout = Literal["per_rewrite", "per_turn"]
Other = Callable[[Generate], Any]
AGENT, USER = "agent", "user"  # modules: of the player that is trained, and of all others
OPENING = 20  # tokens of a turn whose entropy says how sure it began


@dataclass(frozen=True, slots=True)
class Asked:
    """One who waits for the policy."""

    prompt: Sequence[int]
    tokens: int
    seed: int
    answer: asyncio.Future[Sampled]


@dataclass(slots=True)
class Batcher:
    """Samples for all who wait, once nobody is left who could still ask."""

    policy: Policy
    stop: frozenset[int]
    live: int = 0
    waiting: list[Asked] = field(default_factory=list)

    async def sample(self, prompt: Sequence[int], tokens: int, seed: int) -> Sampled:
        """The policy's answer; comes with everybody else's."""
        asked = Asked(prompt, tokens, seed, asyncio.get_running_loop().create_future())
        self.waiting.append(asked)
        self._flush()
        return await asked.answer

    def done(self) -> None:
        """One of them will not ask again."""
        self.live -= 1
        self._flush()

    def _flush(self) -> None:
        if not self.waiting or len(self.waiting) < self.live:
            return
        asked = [each for each in self.waiting if not each.answer.done()]  # else it was called off
        self.waiting = []
        for tokens in sorted({each.tokens for each in asked}):  # who may write little does not wait for others
            batch = sorted((each for each in asked if each.tokens == tokens), key=lambda each: each.seed)
            prompts, seeds = [each.prompt for each in batch], [each.seed for each in batch]
            found = self.policy.sample(prompts, tokens=tokens, stop=self.stop, seeds=seeds)
            for each, sampled in zip(batch, found, strict=True):
                each.answer.set_result(sampled)


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs have in common; `budget` is the pipeline's. `tokens`: the most of one turn, or `limits` by the module that asks;
    `turns`: the most of one run.

    `others`: by module, who answers in the policy's place, sync or async: a frozen summariser, or as "user" whoever else plays
    in the environment. Their words are context, never trained. `tool`: each answer is a call of the tool of that name and each
    observation its result; "": plain messages. `probe` (actor, turn): measures more after each turn. `roles` (ids) -> a `Role`
    of each, for algorithms that tell them apart.
    """

    env: Env
    pipeline: Pipeline
    codec: Codec
    tokens: int = 16
    turns: int = 8
    limits: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, Other] = field(default_factory=dict)
    layout: Layout = "per_rewrite"
    tool: str = ""
    probe: Callable[[Actor, Turn], None] | None = None
    roles: Callable[[Sequence[int]], Sequence[int]] | None = None

    def limit(self, module: str) -> int:
        """The most tokens of a turn of this module."""
        return self.limits.get(module, self.tokens)

    def actor(self, task: int, number: int, seed: int, version: int = 0) -> Actor:
        """Run `number` of task `task`; `seed` decides its draws."""
        return Actor(self, task, number, seed, version)


class Actor:
    """One run; `fork` gives another that goes on from here."""

    def __init__(self, stage: Stage, task: int, number: int, seed: int, version: int = 0) -> None:
        self.stage = stage
        self.task, self.seed = task, seed
        self.state: State = stage.env.start(task)
        self.messages: list[dict[str, Any]] = []  # the policy's
        self.tape = Tape(stage.codec)
        self.recorder = Recorder(f"{task}-{number}", str(task), version, fresh=stage.layout == "per_turn")
        self.plan: Plan | None = None
        self.full = False  # its context no longer fits into the budget
        self.asked = 0  # times the policy was asked: each has its own draw
        self.talk: list[dict[str, Any]] = []  # what the other players read and said

    def fork(self, number: int, seed: int) -> Actor:
        """The same position and history, with draws of its own from now on."""
        other = copy.copy(self)
        other.seed, other.messages, other.tape = seed, list(self.messages), self.tape.fork()
        other.talk = list(self.talk)
        other.recorder = self.recorder.fork(f"{self.task}-{number}")
        return other

    @property
    def over(self) -> bool:
        """Whether it takes no more turns: the environment has ended it, or its context no longer fits."""
        return self.full or bool(self.state.rewards)

    @property
    def left(self) -> int:
        """Turns that it may still take."""
        return self.stage.turns - sum(turn.module == AGENT for turn in self.recorder.rollout.turns)

    async def run(self, sampler: Batcher, turns: int | None = None) -> None:
        """Go on until it is over, or for `turns` turns, at most the stage's."""

        async def generate(effect: Generate) -> str:
            return await self._generate(sampler, effect)

        if not self.messages:
            await self._wait()
            rules, first = self.stage.env.rules, self.state.observation
            self.messages = [{"role": "system", "content": rules}, {"role": "user", "content": first}]
        session = self.stage.pipeline.session(generate=generate, timeout=math.inf)
        for _ in range(self.left if turns is None else min(turns, self.left)):
            if self.over:
                break
            try:
                view = await session.aview(self.messages, plan=self.plan, now=0.0)
            except BudgetError:  # it ends here, truncated
                self.full = True
                break
            self.plan = view.plan
            prompt = self.tape.prompt(view.messages)
            answer = await sampler.sample(prompt, self.stage.limit(AGENT), self._draw())
            await self._take(prompt, answer)

    def finish(self) -> Rollout:
        """The rollout: truncated where the environment did not end it."""
        ended = self.state.rewards
        outcome = {"task": float(ended[0]) if ended else 0.0}
        rollout = self.recorder.finish(outcome, "finished" if ended else "truncated")
        rollout.messages = self.messages
        return rollout

    async def _take(self, prompt: list[int], answer: Sampled) -> None:
        text = self.stage.codec.text(answer.ids)
        roles = None if self.stage.roles is None else self.stage.roles(answer.ids)
        facts = {"text": text, "anchor": self.state.observation}
        turn = self.recorder.turn(prompt, answer.ids, answer.logp, roles=roles, **facts)
        turn.probe["entropy"] = fmean(answer.entropy[:OPENING]) / math.log(self.stage.codec.size)
        self.state = self.state.after(text)
        await self._wait()
        turn.observation = self.state.observation
        said, heard = self._messages(text, turn.observation)
        self.tape.keep(said, answer.ids)
        self.messages += [said] if self.over else [said, heard]
        if self.stage.probe is not None:
            self.stage.probe(self, turn)

    async def _wait(self) -> None:
        """Let whoever else is to move answer, until it is the policy's turn again."""
        while self.state.player and not self.over:
            self.talk.append({"role": "user", "content": self.state.observation})
            asked = Generate(tuple(self.talk), self.stage.limit(USER), USER)
            said = await self._other(asked)
            self.talk.append({"role": "assistant", "content": said})
            self.state = self.state.after(said)

    def _messages(self, text: str, observation: str) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self.stage.tool:
            return {"role": "assistant", "content": text}, {"role": "user", "content": observation}
        function = {"name": self.stage.tool, "arguments": json.dumps({"text": text}, ensure_ascii=False)}
        call = {"id": f"call-{len(self.messages)}", "type": "function", "function": function}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        return said, {"role": "tool", "tool_call_id": call["id"], "content": observation}

    async def _generate(self, sampler: Batcher, effect: Generate) -> str:
        if effect.module in self.stage.others:
            return await self._other(effect)
        prompt = self.tape.prompt(effect.messages)
        tokens = min(effect.max_tokens, self.stage.limit(effect.module))
        answer = await sampler.sample(prompt, tokens, self._draw())
        text = self.stage.codec.text(answer.ids)
        self.recorder.turn(prompt, answer.ids, answer.logp, module=effect.module, text=text)
        return text

    async def _other(self, effect: Generate) -> str:
        other = self.stage.others.get(effect.module)
        if other is None:
            raise ConfigError(
                f"nobody plays {effect.module!r}: give the stage others={{{effect.module!r}: ...}}", field="others"
            )
        found = other(effect)
        return str(await found if inspect.isawaitable(found) else found)

    def _draw(self) -> int:
        self.asked += 1
        return mixed(self.seed, self.asked)


def play(actors: Sequence[Actor], policy: Policy, turns: int | None = None) -> None:
    """Let them all go on, sampled together. Call it outside an event loop."""
    asyncio.run(_play(actors, policy, turns))


async def _play(actors: Sequence[Actor], policy: Policy, turns: int | None) -> None:
    if not actors:
        return
    sampler = Batcher(policy, actors[0].stage.codec.stop, live=len(actors))

    async def one(actor: Actor) -> None:
        try:
            await actor.run(sampler, turns)
        finally:
            sampler.done()

    await asyncio.gather(*(one(actor) for actor in actors))
