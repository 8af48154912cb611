"""The world file: the cluster that a simulator starts with. First version of the loader."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pve_simulator import access
from pve_simulator.engine.cluster import Cluster
from pve_simulator.engine.node import Node
from pve_simulator.engine.properties import is_drive, parse_drive
from pve_simulator.engine.storage import Storage, adopt
from pve_simulator.engine.vm import Run, Snapshot, Vm
from pve_simulator.engine.volumes import Volume, parse_size
from pve_simulator.guests import Guests
from pve_simulator.latency import PROFILES, Latencies

GIB = 1 << 30


@dataclass
class NodeSpec:
    name: str
    address: str = ""
    cpus: int = 8
    memory_mib: int = 65536
    disk_gib: float = 250
    disk_used_gib: float = 20
    bridges: list[str] = field(default_factory=lambda: ["vmbr0"])
    uptime_s: int = 86400


@dataclass
class StorageSpec:
    id: str
    type: str = "dir"
    content: list[str] = field(default_factory=lambda: ["images", "iso", "snippets", "import"])
    shared: bool = False
    nodes: list[str] = field(default_factory=list)
    size_gib: float = 250
    used_gib: float = 20
    options: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)  # id, size, format, content, node


@dataclass
class VmSpec:
    vmid: int
    node: str
    config: dict[str, Any] = field(default_factory=dict)
    running: bool = False
    pool: str = ""
    snapshots: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class World:
    """All that a simulation starts from. Users, tokens, acl… stay as they are in the file."""

    version: str = "8.4.21"
    repoid: str = "2606ac850d46"
    cluster: str | None = None
    stock_qemu: bool = False
    nodes: list[NodeSpec] = field(default_factory=lambda: [NodeSpec("pve1")])
    storages: list[StorageSpec] = field(default_factory=lambda: [StorageSpec("local")])
    vms: list[VmSpec] = field(default_factory=list)
    access: dict[str, Any] = field(default_factory=dict)
    latencies: dict[str, Any] = field(default_factory=dict)  # profile, spread, NAME: seconds
    guests: dict[str, Any] = field(default_factory=dict)  # kind, and the options of that kind
    seed: int = 1


SECTIONS = ("users", "tokens", "acl", "roles", "groups", "pools", "realms")


def load(path: str | Path) -> World:
    """Read a world file."""
    raw = yaml.safe_load(Path(path).read_text()) or {}
    world = World(
        **{name: raw[name] for name in ("repoid", "cluster", "seed", "guests") if name in raw},
        version=str(raw.get("version", "8.4.21")),
        stock_qemu=bool(raw.get("stock_qemu")),
        access={name: raw[name] for name in SECTIONS if name in raw},
    )
    latencies = raw.get("latencies", {})
    world.latencies = {"profile": latencies} if isinstance(latencies, str) else latencies
    if "nodes" in raw:
        world.nodes = [NodeSpec(**node) for node in raw["nodes"]]
    if "storages" in raw:
        world.storages = [StorageSpec(**storage) for storage in raw["storages"]]
    world.vms = [VmSpec(**vm) for vm in raw.get("vms", [])]
    return world


def build(world: World, *, seed: int | None = None) -> Cluster:
    """A fresh cluster as the world says."""
    dice = random.Random(world.seed if seed is None else seed)
    cluster = Cluster(_latencies(world, dice), dice, world.version)
    cluster.repoid, cluster.name = world.repoid, world.cluster
    cluster.has_stock_qemu = world.stock_qemu
    options = dict(world.guests)
    cluster.guests = Guests(options.pop("kind", "plain"), options)
    for number, spec in enumerate(world.nodes, 1):
        _add_node(cluster, number, spec)
    for storage in world.storages:
        _add_storage(cluster, storage)
    cluster.access = access.load(cluster, world.access)
    for vm in world.vms:
        _add_vm(cluster, vm)
    for node in cluster.nodes.values():
        cluster.stats.look(node)
        cluster.stats.watch(node)
    return cluster


def _latencies(world: World, dice: random.Random) -> Latencies:
    chosen = dict(world.latencies)
    seconds = dict(PROFILES[chosen.pop("profile", "real")])
    spread = float(chosen.pop("spread", 0.1))
    return Latencies(seconds | {name: float(s) for name, s in chosen.items()}, spread, dice)


def _add_node(cluster: Cluster, number: int, spec: NodeSpec) -> None:
    node = Node(
        spec.name,
        number,
        spec.address or f"10.10.10.{number}",
        spec.cpus,
        spec.memory_mib << 20,
        int(spec.disk_gib * GIB),
        int(spec.disk_used_gib * GIB),
        list(spec.bridges),
        ":".join(f"{cluster.dice.randrange(256):02X}" for _ in range(32)),
        cluster,
    )
    node.booted_at = -float(spec.uptime_s)
    cluster.nodes[spec.name] = node


def _add_storage(cluster: Cluster, spec: StorageSpec) -> None:
    storage = Storage(
        spec.id,
        spec.type,
        list(spec.content),
        spec.shared,
        int(spec.size_gib * GIB),
        int(spec.used_gib * GIB),
        list(spec.nodes),
        options=dict(spec.options),
    )
    cluster.storages.add(storage)
    for row in spec.volumes:
        size = parse_size(str(row.get("size", "0"))) or 0
        volume = Volume(row["id"], size, row.get("format", "raw"), row.get("content", "images"))
        for node in [row["node"]] if "node" in row else [*cluster.nodes]:
            cluster.storages.put(volume, node)


def _add_vm(cluster: Cluster, spec: VmSpec) -> None:
    vm = Vm(spec.vmid, spec.node, dict(spec.config))
    cluster.vms[spec.vmid] = vm
    for row in spec.snapshots:
        vm.snapshots[row["name"]] = Snapshot(
            row["name"],
            dict(row.get("config", spec.config)),
            int(row.get("time", cluster.unix_time)),
            row.get("parent"),
            row.get("description", ""),
        )
    for key, value in spec.config.items():
        if is_drive(key):
            drive = parse_drive(str(value))
            if ":" in drive["file"]:
                adopt(
                    cluster.storages,
                    drive["file"],
                    parse_size(drive.get("size", "0")) or 0,
                    vm.node,
                )
    if spec.pool:
        cluster.access.add_vm_to_pool(vm.vmid, spec.pool)
    if spec.running:
        guest = cluster.guest_of(vm)
        guest.start(is_resumed=True)
        vm.run = Run(cluster.nodes[vm.node].next_pid(), cluster.env.now, dict(vm.config))
