"""How long things take, in seconds by name, around which a seeded dice varies them."""

import random
from collections.abc import Mapping

REAL: dict[str, float] = {
    # Answers of the API itself.
    "read": 0.009,
    "write": 0.022,
    "fork": 0.025,  # a call that starts a task
    "login": 0.05,
    "auth_delay": 3.0,
    # Under the storage lock.
    "alloc": 0.15,
    "alloc.cloudinit": 0.1,
    "clone.linked": 0.25,
    "clone.full_per_gib": 2.0,  # not under the lock: only the allocation is
    "free": 0.05,
    # Tasks, beside their allocations.
    "clone": 0.1,
    "cfs_lock_poll": 1.0,  # shared storages: mkdir on the cluster file system, again each second
    "start": 0.7,
    "stop": 0.6,
    "shutdown": 3.0,
    "reset": 0.3,
    "suspend_per_gib": 2.0,
    "resume_per_gib": 1.0,
    "snapshot": 0.5,
    "snapshot_ram_per_gib": 2.0,
    "rollback": 0.6,
    "snapshot_delete": 0.3,
    "template": 0.2,
    "resize": 0.1,
    "destroy": 0.05,
    "config": 0.02,
    "migrate": 1.5,
    "download_per_gib": 8.0,
    # Guests and the cluster.
    "boot": 9.0,  # power on until the guest agent answers
    "agent": 0.03,
    "agent_wait": 3.0,  # how long a call waits for an agent that is not there
    "statd": 10.0,  # pvestatd's tick: what lists show is this old
    "membership": 3.0,  # until the others see that a node is gone or back
}

PROFILES: dict[str, dict[str, float]] = {
    "real": REAL,
    # What the project's goals are measured against.
    "measured": REAL
    | {
        "clone.linked": 0.9,
        "alloc.cloudinit": 0.4,
        "boot": 8.0,
    },
    # For tests that want answers, not waiting. The order of things stays.
    "fast": {name: seconds / 100 for name, seconds in REAL.items()}
    | {"auth_delay": 0.0, "statd": 0.2, "agent_wait": 0.15, "boot": 0.1, "membership": 0.05},
}


class Latencies:
    """Draws durations. `spread` 0.1 means: within ten percent."""

    def __init__(self, seconds: Mapping[str, float], spread: float, dice: random.Random) -> None:
        unknown = set(seconds) - set(REAL)
        if unknown:
            raise ValueError(f"no such latency: {', '.join(sorted(unknown))}")
        self._seconds = REAL | dict(seconds)
        self._spread = spread
        self._dice = dice

    def __call__(self, name: str, times: float = 1.0) -> float:
        drawn = 1 + self._dice.uniform(-self._spread, self._spread) if self._spread else 1.0
        return self._seconds[name] * times * drawn

    def exactly(self, name: str) -> float:
        """A limit or a period that no dice varies."""
        return self._seconds[name]

    def set(self, name: str, seconds: float) -> None:
        if name not in REAL:
            raise ValueError(f"no such latency: {name}")
        self._seconds[name] = seconds
