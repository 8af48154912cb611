"""The world file: the cluster that a simulator starts with. README.md describes every key.

An unknown key, a node or storage that is not there, a value that cannot be: `BadWorld`, which names
the entry.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pve_simulator import schema
from pve_simulator.access.sections import SECTIONS
from pve_simulator.building import build, latencies_of

__all__ = [
    "BadWorld",
    "NodeSpec",
    "StorageSpec",
    "VmSpec",
    "World",
    "build",
    "latencies_of",
    "load",
]

GIB = 1 << 30
SIZES = ("memory", "disk", "disk_used", "size", "used")  # in bytes, or with a unit: 512M, 64G
T = TypeVar("T")


class BadWorld(ValueError):
    """The world file cannot be: what is wrong, and where."""


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
    memory: int = 0  # exact, before memory_mib
    disk: int = 0  # of the root file system, before disk_gib
    disk_used: int = 0
    number: int = 0  # as corosync has it; 0: by the order of the file
    online: bool = True
    fingerprint: str = ""
    looks_at_s: float | None = None  # when pvestatd looks first; by dice otherwise


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
    size: int = 0  # exact, before size_gib
    used: int = 0
    enabled: bool = True


@dataclass
class VmSpec:
    vmid: int
    node: str
    config: dict[str, Any] = field(default_factory=dict)
    running: bool = False
    pool: str = ""
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    pending: dict[str, Any] = field(default_factory=dict)
    parent: str = ""  # the snapshot it is at; the last one otherwise
    uptime_s: float = 0  # of a running one
    agent: bool = True  # False: there is no guest on its disks, nor on those of its clones
    agent_after_s: float | None = None  # from now, of a running one; -1: never


@dataclass
class World:
    """All that a simulation starts from. Users, tokens, acl… stay as they are in the file."""

    version: str = "8.4.21"
    repoid: str = "2606ac850d46"
    cluster: str | None = None
    config_version: int = 1
    stock_qemu: bool = False
    ssh: bool = True
    nodes: list[NodeSpec] = field(default_factory=lambda: [NodeSpec("pve1")])
    storages: list[StorageSpec] = field(default_factory=lambda: [StorageSpec("local")])
    vms: list[VmSpec] = field(default_factory=list)
    access: dict[str, Any] = field(default_factory=dict)
    latencies: dict[str, Any] = field(default_factory=dict)  # profile, spread, NAME: seconds
    guests: dict[str, Any] = field(default_factory=dict)  # kind, and the options of that kind
    seed: int = 1
    ha: list[dict[str, Any]] = field(default_factory=list)  # sid, state, group, comment
    remembered: list[dict[str, Any]] = field(default_factory=list)  # vmid, and what lists showed
    tasks: list[dict[str, Any]] = field(default_factory=list)  # upid, exitstatus, endtime
    events: list[dict[str, Any]] = field(default_factory=list)  # at_s, and what happens
    replay: dict[str, Any] = field(default_factory=dict)  # asker, askers, entry

    @property
    def looks(self) -> dict[str, float]:
        return {n.name: n.looks_at_s for n in self.nodes if n.looks_at_s is not None}


# What GET …/config shows beside the configuration: copied along, it is passed over.
NOT_CONFIG = ("digest", "parent")
PLAIN = ("repoid", "seed", "guests", "ha", "remembered", "tasks", "events", "replay")
KEYS = ("version", "cluster", "stock_qemu", "ssh", "latencies", "nodes", "storages", "vms",
        "snapshots", *PLAIN, *SECTIONS)  # fmt: skip


def load(path: str | Path) -> World:
    """Read a world file."""
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    if not isinstance(raw, dict):
        raise BadWorld("a world file is a mapping of sections")
    _only(raw, KEYS, "the world file")
    world = World(
        **{name: raw[name] for name in PLAIN if raw.get(name) is not None},
        version=_version(raw.get("version", "8.4.21")),
        stock_qemu=bool(raw.get("stock_qemu")),
        ssh=bool(raw.get("ssh", True)),
        access={name: raw[name] for name in SECTIONS if name in raw},
    )
    _set_cluster(world, raw.get("cluster"))
    latencies = raw.get("latencies") or {}
    world.latencies = {"profile": latencies} if isinstance(latencies, str) else latencies
    if "nodes" in raw:
        world.nodes = [_make(NodeSpec, _named(row, "name"), "nodes") for row in raw["nodes"]]
    if "storages" in raw:
        world.storages = [_storage(row) for row in raw["storages"]]
    world.vms = [_vm(row) for row in raw.get("vms") or []]
    _add_snapshots(world, raw.get("snapshots") or [])
    _check(world)
    return world


def size_in_bytes(value: int | str) -> int:
    found = re.fullmatch(r"([\d.]+)\s*([KMGT]?)(i?B)?", str(value))
    if not found:
        raise BadWorld(f"{value!r} is no size; write bytes, or 512M, 64G, 1.5T")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))


def typed_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A VM's configuration as a file would be read: numbers and flags int, all else text."""
    known = schema.methods()["PUT", "/nodes/{node}/qemu/{vmid}/config"].properties
    typed: dict[str, Any] = {}
    for key, value in config.items():
        if value is None or key in NOT_CONFIG:
            continue
        value = int(value) if isinstance(value, bool) else value
        is_number = known.get(key, {}).get("type") in ("integer", "boolean")
        typed[key] = int(value) if is_number else str(value)
    return typed


