"""Destroy a VM with its disks."""

from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Steps
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Vm

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster


def check(vm: Vm) -> None:
    """What is refused before there is a task."""
    if vm.config.get("protection"):
        raise Failed(f"can't remove VM {vm.vmid} - protection mode enabled")


def run(
    cluster: "Cluster", vm: Vm, task: Task, purge: bool, unreferenced: bool, skips_lock: bool
) -> Steps[None]:
    with (yield from cluster.locks.config(vm.node, vm.vmid).hold(CONFIG_TIMEOUT_S)):
        cluster.vm_on(vm.node, vm.vmid)
        if not skips_lock:
            vm.refuse_if_locked()
        if vm.run:
            raise Failed(f"VM {vm.vmid} is running - destroy failed")
        yield cluster.wait("destroy")
        for drive in vm.drives().values():
            if ":" in drive["file"]:
                yield from cluster.storages.free(drive["file"], vm.node)
        cluster.remove(vm)
