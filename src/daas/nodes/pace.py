"""How many may clone onto a storage at once: learnt from those who did. Pure.

Proxmox gives up on a storage's lock after 10 s, and each clone takes it twice. So clones of one
storage are serial anyway: enough at once to keep it busy is right, more only wait in its lock."""

import math
from dataclasses import dataclass, replace

WAIT_S = 7.0  # that one may lose to the others inside: well below 10 s
GUESS_S = 2.0  # a clone, before one was measured: twice that of a quick storage, to be careful
MAX = 8  # should all of them ask for the lock in the same moment, the last still gets it
# The lock of a whole cluster is no queue: who waits tries once a second, ten times, and who is
# first is luck. Three may try without one in 2,000 missing all ten; each one more only where
# creates are so much longer, and ask for it so much less often (measured: see ADR 4).
POLLED, MAX_POLLED, POLLED_EACH_S = 3, 5, 2.2
LEARNS = 0.2  # weight of the newest measure
CREEPS = 0.05  # weight of one that says "longer alone": somebody was in its way, probably
FORGETS = 0.01  # of a slot, with each clone: how many were once too many
FLOOR_S = 0.1
SPARE = 1.5


@dataclass(frozen=True)
class Pace:
    slots: float = 5.0
    clone_s: float = GUESS_S  # from one that is done to the next
    alone_s: float | None = None  # from entering to leaving when nobody is in its way
    ceiling: float = MAX  # one less than were too many
    is_polled: bool = False  # its lock is one of the whole cluster

    @property
    def most(self) -> int:
        if not self.is_polled:
            return MAX
        return min(max(POLLED, 1 + int((self.alone_s or 0.0) / POLLED_EACH_S)), MAX_POLLED)

    @property
    def open(self) -> int:
        """How many may be inside."""
        return int(min(self.slots, self.most))

    def after_clone(self, took_s: float, inside: int, is_loaded: bool) -> "Pace":
        """One was made in `took_s` while `inside` were at work. Only with more waiting at the
        door (`is_loaded`) were there as many all the time, and one was done each took / inside."""
        alone_s = self._alone(took_s, is_loaded)
        if not is_loaded:
            return replace(self, alone_s=alone_s)
        weight = LEARNS if took_s / inside < self.clone_s else CREEPS
        clone_s = max(FLOOR_S, _nearer(self.clone_s, took_s / inside, weight))
        ceiling = min(self.ceiling + FORGETS, MAX)
        # Additive: one more for each round of clones.
        slots = min(self.slots + 1 / self.slots, ceiling, _of_use(clone_s, alone_s), self.most)
        if took_s - alone_s > 2 * clone_s:  # others were in its way: enough are inside
            slots = min(slots, 1 + WAIT_S // clone_s)
        return replace(self, slots=slots, clone_s=clone_s, alone_s=alone_s, ceiling=ceiling)

    def after_congestion(self) -> "Pace":
        """Somebody waited for the lock in vain: half as many, at once, and not soon again as
        many as that."""
        ceiling = max(1.0, float(self.open - 1))
        return replace(self, slots=max(1.0, self.open / 2), ceiling=ceiling)

    def _alone(self, took_s: float, is_loaded: bool) -> float:
        if self.alone_s is None:
            return took_s
        if took_s < self.alone_s:
            return _nearer(self.alone_s, took_s, LEARNS)
        return self.alone_s if is_loaded else _nearer(self.alone_s, took_s, CREEPS)


def _of_use(clone_s: float, alone_s: float) -> int:
    """As many as keep the lock busy, and half as many to spare: under load a run takes longer than
    it does alone, and so do the pauses in which it does not ask for the lock."""
    return math.ceil(SPARE * alone_s / clone_s) + 1


def _nearer(value: float, to: float, weight: float) -> float:
    return value + (to - value) * weight
