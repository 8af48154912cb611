"""A node dies, and comes back; a VM is suddenly not there."""

import functools
from typing import TYPE_CHECKING

from pve_simulator.api import Steps
from pve_simulator.engine import power
from pve_simulator.engine.node import Node
from pve_simulator.engine.tasks import NODE_DIED, Task
from pve_simulator.engine.vm import Vm

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster


def kill(cluster: "Cluster", node: Node) -> None:
    """Power is cut. What was half done stays half done; the others see it seconds later."""
    node.is_alive = False
    for task in cluster.tasks:
        if task.node == node.name and task.is_running and task.process is not None:
            task.process.interrupt(NODE_DIED)
    for vm in cluster.vms.values():
        if vm.node == node.name and vm.run:
            cluster.env.process(power.power_off(cluster, vm))
    cluster.env.process(_notice(cluster, node))


def revive(cluster: "Cluster", node: Node) -> None:
    node.is_alive = True
    node.booted_at = cluster.env.now
    cluster.env.process(_notice(cluster, node))
    cluster.env.process(_start_guests(cluster, node))


def vanish(cluster: "Cluster", vm: Vm) -> None:
    """As if somebody had removed it behind the API's back."""
    for drive in vm.drives().values():
        if ":" in drive["file"]:
            cluster.storages.drop(drive["file"], vm.node)
    if vm.guest is not None:
        cluster.env.process(_discard(cluster, vm))
    cluster.remove(vm)


def _discard(cluster: "Cluster", vm: Vm) -> Steps[None]:
    guest = vm.guest
    assert guest is not None
    if vm.run:
        yield from power.power_off(cluster, vm)
    yield from cluster.with_guest(guest, guest.destroy)


def _notice(cluster: "Cluster", node: Node) -> Steps[None]:
    yield cluster.wait("membership")
    node.is_online = node.is_alive


def _start_guests(cluster: "Cluster", node: Node) -> Steps[None]:
    """What a node does once it has booted and there is a quorum."""
    while not (node.is_online and cluster.is_quorate):
        if not node.is_alive:
            return
        yield cluster.wait("membership")
    for vm in list(cluster.vms.values()):
        if vm.node == node.name and vm.config.get("onboot") and not vm.is_template:
            work = functools.partial(_start, cluster, node, vm.vmid)
            cluster.tasks.start(node, "qmstart", str(vm.vmid), "root@pam", work)


def _start(cluster: "Cluster", node: Node, vmid: int, task: Task) -> Steps[None]:
    yield from power.start(cluster, node, vmid)
