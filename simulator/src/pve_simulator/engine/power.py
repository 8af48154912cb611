"""Start and stop. Both wait for the configuration's lock; both fail in the task."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Steps
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.vm import Run

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node


def start(cluster: "Cluster", node: "Node", vmid: int) -> Steps[None]:
    """Start a VM that is stopped and no template; its pending changes become true."""
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        if vm.is_template:
            raise Failed("you can't start a vm if it's a template")
        vm.refuse_if_locked()
        if vm.run:
            raise Failed(f"VM {vmid} already running")
        yield cluster.wait("start")
        guest = cluster.new_guest(vm)
        yield from _guest(cluster, guest.is_slow, guest.start)
        vm.run = Run(node.next_pid(), cluster.env.now, guest, dict(vm.config))


def stop(cluster: "Cluster", node: "Node", vmid: int) -> Steps[None]:
    """Cut the power. A VM that is stopped already is a success."""
    vm = cluster.vm_on(node.name, vmid)
    if vm.run is None:
        return
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm.refuse_if_locked()
        yield cluster.wait("stop")
        if run := vm.run:
            yield from _guest(cluster, run.guest.is_slow, lambda: run.guest.stop(is_forced=True))
        vm.run = None


def _guest(cluster: "Cluster", is_slow: bool, work: Callable[[], None]) -> Steps[None]:
    if is_slow:
        yield from cluster.offload(work)
    else:
        work()
