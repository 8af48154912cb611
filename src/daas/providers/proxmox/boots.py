"""How long a template's copies take until their agent comes. A call to one that is not there yet
holds one of a node's three workers for 3 s: who asks at once, in a burst, stops all clones."""

import time
from collections.abc import Callable

EARLY = 0.85  # of the shortest boot seen: then somebody begins to ask


class Boots:
    """Safe to share between threads. A boot that was seen too late is corrected by the next."""

    def __init__(self, clock: Callable[[], float] = time.time):
        self._clock = clock
        self._shortest_s: dict[int, float] = {}  # by template

    def left_s(self, template: int | None, started_at: float | None) -> float:
        """Return how long there is no use in asking; 0 where nobody knows."""
        known = self._shortest_s.get(template or 0)
        if known is None or not started_at:
            return 0.0
        return max(0.0, started_at + EARLY * known - self._clock())

    def came(self, template: int | None, started_at: float | None) -> None:
        """The agent of a copy that was started then has just answered for the first time."""
        if template and started_at:
            took_s = max(0.0, self._clock() - started_at)
            self._shortest_s[template] = min(took_s, self._shortest_s.get(template, took_s))
