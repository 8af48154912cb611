"""Move a VM to another node: at once while it is stopped and its disks are shared."""

from typing import TYPE_CHECKING, Any

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Vm

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node

GIB = 1 << 30


def check(cluster: "Cluster", vm: Vm, target: str, is_online: bool) -> None:
    if target == vm.node:
        raise Invalid(target="target is local node.")
    if target not in cluster.nodes:
        raise Failed(f"no such cluster node '{target}'")
    vm.refuse_if_locked()
    if vm.run and not is_online:
        raise Failed("can't migrate running VM without --online")


def run(cluster: "Cluster", node: "Node", vmid: int, target: str, task: Task) -> Steps[None]:
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        if not cluster.nodes[target].is_alive or not cluster.has_ssh:
            task.log.append(f"ssh: connect to host {target}: Connection refused")
            raise Failed("migration aborted")
        vm.config["lock"] = "migrate"
        try:
            yield cluster.wait("migrate")
            yield from _move_disks(cluster, vm, target)
        finally:
            vm.config.pop("lock", None)
        vm.node = target


def preconditions(cluster: "Cluster", vm: Vm) -> dict[str, Any]:
    """What stands in the way, and which nodes are left."""
    local = [d for d in vm.drives().values() if ":" in d["file"] and not _is_shared(cluster, d)]
    return {
        "running": int(vm.is_running),
        "allowed_nodes": [name for name in cluster.nodes if name != vm.node],
        "not_allowed_nodes": {},
        "local_disks": [{"volid": drive["file"]} for drive in local],
        "local_resources": [],
        "mapped-resources": [],
    }


def _move_disks(cluster: "Cluster", vm: Vm, target: str) -> Steps[None]:
    storages = cluster.storages
    for drive in vm.drives().values():
        if ":" not in drive["file"] or _is_shared(cluster, drive):
            continue
        volume = storages.volume(drive["file"], vm.node)
        storage = storages.find(drive["file"].split(":")[0])
        if volume is None or storage is None:
            continue
        if volume.parent or not storage.is_on(target):
            raise Failed("migration aborted")
        yield cluster.wait("clone.full_per_gib", volume.size / GIB)
        storages.drop(volume.id, vm.node)
        storages.put(volume, target)


def _is_shared(cluster: "Cluster", drive: dict[str, str]) -> bool:
    storage = cluster.storages.find(drive["file"].split(":")[0])
    return storage is not None and storage.is_shared
