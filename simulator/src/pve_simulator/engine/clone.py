"""Clone: the checks are made twice, before the task and in it; only the second time with locks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import simpy

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.engine.properties import (
    NET,
    is_cdrom,
    is_cloudinit,
    is_drive,
    parse,
    parse_drive,
    parse_net,
    print_drive,
    print_net,
)
from pve_simulator.engine.stock import refuse_open_images
from pve_simulator.engine.storage import CLOUDINIT_SIZE
from pve_simulator.engine.tasks import NODE_DIED, Task
from pve_simulator.engine.vm import Config, Vm
from pve_simulator.engine.volumes import Volume, print_size

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node

TARGET_TIMEOUT_S = 1
NOT_COPIED = {"parent", "snaptime", "vmstate", "snapstate", "runningcpu", "runningmachine", "lock"}


@dataclass(frozen=True)
class CloneRequest:
    vmid: int
    newid: int
    target: str | None = None
    is_full: int | None = None
    storage: str | None = None
    format: str | None = None
    name: str | None = None
    description: str | None = None
    snapname: str | None = None
    pool: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a checked request comes to."""

    request: CloneRequest
    source: Vm
    config: Config  # of the clone, without its disks
    drives: dict[str, dict[str, str]]
    is_full: bool
    was_running: bool
    target: str


def check(cluster: "Cluster", node: "Node", request: CloneRequest) -> Plan:
    """Refuse what Proxmox VE refuses before there is a task."""
    if not _is_here(cluster, node.name, request.vmid):
        raise Failed(
            f"unable to find configuration file for VM {request.vmid} on node '{node.name}'"
        )
    if request.pool:
        cluster.access.check_pool_exists(request.pool)
    target = request.target or node.name
    if target not in cluster.nodes:
        raise Failed(f"no such cluster node '{target}'")
    _check_storage(cluster, node.name, target, request.storage)
    cluster.need_quorum()
    return _plan(cluster, node.name, target, request)


def run(cluster: "Cluster", node: "Node", plan: Plan, task: Task) -> Steps[None]:
    """Under the source's lock (shared while it is stopped) and the target's own."""
    locks, request = cluster.locks, plan.request
    source_lock = locks.config(node.name, request.vmid)
    target_lock = locks.config(node.name, request.newid)
    # A stopped source is only read: its clones run side by side.
    held = source_lock.hold(TARGET_TIMEOUT_S, is_shared=not plan.was_running)
    with (yield from held), (yield from target_lock.hold(TARGET_TIMEOUT_S)):
        yield from _copy(cluster, node, check(cluster, node, request), task)


def _copy(cluster: "Cluster", node: "Node", plan: Plan, task: Task) -> Steps[None]:
    new = Vm(plan.request.newid, node.name, {"lock": "clone"})
    new.is_empty = plan.source.is_empty
    cluster.vms[new.vmid] = new
    made: list[Volume] = []
    config = dict(plan.config)
    try:
        yield cluster.wait("clone")
        for key, drive in plan.drives.items():
            volume = yield from _copy_drive(cluster, plan, key, drive, made)
            config[key] = print_drive({**drive, "file": volume.id, "size": print_size(volume.size)})
            new.config = config | {"lock": "clone"}
    except Exception as error:
        if isinstance(error, simpy.Interrupt) and error.cause == NODE_DIED:
            raise  # nobody is left to clean up
        yield from _undo(cluster, new, made)
        if isinstance(error, Failed):
            raise Failed(f"clone failed: {error.message}") from error
        raise
    new.config = config
    new.node = plan.target
    if plan.request.pool:
        cluster.access.add_vm_to_pool(new.vmid, plan.request.pool)


def _copy_drive(
    cluster: "Cluster", plan: Plan, key: str, drive: dict[str, str], made: list[Volume]
) -> Steps[Volume]:
    storages, newid, node = cluster.storages, plan.request.newid, plan.source.node
    base = storages.volume(drive["file"], node)
    storage = storages.usable(plan.request.storage or drive["file"].split(":")[0], node)
    if is_cloudinit(drive):
        fmt = storage.format_for(plan.request.format or (base.format if base else None))
        volume = yield from storages.allocate(
            storage, node, newid, CLOUDINIT_SIZE, fmt, name=f"vm-{newid}-cloudinit"
        )
        made.append(volume)
        return volume
    if base is None:
        raise Failed(f"volume '{drive['file']}' does not exist")
    if not plan.is_full:
        made.append((yield from storages.link(base, node, newid)))
        return made[-1]
    refuse_open_images(cluster, [base])
    fmt = storage.format_for(plan.request.format or base.format)
    made.append(
        (yield from storages.allocate(storage, node, newid, base.size, fmt, used=base.used))
    )
    # The copying itself is done without the storage's lock.
    yield cluster.wait("clone.full_per_gib", base.size / (1 << 30))
    return made[-1]


