"""What pvestatd knows: each node looks every ten seconds, and lists show its last look."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import simpy

from pve_simulator.api import Steps

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node
    from pve_simulator.engine.vm import Vm

Row = dict[str, Any]
FORGOTTEN_AFTER_S = 300


class Stats:
    """The last look of each node at itself, its VMs and its storages."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.nodes: dict[str, Row] = {}
        self.vms: dict[int, Row] = {}
        self._seen_at: dict[int, float] = {}
        self.storages: dict[tuple[str, str], Row] = {}

    def watch(self, node: "Node", first_s: float | None = None) -> simpy.Process:
        """Look every period, for the first time then; nodes do not start in the same moment."""
        period_s = self._cluster.latencies.exactly("statd")
        first_s = self._cluster.dice.uniform(0, period_s) if first_s is None else first_s
        return self._cluster.env.process(self._tick(node, first_s))

    def look(self, node: "Node") -> None:
        """What pvestatd does once a tick."""
        self._cluster.tasks.archive(node.name)
        self.nodes[node.name] = self.node_now(node)
        for vm in self._vms_of(node):
            self.remember(vm.vmid, self.vm_now(vm))
        storages = self._cluster.storages
        for storage in storages.on(node.name):
            used = storages.used(storage, node.name)
            self.storages[node.name, storage.id] = {"disk": used, "maxdisk": storage.total}

    def remember(self, vmid: int, row: Row) -> None:
        self.vms[vmid], self._seen_at[vmid] = row, self._cluster.env.now

    def last_seen(self, vmid: int) -> Row:
        """What lists show of a VM. The figures of one that is gone stay for a while, and are shown
        of the next one of its number."""
        age_s = self._cluster.env.now - self._seen_at.get(vmid, -FORGOTTEN_AFTER_S)
        return self.vms[vmid] if age_s < FORGOTTEN_AFTER_S else {"status": "unknown"}

    def node_now(self, node: "Node") -> Row:
        running = [vm for vm in self._vms_of(node) if vm.run]
        return {
            "cpu": round(0.02 + 0.03 * len(running) / node.cpus, 6),
            "maxcpu": node.cpus,
            "mem": self.memory_used(node),
            "maxmem": node.memory,
            "disk": node.disk_used,
            "maxdisk": node.disk,
            "uptime": node.uptime,
        }

    def memory_used(self, node: "Node") -> int:
        running = (vm for vm in self._vms_of(node) if vm.run)
        return min((2 << 30) + sum(self.vm_memory(vm) for vm in running), node.memory)

    def vm_memory(self, vm: "Vm") -> int:
        if vm.run is None:
            return 0
        age_s = self._cluster.env.now - vm.run.started_at
        return int(vm.memory * min(0.05 + age_s / 60, 0.6))

    def vm_now(self, vm: "Vm") -> Row:
        age_s = self._cluster.env.now - vm.run.started_at if vm.run else 0
        return {
            "name": vm.config.get("name", f"VM {vm.vmid}"),
            "status": "running" if vm.run else "stopped",
            "template": int(vm.is_template),
            "maxcpu": self._cpus(vm),
            "maxmem": vm.memory,
            "maxdisk": vm.disk_size,
            "uptime": int(age_s),
            "cpu": 0.02 if vm.run and age_s > 1 else 0,
            "mem": self.vm_memory(vm),
            "disk": 0,
            "netin": int(110 + age_s * 200) if vm.run else 0,
            "netout": int(age_s * 220) if vm.run else 0,
            "diskread": int(age_s * 4096) if vm.run else 0,
            "diskwrite": int(age_s * 1024) if vm.run else 0,
        }

    def _cpus(self, vm: "Vm") -> int | float:
        """No more than the node has, unless `vcpus` says so."""
        most = self._cluster.nodes[vm.node].cpus
        return vm.cpus if vm.config.get("vcpus") else min(vm.cpus, most)

    def _vms_of(self, node: "Node") -> Iterator["Vm"]:
        return (vm for vm in self._cluster.vms.values() if vm.node == node.name)

    def _tick(self, node: "Node", first_s: float) -> Steps[None]:
        period_s = self._cluster.latencies.exactly("statd")
        yield self._cluster.env.timeout(first_s)
        while True:
            if node.is_alive:
                self.look(node)
            yield self._cluster.env.timeout(period_s)
