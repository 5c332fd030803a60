"""Row 1: violations over generated histories, every strategy and random stacks of them, three providers.

    python benchmarks/validity.py --cases 21000

Each case is one damaged history walked call by call; every view is checked as `tests/properties.py` says. Prints counts.
"""

from __future__ import annotations

import argparse
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from memctx.pipeline import Pipeline
from tests.properties import PROVIDERS, cases, holds


def walk(provider: str, count: int) -> tuple[int, int]:
    """(cases, views) that held; raises at the first that did not."""
    held = [0, 0]

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(cases(provider))
    def run(case: tuple[Any, list[Any], Pipeline]) -> None:
        held[1] += holds(provider, *case)
        held[0] += 1

    run()
    return held[0], held[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=21_000)
    each = -(-parser.parse_args().cases // len(PROVIDERS))
    for provider in PROVIDERS:
        count, views = walk(provider, each)
        print(f"{provider}: {count} cases, {views} views, 0 violations, 0 lost or altered unedited messages")


if __name__ == "__main__":
    main()
