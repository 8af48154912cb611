"""Power. Each waits for the configuration's lock, and fails, in the task, on what it then finds."""

import time
from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Steps
from pve_simulator.engine import stock
from pve_simulator.engine.config import apply_pending
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.properties import NET, parse_net
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Run, Vm

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node

SHUTDOWN_TIMEOUT_S = 60
VMSTATE_OVERHEAD = 500 << 20
GIB = 1 << 30


def start(cluster: "Cluster", node: "Node", vmid: int, skips_lock: bool = False) -> Steps[None]:
    """Start a VM that is stopped and no template; its pending changes become true.

    One that was hibernated goes on where it was.
    """
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        if vm.is_template:
            raise Failed("you can't start a vm if it's a template")
        if not skips_lock and vm.lock != "suspended":
            vm.refuse_if_locked()
        if vm.run:
            raise Failed(f"VM {vmid} already running")
        cluster.write(vm)
        yield from boot(cluster, node, vm)


def boot(cluster: "Cluster", node: "Node", vm: Vm, vmstate: str | None = None) -> Steps[None]:
    """Start the process; with saved memory if there is any. The caller holds the lock."""
    saved = vmstate or vm.config.get("vmstate")
    if not saved:
        yield from apply_pending(cluster, vm)
    yield cluster.wait("start")
    _check_devices(cluster, node, vm)
    if saved:
        yield cluster.wait("resume_per_gib", vm.memory / GIB)
    guest = cluster.guest_of(vm)
    yield from cluster.with_guest(guest, lambda: guest.start(is_resumed=bool(saved)))
    vm.run = Run(node.next_pid(), cluster.env.now, dict(vm.config))
    if saved and not vmstate:
        yield from cluster.storages.free(str(saved), vm.node)
        _forget_hibernation(vm)


def stop(cluster: "Cluster", node: "Node", vmid: int, task: Task, overrules: bool) -> Steps[None]:
    """Cut the power. A VM that is stopped already is a success, its lock or not."""
    if overrules:
        for other in cluster.tasks:
            if other.is_running and other.type == "qmshutdown" and other.id == str(vmid):
                cluster.tasks.stop(other)
                task.log.append(f"overruled qmshutdown tasks: {other.upid}")
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = _present(cluster, node, vmid)
        if vm.run is None:
            return
        vm.refuse_if_locked()
        yield cluster.wait("stop")
        yield from power_off(cluster, vm)


def shutdown(
    cluster: "Cluster", node: "Node", vmid: int, task: Task, timeout_s: int | None, is_forced: bool
) -> Steps[None]:
    """Ask the guest to end. One that has not booted yet does not hear it."""
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = _present(cluster, node, vmid)
        if vm.run is None:
            return
        vm.refuse_if_locked()
        yield from _ask_to_end(cluster, vm, task, timeout_s, is_forced)


def reboot(
    cluster: "Cluster", node: "Node", vmid: int, task: Task, timeout_s: int | None
) -> Steps[None]:
    """Shut down and start again, with the pending changes."""
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = _present(cluster, node, vmid)
        if vm.run is None:
            return
        vm.refuse_if_locked()
        yield from _ask_to_end(cluster, vm, task, timeout_s, False)
    yield from start(cluster, node, vmid)


def reset(cluster: "Cluster", node: "Node", vmid: int) -> Steps[None]:
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        vm.refuse_if_locked()
        yield cluster.wait("reset")
        if vm.run and vm.guest:
            guest = vm.guest
            yield from cluster.with_guest(guest, lambda: guest.start(is_resumed=False))


def pause(cluster: "Cluster", node: "Node", vmid: int) -> Steps[None]:
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        vm.refuse_if_locked()
        if vm.run:
            vm.run.status = "paused"


def resume(cluster: "Cluster", node: "Node", vmid: int) -> Steps[None]:
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        vm.refuse_if_locked()
        if vm.run:
            vm.run.status = "running"