def _undo(cluster: "Cluster", new: Vm, made: list[Volume]) -> Steps[None]:
    yield cluster.env.timeout(1)
    for volume in made:
        yield from cluster.storages.free(volume.id, new.node)
    cluster.remove(new)


def _plan(cluster: "Cluster", node: str, target: str, request: CloneRequest) -> Plan:
    source = cluster.vm_on(node, request.vmid)
    source.refuse_if_locked()
    old = _config_of(source, request.snapname)
    is_full = bool(request.is_full) if request.is_full is not None else not source.is_template
    for name in ("storage", "format"):
        if getattr(request, name) and not is_full:
            raise Failed(f"parameter '{name}' not allowed for linked clones")
    if target != node and not _is_all_shared(cluster, source, old, request.storage):
        raise Failed(f"can't clone VM to node '{target}' (VM uses local storage)")
    if request.newid in cluster.vms:
        raise Failed(f"unable to create VM {request.newid}: config file already exists")
    config, drives = _divide(cluster, source, old, is_full, request.snapname)
    config["name"] = request.name or f"Copy-of-VM-{old.get('name', request.vmid)}"
    if request.description:
        config["description"] = request.description
    return Plan(request, source, config, drives, is_full, source.is_running, target)


def _divide(
    cluster: "Cluster", source: Vm, old: Config, is_full: bool, snapname: str | None
) -> tuple[Config, dict[str, dict[str, str]]]:
    """The part of a configuration that is copied as it is, and the drives that are cloned."""
    config: Config = {}
    drives: dict[str, dict[str, str]] = {}
    for key in sorted(old):
        if key in NOT_COPIED or key.startswith("unused") or key == "template":
            continue
        value = old[key]
        if NET.fullmatch(key):
            value = print_net(parse_net(str(value)) | {"macaddr": cluster.random_mac()})
        elif is_drive(key):
            drive = parse_drive(str(value))
            if is_cloudinit(drive) or not is_cdrom(drive):
                _check_feature(cluster, source, key, drive, is_full, snapname)
                drives[key] = drive
                continue
        config[key] = value
    smbios = parse(str(config.get("smbios1", ""))) | {"uuid": cluster.random_uuid()}
    config["smbios1"] = ",".join(f"{k}={v}" for k, v in smbios.items())
    if config.get("vmgenid"):
        config["vmgenid"] = cluster.random_uuid()
    return config, drives


def _check_feature(
    cluster: "Cluster",
    source: Vm,
    key: str,
    drive: dict[str, str],
    is_full: bool,
    snapname: str | None,
) -> None:
    """A linked clone needs a base volume on a storage that can link."""
    if is_full or is_cloudinit(drive):
        return
    storage = cluster.storages.get(drive["file"].split(":")[0])
    volume = cluster.storages.volume(drive["file"], source.node)
    if volume is None or not volume.is_base or not storage.can_link:
        of = " a snapshot of" if snapname else ""
        raise Failed(f"Linked clone feature is not supported for{of} '{drive['file']}' ({key})")


def _config_of(source: Vm, snapname: str | None) -> Config:
    if snapname is None:
        return source.config
    if snapname not in source.snapshots:
        raise Failed(f"snapshot '{snapname}' does not exist")
    snapshot = source.snapshots[snapname]
    text = {"description": snapshot.description} if snapshot.description else {}
    return {**snapshot.config, **text}


def _check_storage(cluster: "Cluster", node: str, target: str, storage_id: str | None) -> None:
    if not storage_id:
        return
    storage = cluster.storages.usable(storage_id, node)
    if "images" not in storage.content:
        raise Invalid(storage=f"storage '{storage_id}' does not support vm images")
    if target != node:
        cluster.storages.usable(storage_id, target)
        if not storage.is_shared:
            raise Failed(f"can't clone to non-shared storage '{storage_id}'")


def _is_all_shared(cluster: "Cluster", source: Vm, config: Config, storage: str | None) -> bool:
    used = {
        storage if storage and not is_cdrom(drive) else drive["file"].split(":")[0]
        for drive in source.drives(config).values()
        if ":" in drive["file"]
    }
    return all(cluster.storages.get(name).is_shared for name in used if name)


def _is_here(cluster: "Cluster", node: str, vmid: int) -> bool:
    return vmid in cluster.vms and cluster.vms[vmid].node == node
