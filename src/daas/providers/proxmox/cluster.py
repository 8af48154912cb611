"""All machines, nodes and storages of a cluster in one call, and what can be cloned where. Lists
are up to 10 s old in names and states; tags, locks and which machines there are, are not."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from daas.errors import NotYet, TemplateMissing, Unreachable
from daas.providers.base import Tag
from daas.providers.proxmox import machine, marks
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.errors import RETRY_S, Absent
from daas.providers.proxmox.machine import Image, Json

MIB = 2**20
KNOWN_S = 600.0  # a template does not change; that its disk is moved is all but unheard of


@dataclass(frozen=True)
class Vm:
    """One line of the list."""

    number: int
    node: str
    name: str  # in its first seconds "", or of the one before it that had the number
    status: str  # running, stopped, or unknown in its first seconds and on a dead node
    tags: str
    lock: str
    is_template: bool
    cpus: int
    memory_mib: int
    kind: str  # qemu, lxc

    @property
    def path(self) -> str:
        return f"nodes/{self.node}/qemu/{self.number}"

    def is_same(self, other: "Vm") -> bool:
        mine = (self.number, self.node, self.name, self.tags)
        return mine == (other.number, other.node, other.name, other.tags)

    @property
    def tag(self) -> Tag | None:
        mark = marks.of(self.tags)
        return mark.tag if mark else None


@dataclass(frozen=True)
class View:
    """The cluster at one moment."""

    vms: tuple[Vm, ...]
    nodes: Mapping[str, Json]
    shared: Mapping[str, frozenset[str]]  # storage: the nodes that reach it

    def at(self, number: int) -> Vm | None:
        return next((vm for vm in self.vms if vm.number == number), None)

    def is_online(self, node: str) -> bool:
        return self.nodes.get(node, {}).get("status") == "online"

    def reach(self, image: Image) -> frozenset[str]:
        """Return the nodes onto which that image can be cloned."""
        everywhere = [self.shared.get(storage, frozenset()) for storage in image.storages]
        others = frozenset.intersection(*everywhere) if everywhere else frozenset()
        return others | {image.node}

    def key(self, image: Image) -> str:
        """Return the word for the storage whose lock a clone of it takes."""
        storage = image.storages[0] if image.storages else ""
        return storage if storage in self.shared else f"{image.node}/{storage}"


class Cluster:
    def __init__(self, client: Client, instance: str):
        self._client, self._instance = client, instance
        self._known: dict[int, tuple[float, Vm, Image]] = {}
        self._lock = threading.Lock()

    def look(self) -> View:
        """Return all there is, in one call."""
        rows: list[Json] = self._client.get("cluster/resources")
        vms = [_vm(row) for row in rows if row["type"] in ("qemu", "lxc")]
        nodes = {row["node"]: row for row in rows if row["type"] == "node"}
        shared: dict[str, set[str]] = {}
        for row in rows:
            if row["type"] == "storage" and row.get("shared"):
                shared.setdefault(row["storage"], set()).add(row["node"])
        reached = {storage: frozenset(found) for storage, found in shared.items()}
        return View(tuple(vms), nodes, reached)

    def vms(self) -> list[Vm]:
        """Return all machines, in one call."""
        return [_vm(row) for row in self._client.get("cluster/resources", type="vm")]

    def config(self, vm: Vm) -> Json:
        """Return the configuration of a machine as it is now. Absent where there is none."""
        found: Json = self._client.get(f"{vm.path}/config")
        return found

    def images(self, view: View) -> list[Image]:
        """Return all templates that can be cloned now: those of a dead node cannot."""
        found = (
            self._image(vm) for vm in view.vms if view.is_online(vm.node) and _may_be_image(vm)
        )
        return [image for image in found if image]

    def image(self, name: str, node: str, view: View) -> Image:
        """Return the template of that name which a machine on `node` is cloned from."""
        named = [vm for vm in view.vms if vm.name == name and _may_be_image(vm)]
        ours = [vm for vm in named if marks.is_image_of(vm.tags, self._instance)] or named
        online = [vm for vm in ours if view.is_online(vm.node)]
        if ours and not online:
            raise Unreachable(RETRY_S, f"node {ours[0].node}, which has the template {name}")
        images = [image for vm in online if (image := self._image(vm))]
        near = sorted(images, key=lambda image: image.node != node)
        for image in near:
            if node in view.reach(image):
                return image
        why = f"is not on a storage that {node} reaches" if images else "is gone"
        raise TemplateMissing(f"The image {name} {why}; build it again: daas template build NAME")

    def fresh(self, view_vms: list[Vm], doubtful: set[str]) -> list[Vm]:
        """Return the machines with names and states as their nodes see them now, for the nodes
        named: one call each. Of the machines of one that does not answer nobody knows."""
        now: dict[int, Json] = {}
        for node in doubtful:
            try:
                now |= {int(row["vmid"]): row for row in self._client.get(f"nodes/{node}/qemu")}
            except NotYet:
                unknown = {"status": "unknown"}
                now |= {vm.number: unknown for vm in view_vms if vm.node == node}
        return [
            replace(vm, name=str(row.get("name", vm.name)), status=str(row.get("status", "")))
            if (row := now.get(vm.number))
            else vm
            for vm in view_vms
        ]

    def _image(self, vm: Vm) -> Image | None:
        with self._lock:
            at, known, image = self._known.get(vm.number, (0.0, None, None))
        if image and known and known.is_same(vm) and time.monotonic() < at + KNOWN_S:
            return image
        try:
            config = self.config(vm)
        except (Absent, Unreachable):
            return None
        if not config.get("template"):
            return None
        image = machine.image_of(vm.name, vm.number, vm.node, config)
        with self._lock:
            self._known[vm.number] = (time.monotonic(), vm, image)
        return image


def _may_be_image(vm: Vm) -> bool:
    """A template is not shown as one in its first seconds; its mark is."""
    is_marked = bool(marks.instances_of_images(marks.split(vm.tags)))
    return vm.kind == "qemu" and (vm.is_template or (is_marked and vm.status != "running"))


def _vm(row: Mapping[str, Any]) -> Vm:
    return Vm(
        int(row["vmid"]),
        str(row["node"]),
        str(row.get("name") or ""),
        str(row.get("status") or "unknown"),
        str(row.get("tags") or ""),
        str(row.get("lock") or ""),
        bool(row.get("template")),
        int(row.get("maxcpu") or 0),
        int(row.get("maxmem") or 0) // MIB,
        str(row["type"]),
    )
