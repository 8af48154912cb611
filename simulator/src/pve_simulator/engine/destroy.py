"""Destroy a VM with its disks. A disk that cannot be removed stays, and the VM goes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Steps
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.properties import parse_drive
from pve_simulator.engine.stock import refuse_open_images
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Vm

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster


@dataclass(frozen=True)
class Order:
    purges: bool = False
    takes_unreferenced: bool = False
    skips_lock: bool = False


def check(cluster: "Cluster", vm: Vm, order: Order) -> None:
    """What is refused before there is a task, and again in it."""
    if vm.config.get("protection"):
        raise Failed(f"can't remove VM {vm.vmid} - protection mode enabled")
    if f"vm:{vm.vmid}" in cluster.ha and not order.purges:
        raise Failed(
            f"unable to remove VM {vm.vmid} - used in HA resources and purge parameter not set."
        )
    if vm.run:
        raise Failed(f"VM {vm.vmid} is running - destroy failed")


def run(cluster: "Cluster", vm: Vm, task: Task, order: Order) -> Steps[None]:
    with (yield from cluster.locks.config(vm.node, vm.vmid).hold(CONFIG_TIMEOUT_S)):
        cluster.vm_on(vm.node, vm.vmid)
        check(cluster, vm, order)
        if not order.skips_lock and vm.lock != "suspended":
            vm.refuse_if_locked()
        cluster.write(vm)
        yield cluster.wait("destroy")
        _refuse_used_base(cluster, vm)
        for volid in _own_volumes(cluster, vm):
            yield from _free(cluster, vm, volid, task)
        if order.takes_unreferenced:
            yield from _free_unreferenced(cluster, vm, task)
        if vm.guest is not None:
            yield from cluster.with_guest(vm.guest, vm.guest.destroy)
        cluster.ha.pop(f"vm:{vm.vmid}", None)
        cluster.remove(vm)


def _refuse_used_base(cluster: "Cluster", vm: Vm) -> None:
    if not vm.is_template:
        return
    for drive in vm.disks().values():
        volume = cluster.storages.volume(drive["file"], vm.node)
        if volume is None:
            continue
        # To find a base's clones, all images are looked at.
        refuse_open_images(cluster, cluster.storages.volumes(volume.storage, vm.node))
        if cluster.storages.children(volume, vm.node):
            raise Failed(f"base volume '{volume.id}' is still in use by linked cloned")


def _own_volumes(cluster: "Cluster", vm: Vm) -> list[str]:
    """Volumes that the configuration or a snapshot names, and that are this VM's."""
    named = [drive["file"] for drive in vm.drives().values()]
    named += [drive["file"] for drive in vm.drives(vm.pending).values()]
    named += [
        parse_drive(str(value))["file"]
        for key, value in vm.config.items()
        if key.startswith("unused") or key == "vmstate"
    ]
    named += [snapshot.vmstate for snapshot in vm.snapshots.values() if snapshot.vmstate]
    volumes = (cluster.storages.volume(volid, vm.node) for volid in named if ":" in volid)
    mine = [volume.id for volume in volumes if volume is not None and volume.vmid == vm.vmid]
    return list(dict.fromkeys(mine))


def _free(cluster: "Cluster", vm: Vm, volid: str, task: Task) -> Steps[None]:
    if cluster.faults.is_disk_left(task):
        task.warn(f"Could not remove disk '{volid}', check manually: got timeout")
        return
    try:
        yield from cluster.storages.free(volid, vm.node)
    except Failed as error:
        # Only said in the log: the task ends OK and the disk stays.
        task.log.append(f"Could not remove disk '{volid}', check manually: {error.message}")


def _free_unreferenced(cluster: "Cluster", vm: Vm, task: Task) -> Steps[None]:
    for storage in cluster.storages.on(vm.node):
        for volume in cluster.storages.volumes(storage.id, vm.node):
            if volume.vmid == vm.vmid and volume.content == "images":
                yield from _free(cluster, vm, volume.id, task)
