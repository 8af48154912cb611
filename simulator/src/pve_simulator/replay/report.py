"""What a replay says: each difference, and how many exchanges match."""

import json
from typing import Any

from pve_simulator.replay.search import Outcome

LONGEST = 300


def report(outcome: Outcome) -> str:
    """The differences by exchange; the last line is the count."""
    lines: list[str] = []
    for exchange in outcome.exchanges:
        found = outcome.differences(exchange)
        if not found:
            continue
        asker = outcome.played.askers[exchange.n]
        lines.append(
            f"exchange {exchange.n} at {exchange.t:g} s: {exchange.method} {exchange.path} "
            f"(asked by {asker})"
        )
        lines += [
            f"  {one.where}\n    expected {_short(one.expected)}\n    got      {_short(one.got)}"
            for one in found
        ]
    lines.append(f"{outcome.matching}/{len(outcome.exchanges)} exchanges match")
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = repr(text) if "\n" in text else text
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
