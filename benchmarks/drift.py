"""Drift: parameters of a made-up series recovered by least squares, and how soon a monitor notices a push. CPU, seconds.

    python -m benchmarks.drift [--seeds 20] [--runs 100] [--turns 80] [--json]

Runs begin at no drift, settle at a level, and get a reminder in 5 % of turns. The second table: a fitted band of level + 2 noise,
undisturbed turns above it, and turns until a push of one noise a turn is noticed.
"""

from __future__ import annotations

import argparse
import json
from statistics import fmean
from typing import Any

import numpy as np

from memctx.strategies._equilibrium import Equilibrium, fit

TRUE = [Equilibrium(rate, level=1.0, noise=0.1, relief=0.2) for rate in (0.1, 0.2, 0.3, 0.5)]


def series(
    true: Equilibrium, runs: int, turns: int, seed: int, push: float = 0.0
) -> tuple[list[list[float]], list[set[int]]]:
    """(drift by run and turn, turns after which a reminder was given). `push` is added each turn."""
    rng = np.random.default_rng(seed)
    values, reminded = list[list[float]](), list[set[int]]()
    for _ in range(runs):
        told = {int(turn) for turn in np.flatnonzero(rng.random(turns) < 0.05)} if not push else set()
        drift = [true.level if push else 0.0]
        for turn in range(turns - 1):
            pull, relief = true.rate * (drift[-1] - true.level), true.relief * (turn in told)
            drift.append(drift[-1] - pull - relief + push + float(rng.normal(0, true.noise)))
        values.append(drift)
        reminded.append(told)
    return values, reminded


def errors(true: Equilibrium, runs: int, turns: int, seed: int) -> dict[str, float]:
    """The relative error of each parameter."""
    found = fit(*series(true, runs, turns, seed))
    assert found is not None
    return {name: abs(getattr(found, name) / getattr(true, name) - 1) for name in ("rate", "level", "noise", "relief")}


def noticed(true: Equilibrium, seed: int) -> tuple[float, float]:
    """(share of undisturbed turns above the fitted band, turns until a push is above it, mean of 50 runs)."""
    found = fit(*series(true, 100, 80, seed))
    assert found is not None
    calm = [v for run in series(Equilibrium(true.rate, true.level, true.noise), 50, 80, seed + 1)[0] for v in run[20:]]
    pushed = series(true, 50, 40, seed + 2, push=true.noise)[0]
    until = [next((turn for turn, value in enumerate(run) if value > found.band), 40) for run in pushed]
    return fmean(value > found.band for value in calm), fmean(until)


def main() -> None:
    parser = argparse.ArgumentParser(description="drift of made-up series: fitted, and noticed")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--turns", type=int, default=80)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = list[dict[str, Any]]()
    for true in TRUE:
        found = [errors(true, args.runs, args.turns, seed) for seed in range(args.seeds)]
        calm, until = noticed(true, 1_000)
        worst = {name: round(max(each[name] for each in found), 4) for name in found[0]}
        rows.append({"rate": true.rate, "worst": worst, "calm_above": calm, "noticed_after": until})
    if args.json:
        print(json.dumps({"seeds": args.seeds, "runs": args.runs, "turns": args.turns, "rows": rows}))
        return
    print(f"worst relative error of {args.seeds} seeds, {args.runs} runs of {args.turns} turns")
    print("| rate | rate err | level err | noise err | relief err | calm turns above | push noticed after |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        shown = " | ".join(f"{value:.3f}" for value in row["worst"].values())
        print(f"| {row['rate']} | {shown} | {row['calm_above']:.3f} | {row['noticed_after']:.1f} turns |")


if __name__ == "__main__":
    main()
