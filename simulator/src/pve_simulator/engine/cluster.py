"""The cluster: everything there is, and the simulated clock. The rest of the engine works on it."""

import logging
import random
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import simpy

from pve_simulator.api import Failed, Steps
from pve_simulator.engine.faults import Faults
from pve_simulator.engine.locks import Locks
from pve_simulator.engine.node import Node
from pve_simulator.engine.stats import Stats
from pve_simulator.engine.storage import Storages
from pve_simulator.engine.tasks import Tasks
from pve_simulator.engine.vm import Vm
from pve_simulator.guests import Guest, Guests
from pve_simulator.latency import Latencies

log = logging.getLogger("pve_simulator")
T = TypeVar("T")


NEVER = 10.0**9


class PacedEnvironment(simpy.Environment):
    """Lets a process, and the ones it starts, go slower or faster than the latencies say."""

    def __init__(self) -> None:
        super().__init__()
        self._paces: dict[simpy.Process, float] = {}

    @property
    def pace(self) -> float:
        """Of the process that runs now."""
        active = self.active_process
        return self._paces.get(active, 1.0) if active is not None else 1.0

    def set_pace(self, process: simpy.Process, pace: float) -> None:
        self._paces[process] = pace

    def process(self, generator: Generator[simpy.Event, Any, Any]) -> simpy.Process:
        started = super().process(generator)
        if self.active_process in self._paces:
            self._paces[started] = self.pace
        return started


class Cluster:
    """`env.now` are seconds since the simulation began; `unix_time` is what a clock shows."""

    def __init__(self, latencies: Latencies, dice: random.Random, version: str) -> None:
        self.env = PacedEnvironment()
        self.dice = dice
        self.latencies = latencies
        self.version = version  # 8.4.21
        self.repoid = "2606ac850d46"
        self.name: str | None = None  # None: a single node that never joined a cluster
        self.config_version = 1  # of corosync.conf
        self.has_stock_qemu = False
        self.has_ssh = True  # between the nodes: without it nothing migrates
        self.began_at = time.time()
        self.nodes: dict[str, Node] = {}
        self.vms: dict[int, Vm] = {}
        self.mac_prefix = "BC:24:11"
        self.locks = Locks(self.env, lambda: latencies.exactly("cfs_lock_poll"))
        self.storages = Storages(self)
        self.tasks = Tasks(self)
        self.stats = Stats(self)
        self.faults = Faults(self)
        self.guests: Guests = Guests()
        self.access: Any = None  # users, tokens and rights: `pve_simulator.access`
        self.has_lost_quorum = False
        self.has_events = False  # the world file says itself when nodes die
        self.ha: dict[str, dict[str, Any]] = {}  # sid: state, group, comment
        # By VM, of a replay: at starts after this moment, the agent comes up within that span.
        self.agent_plans: dict[int, list[tuple[float, Any]]] = {}
        self.leases: dict[str, int] = {}  # MAC to address, of the simulated DHCP server
        self.crashes: list[str] = []
        self.offload: Callable[[Callable[[], Any]], Steps[Any]] = _at_once

    # -- time ----------------------------------------------------------------------------------

    @property
    def qemu_version(self) -> str:
        if self.has_stock_qemu:
            return "7.2.22"
        return "9.2.0" if self.version.startswith("8") else "10.0.2"

    @property
    def unix_time(self) -> float:
        return self.began_at + self.env.now

    def wait(self, latency: str, times: float = 1.0) -> simpy.Timeout:
        return self.env.timeout(self.latencies(latency, times) * self.env.pace)

    def agent_moment(self, vmid: int, boot_s: float) -> float:
        """When the agent of a VM that is started now comes up."""
        vm = self.vms.get(vmid)
        natural = NEVER if vm is not None and vm.is_empty else self.env.now + boot_s
        plans = [up for began, up in self.agent_plans.get(vmid, []) if began <= self.env.now]
        return float(plans[-1].choose(natural)) if plans else natural

    # -- looking up ----------------------------------------------------------------------------

    @property
    def is_quorate(self) -> bool:
        if self.has_lost_quorum:
            return False
        alive = sum(node.is_online for node in self.nodes.values())
        return len(self.nodes) < 2 or alive * 2 > len(self.nodes)

    def need_quorum(self) -> None:
        if not self.is_quorate:
            raise Failed("cluster not ready - no quorum?")

    def vm_on(self, node: str, vmid: int) -> Vm:
        """The VM, if it is on this node. A VM elsewhere is as missing as one nowhere."""
        vm = self.vms.get(vmid)
        if vm is None or vm.node != node:
            path = f"nodes/{node}/qemu-server/{vmid}.conf"
            raise Failed(f"Configuration file '{path}' does not exist")
        return vm

    def write(self, vm: Vm) -> None:
        """What is checked whenever a configuration file is written."""
        if not self.is_quorate:
            path = f"/etc/pve/nodes/{vm.node}/qemu-server/{vm.vmid}.conf"
            suffix = self.dice.randrange(100, 999)
            raise Failed(f"unable to open file '{path}.tmp.{suffix}' - Permission denied")

    def remove(self, vm: Vm) -> None:
        """The configuration file is gone, and with it all that was known of the VM."""
        self.vms.pop(vm.vmid, None)
        if self.access is not None:
            self.access.vm_removed(vm.vmid)

    def next_id(self) -> int:
        return next(number for number in range(100, 10**9) if number not in self.vms)

    def random_mac(self) -> str:
        return ":".join([self.mac_prefix, *(f"{self.dice.randrange(256):02X}" for _ in range(3))])

    def random_uuid(self) -> str:
        text = f"{self.dice.getrandbits(128):032x}"
        return "-".join([text[:8], text[8:12], "4" + text[13:16], "a" + text[17:20], text[20:]])

    # -- guests --------------------------------------------------------------------------------

    def guest_of(self, vm: Vm) -> Guest:
        """The guest of a VM; made at its first start, it lives as long as the VM."""
        if vm.guest is None:
            vm.guest = self.guests.make(self, vm)
        return vm.guest

    def with_guest(self, guest: Guest, work: Callable[[], T]) -> Steps[T]:
        """Ask a guest something: at once, or in a thread if it is slow."""
        if not guest.is_slow:
            return work()
        result: T = yield from self.offload(work)
        return result

    # -- what must not happen ------------------------------------------------------------------

    def crashed(self, trace: str) -> None:
        """The simulator itself has a fault. Kept, so that closing it fails the test."""
        log.error("the simulator has a fault:\n%s", trace)
        self.crashes.append(trace)


def _at_once(work: Callable[[], T]) -> Steps[T]:
    yield from ()
    return work()


__all__ = ["Cluster"]