def _version(value: Any) -> str:
    text = str(value)
    return {"8": "8.4.21", "8.4": "8.4.21", "9": "9.0.3", "9.0": "9.0.3"}.get(text, text)


def _set_cluster(world: World, value: Any) -> None:
    if isinstance(value, dict):
        _only(value, ("name", "config_version"), "cluster")
        world.config_version = int(value.get("config_version", 1))
        value = value.get("name")
    world.cluster = str(value) if value else None


def _named(row: Any, key: str) -> dict[str, Any]:
    return {key: row} if isinstance(row, str) else dict(row)


def _storage(row: Any) -> StorageSpec:
    row = _named(row, "id")
    for key in ("content", "nodes"):
        if isinstance(row.get(key), str):
            row[key] = re.split(r"[,\s]+", row[key].strip())
    if "path" in row:
        row["options"] = {**row.get("options", {}), "path": row.pop("path")}
    return _make(StorageSpec, row, "storages")


def _vm(row: Any) -> VmSpec:
    """`id` or `vmid`, `status: running` or `running: true`; name and template may stand outside."""
    row = dict(row)
    where = f"vms: {row.get('vmid', row.get('id'))}"
    row.setdefault("vmid", row.pop("id", None))
    status = row.pop("status", None)
    if status not in (None, "running", "stopped"):
        raise BadWorld(f"{where}: status is running or stopped, not {status!r}")
    row.setdefault("running", status == "running")
    config = dict(row.get("config") or {})
    if "name" in row:
        config["name"] = row.pop("name")
    if row.pop("template", False):
        config["template"] = 1
    row.setdefault("parent", config.get("parent"))
    row["config"] = typed_config(config)
    row["pending"] = typed_config(row.get("pending") or {})
    return _make(VmSpec, row, where)


def _add_snapshots(world: World, rows: list[dict[str, Any]]) -> None:
    """Snapshots may stand at their VM or in a section of their own, with its `vmid`."""
    by_id = {vm.vmid: vm for vm in world.vms}
    for row in rows:
        vmid = int(row.get("vmid", row.get("vm", 0)))
        if vmid not in by_id:
            raise BadWorld(f"snapshots: there is no VM {vmid}")
        by_id[vmid].snapshots.append({k: v for k, v in row.items() if k not in ("vmid", "vm")})


def _make(kind: type[T], row: Mapping[str, Any], where: str) -> T:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _only(row, tuple(fields), where)
    missing = [
        name
        for name, f in fields.items()
        if row.get(name) is None
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadWorld(f"{where}: an entry has no {', '.join(missing)}")
    given = {key: value for key, value in row.items() if value is not None}
    return kind(**given | {key: size_in_bytes(given[key]) for key in SIZES if key in given})


def _check(world: World) -> None:
    nodes = {node.name for node in world.nodes}
    storages = {storage.id for storage in world.storages}
    if len(world.nodes) > 1 and world.cluster is None:
        world.cluster = "lab"
    for storage in world.storages:
        for node in storage.nodes:
            if node not in nodes:
                raise BadWorld(f"storages: {storage.id}: there is no node {node!r}")
    for vm in world.vms:
        vm.vmid = int(vm.vmid)
        if vm.node not in nodes:
            raise BadWorld(f"vms: {vm.vmid}: there is no node {vm.node!r}")
        for value in vm.config.values():
            volume = re.match(r"([a-z][\w.-]*):(\d+/|vm-|base-)", str(value), re.IGNORECASE)
            if volume and volume[1] not in storages:
                raise BadWorld(f"vms: {vm.vmid}: there is no storage {volume[1]!r}")
    pools = {str(pool.get("id")) for pool in world.access.get("pools") or []}
    for vm in world.vms:
        if vm.pool and vm.pool not in pools:
            raise BadWorld(f"vms: {vm.vmid}: there is no pool {vm.pool!r}")


def _only(row: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = sorted(str(key) for key in set(row) - set(keys))
    if unknown:
        raise BadWorld(f"{where}: no such key: {', '.join(unknown)}; there are {', '.join(keys)}")
