"""Snapshots: taken, rolled back to and deleted, with or without the memory."""

from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Steps
from pve_simulator.engine import power, stock
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.vm import Snapshot, Vm
from pve_simulator.engine.volumes import CAN_SNAPSHOT, Volume

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node

GIB = 1 << 30


def create(
    cluster: "Cluster", node: "Node", vmid: int, name: str, text: str, has_memory: bool
) -> Steps[None]:
    """Take a snapshot. Whether the name is free is seen only now, in the task."""
    lock = cluster.locks.config(node.name, vmid)
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        if vm.is_template:
            raise Failed("you can't take a snapshot if it's a template")
        vm.refuse_if_locked()
        if name in vm.snapshots:
            raise Failed(f"snapshot name '{name}' already used")
        disks = _disks(cluster, vm)
        cluster.write(vm)
        vm.config["lock"] = "snapshot"
        snapshot = Snapshot(
            name, _copied(vm), int(cluster.unix_time), vm.parent, text, state="prepare"
        )
        if has_memory and vm.run:
            snapshot.vmstate = yield from power.save_state(cluster, vm, name, None)
            snapshot.config |= power.running_as(cluster)
        vm.snapshots[name] = snapshot
    try:
        yield from _freeze_and_copy(cluster, vm, snapshot, disks)
    except Failed as error:
        yield from _give_up(cluster, vm, snapshot)
        # They add a line break, which an exit status shows as a space.
        raise Failed(f"{error.message}\n") from None
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        snapshot.state, vm.parent = None, name
        yield from _tell(cluster, vm, "snapshot_taken", name)
        vm.config.pop("lock", None)


def rollback(cluster: "Cluster", node: "Node", vmid: int, name: str, starts: bool) -> Steps[None]:
    """Back to the snapshot; a running VM is stopped, one with saved memory goes on from it."""
    lock = cluster.locks.config(node.name, vmid)
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        if vm.is_template:
            raise Failed("you can't rollback if vm is a template")
        snapshot = get(vm, name)
        if snapshot.state:
            raise Failed(
                f"unable to rollback to incomplete snapshot (snapstate = {snapshot.state})"
            )
        _refuse_unless_newest(cluster, vm, name)
        vm.refuse_if_locked()
        cluster.write(vm)
        if vm.run:
            yield cluster.wait("stop")
            yield from power.power_off(cluster, vm)
        vm.config["lock"] = "rollback"
    yield cluster.wait("rollback")
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        kept = {k: v for k, v in vm.config.items() if k == "description" or k.startswith("unused")}
        vm.config = {**kept, **snapshot.config}
        for key in power.running_as(cluster):
            vm.config.pop(key, None)
        vm.pending, vm.deletes, vm.parent = {}, {}, name
        if "vmgenid" in vm.config:
            vm.config["vmgenid"] = cluster.random_uuid()
        yield from _tell(cluster, vm, "rolled_back", name)
        if snapshot.vmstate:
            yield from power.boot(cluster, node, vm, snapshot.vmstate)
    if starts and not vm.run:
        yield from power.start(cluster, node, vmid)


def delete(cluster: "Cluster", node: "Node", vmid: int, name: str, is_forced: bool) -> Steps[None]:
    """Merge a snapshot away. Its children are its parent's from then on."""
    lock = cluster.locks.config(node.name, vmid)
    vm = cluster.vm_on(node.name, vmid)
    snapshot = get(vm, name)
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        vm.refuse_if_locked()
        if vm.is_template:
            raise Failed("you can't delete a snapshot if vm is a template")
        cluster.write(vm)
        vm.config["lock"], snapshot.state = "snapshot-delete", "delete"
    if snapshot.vmstate:
        yield from cluster.storages.free(snapshot.vmstate, vm.node)
    yield cluster.wait("snapshot_delete")
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        _forget(cluster, vm, snapshot)
        vm.config.pop("lock", None)


def get(vm: Vm, name: str) -> Snapshot:
    if name not in vm.snapshots:
        raise Failed(f"snapshot '{name}' does not exist")
    return vm.snapshots[name]


def _freeze_and_copy(
    cluster: "Cluster", vm: Vm, snapshot: Snapshot, disks: list[Volume]
) -> Steps[None]:
    if vm.run:
        if vm.has_agent and not snapshot.vmstate and not (vm.guest and vm.guest.is_agent_up()):
            # Is there an agent that could freeze the file systems? One that does not answer costs.
            yield cluster.wait("agent_wait")
        stock.refuse_savevm(cluster, vm)
    if snapshot.vmstate:
        yield cluster.wait("snapshot_ram_per_gib", vm.memory / GIB)
    yield cluster.wait("snapshot")
    for volume in disks:
        volume.snapshots.append(snapshot.name)


def _tell(cluster: "Cluster", vm: Vm, what: str, name: str) -> Steps[None]:
    """A guest with files of its own may have a method for what happens to its disks."""
    if hear := getattr(vm.guest, what, None):
        assert vm.guest is not None
        yield from cluster.with_guest(vm.guest, lambda: hear(name))


def _give_up(cluster: "Cluster", vm: Vm, snapshot: Snapshot) -> Steps[None]:
    if snapshot.vmstate:
        yield from cluster.storages.free(snapshot.vmstate, vm.node)
    _forget(cluster, vm, snapshot)
    vm.config.pop("lock", None)


def _forget(cluster: "Cluster", vm: Vm, snapshot: Snapshot) -> None:
    vm.snapshots.pop(snapshot.name, None)
    for other in vm.snapshots.values():
        if other.parent == snapshot.name:
            other.parent = snapshot.parent
    if vm.parent == snapshot.name:
        vm.parent = snapshot.parent
    for drive in vm.disks().values():
        volume = cluster.storages.volume(drive["file"], vm.node)
        if volume is not None and snapshot.name in volume.snapshots:
            volume.snapshots.remove(snapshot.name)


def _copied(vm: Vm) -> dict[str, object]:
    """A snapshot keeps all of the configuration but what belongs to the moment."""
    return {
        key: value
        for key, value in vm.config.items()
        if key not in ("lock", "digest", "vmstate", "description") and not key.startswith("unused")
    }


def _disks(cluster: "Cluster", vm: Vm) -> list[Volume]:
    """The VM's volumes, if every one of them can be snapshotted."""
    found = []
    for drive in vm.disks().values():
        volume = cluster.storages.volume(drive["file"], vm.node)
        storage = cluster.storages.find(drive["file"].split(":")[0])
        can = storage and (storage.type in CAN_SNAPSHOT or (volume and volume.format == "qcow2"))
        if volume is None or not can:
            raise Failed("snapshot feature is not available")
        found.append(volume)
    return found


def _refuse_unless_newest(cluster: "Cluster", vm: Vm, name: str) -> None:
    """ZFS can only go back to the last snapshot."""
    for drive in vm.disks().values():
        storage = cluster.storages.find(drive["file"].split(":")[0])
        volume = cluster.storages.volume(drive["file"], vm.node)
        if storage and storage.type == "zfspool" and volume and volume.snapshots[-1:] != [name]:
            raise Failed(f"can't rollback, '{name}' is not most recent snapshot on '{volume.id}'")
