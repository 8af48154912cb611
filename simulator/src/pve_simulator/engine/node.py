"""One host of the cluster."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster

PVEDAEMON_WORKERS = 3


@dataclass
class Node:
    """`is_alive`: it answers. `is_online`: what the others believe, some seconds later."""

    name: str
    number: int
    address: str
    cpus: int
    memory: int  # bytes
    disk: int
    disk_used: int
    bridges: list[str]
    fingerprint: str
    cluster: "Cluster"
    workers: simpy.Resource = field(init=False)
    is_alive: bool = True
    is_online: bool = True
    booted_at: float = 0.0  # seconds of the simulation; may be before its start
    ended_at: float | None = None
    _pids: int = 0

    def __post_init__(self) -> None:
        self.workers = simpy.Resource(self.cluster.env, PVEDAEMON_WORKERS)
        self._pids = self.cluster.dice.randrange(0x1000, 0x2000)

    @property
    def uptime(self) -> int:
        return int(self.cluster.env.now - self.booted_at)

    def next_pid(self) -> int:
        self._pids += self.cluster.dice.randrange(1, 5)
        return self._pids

    def pstart(self) -> int:
        """When a process that starts now started, in hundredths of a second since boot."""
        return int((self.cluster.env.now - self.booted_at) * 100)
