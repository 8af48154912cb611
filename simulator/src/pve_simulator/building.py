"""From a world to a cluster: everything in its place, and the events that will come."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pve_simulator import access
from pve_simulator.api import Steps
from pve_simulator.engine.cluster import NEVER, Cluster
from pve_simulator.engine.node import Node
from pve_simulator.engine.storage import Storage, adopt
from pve_simulator.engine.vm import Run, Snapshot, Vm
from pve_simulator.engine.volumes import Volume, parse_size
from pve_simulator.guests import Guests
from pve_simulator.latency import PROFILES, Latencies

if TYPE_CHECKING:
    from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

GIB = 1 << 30
REMEMBERED_ZERO = ("uptime", "template", "cpu", "mem", "disk", "maxcpu", "maxmem", "maxdisk",
                   "netin", "netout", "diskread", "diskwrite")  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """A plan that leaves no choice."""

    at_s: float

    def choose(self, natural: float) -> float:
        return self.at_s


def build(
    world: "World", *, seed: int | None = None, looks: Mapping[str, float] | None = None
) -> Cluster:
    """A fresh cluster as the world says. `looks`: when pvestatd looks first, by node."""
    dice = random.Random(world.seed if seed is None else seed)
    cluster = Cluster(latencies_of(world, dice), dice, world.version)
    cluster.repoid, cluster.name = world.repoid, world.cluster
    cluster.config_version = world.config_version
    cluster.has_stock_qemu, cluster.has_ssh = world.stock_qemu, world.ssh
    options = dict(world.guests)
    cluster.guests = Guests(options.pop("kind", "plain"), options)
    for number, node in enumerate(world.nodes, 1):
        _add_node(cluster, number, node)
    for storage in world.storages:
        _add_storage(cluster, storage)
    cluster.access = access.load(cluster, world.access)
    for vm in world.vms:
        _add_vm(cluster, vm)
    cluster.ha = {str(row["sid"]): dict(row) for row in world.ha}
    _remember(cluster, world)
    for row in world.tasks:
        cluster.tasks.adopt(str(row["upid"]), str(row.get("exitstatus", "OK")), row.get("endtime"))
    when = {**world.looks, **(looks or {})}
    for each in cluster.nodes.values():
        cluster.stats.look(each)
        cluster.stats.watch(each, when.get(each.name))
    if world.events:
        cluster.has_events = True
        cluster.env.process(_happen(cluster, sorted(world.events, key=lambda e: e["at_s"])))
    return cluster


def latencies_of(world: "World", dice: random.Random | None = None) -> Latencies:
    chosen = dict(world.latencies)
    seconds = dict(PROFILES[chosen.pop("profile", "real")])
    spread = float(chosen.pop("spread", 0.1))
    overridden = seconds | {name: float(s) for name, s in chosen.items()}
    return Latencies(overridden, spread, dice or random.Random())


def _add_node(cluster: Cluster, number: int, spec: "NodeSpec") -> None:
    node = Node(
        spec.name,
        spec.number or number,
        spec.address or f"10.10.10.{number}",
        spec.cpus,
        spec.memory or spec.memory_mib << 20,
        spec.disk or int(spec.disk_gib * GIB),
        spec.disk_used or int(spec.disk_used_gib * GIB),
        list(spec.bridges),
        spec.fingerprint or ":".join(f"{cluster.dice.randrange(256):02X}" for _ in range(32)),
        cluster,
    )
    node.booted_at = -float(spec.uptime_s)
    node.is_alive = node.is_online = spec.online
    cluster.nodes[spec.name] = node


def _add_storage(cluster: Cluster, spec: "StorageSpec") -> None:
    storage = Storage(
        spec.id,
        spec.type,
        list(spec.content),
        spec.shared,
        spec.size or int(spec.size_gib * GIB),
        spec.used or int(spec.used_gib * GIB),
        list(spec.nodes),
        is_enabled=spec.enabled,
        options=dict(spec.options),
    )
    cluster.storages.add(storage)
    for row in spec.volumes:
        size = parse_size(str(row.get("size", "0"))) or 0
        volume = Volume(row["id"], size, row.get("format", "raw"), row.get("content", "images"))
        for node in [row["node"]] if "node" in row else [*cluster.nodes]:
            cluster.storages.put(volume, node)


def _add_vm(cluster: Cluster, spec: "VmSpec") -> None:
    vm = Vm(spec.vmid, spec.node, dict(spec.config))
    vm.pending = dict(spec.pending)
    vm.is_empty = not spec.agent
    cluster.vms[spec.vmid] = vm
    for row in spec.snapshots:
        _add_snapshot(cluster, vm, row)
    vm.parent = spec.parent or vm.parent
    for value in vm.drives().values():
        if ":" in value["file"]:
            size = parse_size(value.get("size", "0")) or 0
            adopt(cluster.storages, value["file"], size, vm.node)
    if spec.pool:
        cluster.access.add_vm_to_pool(vm.vmid, spec.pool)
    if spec.running:
        _switch_on(cluster, vm, spec)


def _add_snapshot(cluster: Cluster, vm: Vm, row: Mapping[str, Any]) -> None:
    """A snapshot; the last one of the file is what the VM is at, unless it says otherwise."""
    name = str(row["name"])
    vm.snapshots[name] = Snapshot(
        name,
        dict(row.get("config", vm.config)),
        int(row.get("time", cluster.unix_time)),
        row.get("parent", vm.parent),
        row.get("description", ""),
    )
    vm.parent = name


def _switch_on(cluster: Cluster, vm: Vm, spec: "VmSpec") -> None:
    """One that runs already: its agent is up, unless it is said when it will be."""
    if spec.agent_after_s is not None:
        moment = Moment(spec.agent_after_s if spec.agent_after_s >= 0 else NEVER)
        cluster.agent_plans[vm.vmid] = [(0.0, moment)]
    cluster.guest_of(vm).start(is_resumed=True)
    if spec.agent_after_s is not None and spec.agent_after_s >= 0:
        del cluster.agent_plans[vm.vmid]
    began_at = cluster.env.now - spec.uptime_s
    vm.run = Run(cluster.nodes[vm.node].next_pid(), began_at, dict(vm.config))


def _remember(cluster: Cluster, world: "World") -> None:
    """pvestatd's figures of a VM outlive it for five minutes: its number's next VM shows them."""
    for row in world.remembered:
        seen = {"status": "stopped", **dict.fromkeys(REMEMBERED_ZERO, 0), **row}
        vmid = int(seen.pop("vmid"))
        cluster.stats.remember(vmid, seen)


def _happen(cluster: Cluster, events: list[dict[str, Any]]) -> Steps[None]:
    for event in events:
        yield cluster.env.timeout(max(float(event["at_s"]) - cluster.env.now, 0))
        if "quorum" in event:
            cluster.has_lost_quorum = event["quorum"] == "lost"
        if "node" in event:
            cluster.env.process(_turn(cluster, event))


def _turn(cluster: Cluster, event: Mapping[str, Any]) -> Steps[None]:
    node = cluster.nodes[event["node"]]
    node.is_alive = event["is"] == "alive"
    yield cluster.wait("membership")
    node.is_online = node.is_alive
