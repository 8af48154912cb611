"""The contract to a hypervisor, kept by a Proxmox VE cluster. Terraform makes machines; whatever
could hurt one reads its mark first."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from daas.errors import NotOurs, Refused
from daas.providers.base import Baking, Machine, NodeInfo, Progress, Spec, State, silent
from daas.providers.proxmox import errors, machine, marks, nodes, tasks
from daas.providers.proxmox.agent import Agent
from daas.providers.proxmox.bake import Bakery
from daas.providers.proxmox.boots import Boots
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.cluster import Cluster, Vm
from daas.providers.proxmox.finding import Finder
from daas.providers.proxmox.guest import Desktop
from daas.providers.proxmox.inside import Inside, OverSsh
from daas.providers.proxmox.machine import Json, Place
from daas.providers.proxmox.make import Maker
from daas.providers.proxmox.module import Module
from daas.providers.proxmox.remove import GONE, Remover
from daas.providers.proxmox.watcher import EACH_S, Watcher

KIND = "proxmox"
STOP_S = 30  # that a guest has to shut down by itself
SLOW_S = 600.0  # memory goes to a disk and comes from it


class ProxmoxProvider:
    """Desktops of one installation on one cluster."""

    kind = KIND

    def __init__(
        self,
        client: Client,
        instance: str,
        place: Place,
        module: Module,
        stop_s: int = STOP_S,
        watch_each_s: float = EACH_S,
        inside: Inside | None = None,
    ):
        self.client, self.instance, self.place = client, instance, place
        self.cluster, self._module = Cluster(client, instance), module
        self._finder = Finder(client, self.cluster, instance)
        self._remover = Remover(client, self.cluster, self._finder, module)
        self._maker = Maker(client, self.cluster, self._finder, self._remover, place, module)
        self._watcher = Watcher(self.cluster, instance, watch_each_s)
        inside = inside or OverSsh(Path("ansible"))
        self._bakery = Bakery(client, self.cluster, instance, place, inside)
        self._stop_s = stop_s
        self._boots = Boots()
        self._names: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._names_lock = threading.Lock()

    def ensure(
        self,
        name: str,
        spec: Spec,
        state: State,
        save: Callable[[State], None],
        note: Progress = silent,
    ) -> State:
        with self._alone_with(name):
            return self._maker.ensure(name, spec, state, save, note)

    def endpoints(
        self, state: State, timeout_s: float, personal: Mapping[str, bytes]
    ) -> dict[str, str]:
        path, config = self._finder.must_exist(state)
        mac = machine.mac(config)
        desktop = Desktop(self.client, path, mac, state, timeout_s, self._boots)
        return desktop.reached(personal)

    def run(self, state: State, args: list[str], stdin: str = "") -> str:
        path, _ = self._finder.must_exist(state)
        return Agent(self.client, path).run(args, stdin)

    def put(self, state: State, path: str, content: bytes, mode: int) -> None:
        where, _ = self._finder.must_exist(state)
        Agent(self.client, where).put(path, content, mode)

    def power(self, state: State, on: bool) -> None:
        path, config = self._finder.must_exist(state)
        is_on = self._is_on(path)
        if on and (not is_on or config.get("lock") == "suspended"):
            tasks.post(self.client, f"{path}/status/start", timeout_s=SLOW_S)
        elif not on and is_on:
            order = {"timeout": self._stop_s, "forceStop": 1}
            tasks.post(self.client, f"{path}/status/shutdown", order, self._stop_s + tasks.TASK_S)

    def hibernate(self, state: State) -> None:
        path, _ = self._finder.must_exist(state)
        if self._is_on(path):
            tasks.post(self.client, f"{path}/status/suspend", {"todisk": 1}, SLOW_S)

    def snapshot(self, state: State, name: str) -> None:
        """Of the disks alone: with the memory it would freeze the guest for as long as that takes
        to write, and bring back old clocks, tickets and connections."""
        path, _ = self._finder.must_exist(state)
        if name not in self._snapshots(path):
            tasks.post(self.client, f"{path}/snapshot", {"snapname": name}, SLOW_S)

    def restore(self, state: State, name: str) -> None:
        path, _ = self._finder.must_exist(state)
        if name not in self._snapshots(path):
            raise Refused(f"{state['name']} has no snapshot {name}.")
        order = {"start": 1} if self._is_on(path) else {}
        tasks.post(self.client, f"{path}/snapshot/{name}/rollback", order, SLOW_S)

    def delete_snapshot(self, state: State, name: str) -> None:
        path, _ = self._finder.must_exist(state)
        if name in self._snapshots(path):
            tasks.delete(self.client, f"{path}/snapshot/{name}", timeout_s=SLOW_S)

    def destroy(self, name: str, state: State) -> None:
        with self._alone_with(name):
            self._remover.destroy(name, state)
            self._module.forget(name)

    def owned(self) -> list[Machine]:
        """One call, and one more for each node where a machine is not, or not yet, shown as
        running: what is shown is up to 10 s old, and one that has just started is not off."""
        ours = [vm for vm in self.cluster.vms() if vm.tag and vm.tag.instance == self.instance]
        doubtful = {vm.node for vm in ours if vm.status != "running" or not _is_named(vm)}
        return [_machine(vm) for vm in self.cluster.fresh(ours, doubtful)]

    def watch(self, on_change: Callable[[str], None]) -> None:
        self._watcher.listen(on_change)

    def nodes(self) -> list[NodeInfo]:
        return nodes.look(self.cluster, self.place, self.instance)

    def bake(self, baking: Baking, progress: Progress) -> str:
        return self._bakery.bake(baking, progress)

    def images(self) -> list[str]:
        return sorted({vm.name for vm in self.cluster.vms() if self._is_image(vm)})

    def delete_image(self, image: str) -> None:
        for vm in [vm for vm in self.cluster.vms() if vm.name == image]:
            config = self.cluster.config(vm)
            is_ours = marks.is_image_of(config.get("tags"), self.instance)
            if not is_ours or not config.get("template"):
                raise NotOurs(f"{image} is no image of this installation; it was left alone.")
            if users := self._clones(vm, config):
                raise Refused(f"{len(users)} desktops still use {image}; delete them first.")
            try:
                tasks.delete(self.client, vm.path, GONE)
            except errors.InUse as error:
                raise Refused(f"Desktops still use {image}; delete them first.") from error

    def close(self) -> None:
        """The thread that watches ends."""
        self._watcher.close()

    def _is_on(self, path: str) -> bool:
        return bool(self.client.get(f"{path}/status/current").get("status") != "stopped")

    def _snapshots(self, path: str) -> set[str]:
        return {str(one["name"]) for one in self.client.get(f"{path}/snapshot")}

    def _is_image(self, vm: Vm) -> bool:
        is_marked = marks.is_image_of(vm.tags, self.instance) and not vm.tag
        return vm.is_template and is_marked

    def _clones(self, vm: Vm, config: Json) -> list[str]:
        """Return the volumes that need one of the template's, where the storage tells."""
        base = f"base-{vm.number}-"
        return [
            str(one["volid"])
            for storage in {drive.storage for drive in machine.drives(config)}
            for one in self.client.get(f"nodes/{vm.node}/storage/{storage}/content")
            if "vm-" in one["volid"] and base in f"{one['volid']} {one.get('parent')}"
        ]

    @contextmanager
    def _alone_with(self, name: str) -> Iterator[None]:
        """Two of our threads do not make and unmake one machine: half of what the one made would
        look to the other like what a crash has left."""
        with self._names_lock:
            lock = self._names.setdefault(name, threading.Lock())
        with lock:
            yield


def _is_named(vm: Vm) -> bool:
    """Is the name that is shown the one it was given? For some seconds it is its predecessor's."""
    return vm.tag is not None and vm.name == vm.tag.session


def _machine(vm: Vm) -> Machine:
    mark = marks.of(vm.tags)
    assert mark
    name = vm.name or mark.tag.session
    return Machine(name, mark.tag, float(mark.created_at), vm.status != "stopped")