def hibernate(cluster: "Cluster", node: "Node", vmid: int, storage_id: str | None) -> Steps[None]:
    """Save the memory to a volume and stop. The configuration stays locked: `suspended`."""
    lock = cluster.locks.config(node.name, vmid)
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        vm.refuse_if_locked()
        cluster.write(vm)
        vm.config["lock"] = "suspending"
        date = time.strftime("%Y-%m-%d", time.gmtime(cluster.unix_time))
        volid = yield from save_state(cluster, vm, f"suspend-{date}", storage_id)
        vm.config |= {"vmstate": volid, **running_as(cluster)}
    try:
        stock.refuse_savevm(cluster, vm)
        yield cluster.wait("suspend_per_gib", vm.memory / GIB)
    except Failed:
        # The lock stays, to say that something went wrong.
        yield from cluster.storages.free(volid, vm.node)
        for key in ("vmstate", "runningmachine", "runningcpu"):
            vm.config.pop(key, None)
        raise
    with (yield from lock.hold(CONFIG_TIMEOUT_S)):
        yield from power_off(cluster, vm, is_saved=True)
        vm.config["lock"] = "suspended"


def power_off(cluster: "Cluster", vm: Vm, *, is_saved: bool = False) -> Steps[None]:
    """The process ends. The caller has waited for it."""
    guest = vm.guest
    if vm.run and guest:
        yield from cluster.with_guest(guest, lambda: guest.stop(is_saved=is_saved))
    vm.run = None
    if not is_saved:
        yield from apply_pending(cluster, vm)


def running_as(cluster: "Cluster") -> dict[str, str]:
    """What is kept with a saved memory: it fits the same machine and processor only."""
    version = ".".join(cluster.qemu_version.split(".")[:2])
    suffix = "" if cluster.has_stock_qemu else "+pve0"
    return {
        "runningmachine": f"pc-i440fx-{version}{suffix}",
        "runningcpu": "kvm64,enforce,+kvm_pv_eoi,+kvm_pv_unhalt,+lahf_lm,+sep",
    }


def save_state(cluster: "Cluster", vm: Vm, name: str, storage_id: str | None) -> Steps[str]:
    """A volume for the memory, on the storage for states or on the first that fits."""
    storage = cluster.storages.usable(storage_id or state_storage(cluster, vm), vm.node)
    volume = yield from cluster.storages.allocate(
        storage,
        vm.node,
        vm.vmid,
        2 * vm.memory + VMSTATE_OVERHEAD,
        "raw",
        name=f"vm-{vm.vmid}-state-{name}",
    )
    return volume.id


def state_storage(cluster: "Cluster", vm: Vm) -> str:
    """Where memory is saved to when nobody says: a shared storage of the VM's, else a local one."""
    if named := vm.config.get("vmstatestorage"):
        return str(named)
    used = [drive["file"].split(":")[0] for drive in vm.disks().values() if ":" in drive["file"]]
    shared = [name for name in used if cluster.storages.get(name).is_shared]
    return next(iter(shared or used), "local")


def _ask_to_end(
    cluster: "Cluster", vm: Vm, task: Task, timeout_s: int | None, is_forced: bool
) -> Steps[None]:
    limit_s = SHUTDOWN_TIMEOUT_S if timeout_s is None else timeout_s
    needed_s = cluster.latencies("shutdown") * cluster.env.pace if _hears(vm) else float("inf")
    if needed_s <= limit_s:
        yield cluster.env.timeout(needed_s)
    else:
        yield cluster.env.timeout(limit_s)
        if not is_forced:
            raise Failed("VM quit/powerdown failed - got timeout")
        task.log.append("VM still running - terminating now with SIGTERM")
        yield cluster.wait("stop")
    yield from power_off(cluster, vm)


def _hears(vm: Vm) -> bool:
    return vm.guest is not None and vm.guest.is_agent_up()


def _forget_hibernation(vm: Vm) -> None:
    for key in ("lock", "vmstate", "runningmachine", "runningcpu"):
        vm.config.pop(key, None)


def _present(cluster: "Cluster", node: "Node", vmid: int) -> Vm:
    vm = cluster.vms.get(vmid)
    if vm is None or vm.node != node.name:
        raise Failed(f"unable to find configuration file for VM {vmid} on node '{node.name}'")
    return vm


def _check_devices(cluster: "Cluster", node: "Node", vm: Vm) -> None:
    """QEMU does not start when a device cannot be made."""
    for key, value in vm.config.items():
        bridge = parse_net(str(value)).get("bridge") if NET.fullmatch(key) else None
        if bridge and bridge not in node.bridges:
            raise Failed("start failed: QEMU exited with code 1")
    for drive in vm.drives().values():
        volid = drive["file"]
        if ":" in volid and cluster.storages.volume(volid, vm.node) is None:
            raise Failed(f"volume '{volid}' does not exist")
