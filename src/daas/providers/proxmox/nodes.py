"""What a cluster has to offer: capacity and health of each node, who else is on it, and what can
be cloned where. One call, however many machines there are."""

import re

from daas.providers.base import NodeInfo
from daas.providers.proxmox import marks
from daas.providers.proxmox.cluster import MIB, Cluster, View, Vm
from daas.providers.proxmox.machine import Image, Json, Place

HOST_MIB = 1024  # what Proxmox itself needs, or a tenth of all
SESSION = re.compile(r"desktop-[a-z2-7]{6}")


def look(cluster: Cluster, place: Place, instance: str) -> list[NodeInfo]:
    """Return the nodes that we may use; those that do not answer with the reason."""
    view = cluster.look()
    images = cluster.images(view)
    wanted = place.nodes or sorted(view.nodes)
    return [_node(name, view, images, place, instance) for name in wanted]


def _node(name: str, view: View, images: list[Image], place: Place, instance: str) -> NodeInfo:
    row: Json | None = view.nodes.get(name)
    if row is None:
        return NodeInfo(name, False, why="the cluster has no node of that name")
    foreign = [vm for vm in view.vms if vm.node == name and _is_foreign(vm, place, instance)]
    busy = [vm for vm in foreign if vm.status != "stopped"]
    is_online = view.is_online(name)
    mib = int(row.get("maxmem") or 0) // MIB
    return NodeInfo(
        name=name,
        is_online=is_online,
        cpus=int(row.get("maxcpu") or 0),
        memory_mib=mib - max(HOST_MIB, mib // 10) if mib else 0,
        subnet=place.gateway if place.addresses else None,
        addresses=place.addresses,
        foreign_mib=sum(vm.memory_mib for vm in busy),
        foreign_cpus=sum(vm.cpus for vm in busy),
        foreign_numbers=frozenset(vm.number for vm in foreign),
        images={one.name: view.key(one) for one in images if name in view.reach(one)},
        why="" if is_online else "the cluster says that it is offline",
    )


def _is_foreign(vm: Vm, place: Place, instance: str) -> bool:
    """Is it somebody else's? One that is just being made has neither name nor mark yet: within
    our numbers it is not counted, for in its first seconds nobody can say."""
    if vm.tag:
        return vm.tag.instance != instance
    first, last = place.numbers
    is_image = vm.is_template or marks.is_image_of(vm.tags, instance)
    is_young = not vm.name or SESSION.fullmatch(vm.name) is not None or is_image
    is_nobodys = not vm.tags or marks.is_image_of(vm.tags, instance)
    return not (first <= vm.number <= last and is_young and is_nobodys)
