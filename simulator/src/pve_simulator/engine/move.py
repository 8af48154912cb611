"""Move a disk to another storage, or into another format: a full copy, and the old one goes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.engine import drives
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.properties import is_cdrom, parse_drive, print_drive
from pve_simulator.engine.stock import refuse_open_images
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Vm

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node

GIB = 1 << 30


@dataclass(frozen=True)
class Order:
    disk: str
    storage: str
    format: str | None
    deletes: bool


def check(cluster: "Cluster", vm: Vm, order: Order) -> dict[str, str]:
    """The drive to be moved, if it can be."""
    vm.refuse_if_locked()
    if order.disk not in vm.config:
        raise Failed(f"disk '{order.disk}' does not exist")
    drive = parse_drive(str(vm.config[order.disk]))
    if is_cdrom(drive):
        raise Failed("you can't move a cdrom")
    volume = cluster.storages.volume(drive["file"], vm.node)
    if volume is None:
        raise Failed(f"volume '{drive['file']}' does not exist")
    if volume.storage == order.storage and order.format in (None, volume.format):
        raise Failed("you can't move to the same storage with same format")
    if "images" not in cluster.storages.usable(order.storage, vm.node).content:
        raise Invalid(storage=f"storage '{order.storage}' does not support vm images")
    if volume.snapshots and order.deletes:
        raise Failed("you can't move a disk with snapshots and delete the source")
    return drive


def run(cluster: "Cluster", node: "Node", vmid: int, order: Order, task: Task) -> Steps[None]:
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        drive = check(cluster, vm, order)
        cluster.write(vm)
        old = cluster.storages.volume(drive["file"], vm.node)
        storage = cluster.storages.usable(order.storage, vm.node)
        assert old is not None
        fmt = storage.format_for(order.format or old.format)
        try:
            refuse_open_images(cluster, [old])
            new = yield from cluster.storages.allocate(
                storage, vm.node, vmid, old.size, fmt, used=old.used
            )
        except Failed as error:
            raise Failed(f"storage migration failed: {error.message}") from error
        yield cluster.wait("clone.full_per_gib", old.size / GIB)
        vm.config[order.disk] = print_drive(drive | {"file": new.id})
        if not order.deletes:
            drives.add_unused(vm.config, old.id)
            return
        try:
            yield from cluster.storages.free(old.id, vm.node)
        except Failed as error:
            task.log.append(error.message)
