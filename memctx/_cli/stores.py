"""`memctx db`: the schema of a store."""

from __future__ import annotations

import sys

from memctx._cli.show import as_json


def upgrade(where: str, *, json: bool) -> None:
    """Upgrade a store and say from where to where."""
    from memctx.stores._where import located
    from memctx.stores.sql import upgrade as upgraded

    before, after = upgraded(where)
    shown = str(located(where))  # without a password
    if json:
        as_json({"store": shown, "before": before, "after": after})
    else:
        did = f"upgraded from schema {before} to {after}" if before != after else f"at schema {after}: nothing to do"
        sys.stdout.write(f"{shown}: {did}\n")
