"""Rows of the result: one judged value each, said as a line, kept as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"


@dataclass(frozen=True)
class Row:
    """`baseline` and `value` were measured in the same run; where there is a baseline, `ratio` is
    what the goal judges, else `value`. Without a goal the row only informs."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    goal: float | None = None
    is_strict: bool = False  # less than the goal, not just up to it
    is_least: bool = False  # not less than the goal

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None

    @property
    def judged(self) -> float:
        return self.value if self.ratio is None else self.ratio

    @property
    def holds(self) -> bool:
        if self.goal is None:
            return True
        if math.isnan(self.judged):
            return False
        if self.is_least:
            return self.judged >= self.goal
        return self.judged < self.goal if self.is_strict else self.judged <= self.goal

    def line(self) -> str:
        """`name value goal holds|MISS`, and after that what the value was made of."""
        judged = f"{self.judged:.3g}" + ("x" if self.ratio is not None else self.unit)
        sign = ">=" if self.is_least else "<" if self.is_strict else "<="
        goal = "-" if self.goal is None else f"{sign}{self.goal:g}"
        verdict = "" if self.goal is None else ("holds" if self.holds else "MISS")
        of = f"  ({self.value:.3g} {self.unit} / {self.baseline:.3g})" if self.ratio else ""
        return f"{self.name:32} {judged:>10} {goal:>8} {verdict:5}{of}".rstrip()

    def to_json(self) -> dict[str, object]:
        kept = asdict(self) | {"ratio": self.ratio, "holds": self.holds}
        del kept["is_strict"], kept["is_least"]
        return {k: _rounded(v) for k, v in kept.items()}


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)  # JSON has no NaN
    return value


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def write(rows: Sequence[Row], about: dict[str, object]) -> Path:
    """build/bench.json holds these rows; rows of other names it had stay, if they have a value."""
    path = BUILD / "bench.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {row.name: row.to_json() for row in rows}
    kept = [row for row in old if row["name"] not in new and row["value"] is not None]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"about": about, "rows": [*kept, *new.values()]}, indent=1) + "\n")
    return path
