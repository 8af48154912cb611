"""Ending a machine: its mark is read again, then it is stopped, deleted, and looked for. Also when
nobody knows anything any more but its name."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from daas import process
from daas.errors import NotYet, Refused, StepFailed, Stopped
from daas.providers.base import State
from daas.providers.proxmox import errors, machine, marks, tasks
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.cluster import Cluster, Vm
from daas.providers.proxmox.errors import Absent, Glitch, Locked, NotRunning, Unexplained
from daas.providers.proxmox.finding import Finder
from daas.providers.proxmox.guard import node_is_there
from daas.providers.proxmox.machine import Json
from daas.providers.proxmox.module import Module, what_it_said

TRIES = 4
CLONE_S = 90.0  # that a clone under way may take to show whose it is
LOOK_S = 0.3
UNDER_WAY = ("clone", "create")
GONE: dict[str, Any] = {"purge": 1, "destroy-unreferenced-disks": 1}

log = logging.getLogger(__name__)


class Remover:
    def __init__(self, client: Client, cluster: Cluster, finder: Finder, module: Module):
        self._client, self._cluster, self._finder = client, cluster, finder
        self._module = module

    def destroy(self, name: str, state: State) -> None:
        """See the contract."""
        others: list[Vm] = []
        ended: set[int] = set()
        for vm in self._finder.candidates(self._settled(name, state), name, state):
            config = self._config(vm)
            if config is None:
                continue
            if config.get("name") == name and self._finder.is_ours(config, name, state):
                self._end(vm, name, state, config)
                ended.add(vm.number)
            elif self._finder.is_half_made(config, vm.number, name, state):
                self.remove(vm.path, vm.number, name, state)
            elif _is_others(config, name):
                others.append(vm)
        # Of one that went in an earlier try, which died before it could look whether all did.
        if state.get("volumes") and state["vmid"] not in ended:
            self._remove_leftovers(state["node"], state["vmid"], state["volumes"])
        if others:
            raise self._finder.not_ours(name, others[0].path)

    def remove(
        self, path: str, number: int, name: str, state: State, known: Iterable[str] = ()
    ) -> None:
        """The machine at `path` is gone, with its volumes (those `known`, too). At each try it
        must be ours, or half-made by us; NotOurs otherwise."""
        volumes = {*known}
        for _ in range(TRIES):
            config = self._at(path)
            if config is None:
                break
            self._must_be_ours(config, path, number, name, state)
            volumes |= {one.volume for one in machine.drives(config)}
            if self._try_to_remove(path):
                break
            if process.stop.get().wait(LOOK_S):
                raise Stopped(name)
        else:
            raise NotYet(errors.RETRY_S, f"{name} to be gone: {TRIES} tries did not do it")
        self._remove_leftovers(path.split("/")[1], number, volumes)

    def _must_be_ours(self, config: Json, path: str, number: int, name: str, state: State) -> None:
        is_ours = config.get("name") == name and self._finder.is_ours(config, name, state)
        if not is_ours and not self._finder.is_half_made(config, number, name, state):
            raise self._finder.not_ours(name, path)

    def _end(self, vm: Vm, name: str, state: State, config: Json) -> None:
        """By Terraform where it knows the machine: a module may have made more than that. What
        it leaves, or will not do, is done without."""
        try:
            with node_is_there(self._cluster, vm.node):
                self._module.destroy(name, vm.number, vm.node, state)
        except StepFailed as error:
            log.warning("%s: Terraform could not destroy it: %s", name, what_it_said(error))
        volumes = [one.volume for one in machine.drives(config)]
        self.remove(vm.path, vm.number, name, state, volumes)

    def _try_to_remove(self, path: str) -> bool:
        """Return whether it is gone; False where another try may help."""
        try:
            # A delete that does not wait for the stop dies of the machine's lock.
            if self._client.get(f"{path}/status/current").get("status") != "stopped":
                tasks.post(self._client, f"{path}/status/stop")
            tasks.delete(self._client, path, GONE)
        except (Absent, NotRunning, Glitch) as error:
            log.info("%s: looking again, for %s", path, error)
        except Locked as error:
            raise NotYet(
                errors.RETRY_S,
                f"the lock ({error.lock}) of {path} to go; if no task runs there, remove it on "
                f"that node: qm unlock {path.rpartition('/')[2]}",
            ) from error
        except Unexplained as error:
            self._explain(path, error)
        return self._at(path) is None

    def _explain(self, path: str, error: Unexplained) -> None:
        if "protection mode" in str(error):
            raise Refused(f"{path} is protected against removal; switch that off.") from error
        if "is running" not in str(error) and self._at(path) is not None:
            raise error

    def _at(self, path: str) -> Json | None:
        with suppress(Absent):
            found: Json = self._client.get(f"{path}/config")
            return found
        return None

    def _config(self, vm: Vm) -> Json | None:
        return self._at(vm.path)

    def _settled(self, name: str, state: State) -> list[Vm]:
        """Return all machines, once no clone is under way that may be this one: it has no name at
        first, and no mark before it is whole, and then nobody can say whose it is."""
        deadline = time.monotonic() + CLONE_S
        while True:
            vms = self._cluster.vms()
            if not any(self._may_become(vm, name, state) for vm in vms):
                return vms
            if time.monotonic() > deadline:
                raise NotYet(errors.RETRY_S, f"a clone under way that may be {name}")
            if process.stop.get().wait(LOOK_S):
                raise Stopped(name)

    def _may_become(self, vm: Vm, name: str, state: State) -> bool:
        if vm.lock not in UNDER_WAY or vm.tag or state.get("vmid") not in (None, vm.number):
            return False
        config = self._config(vm)
        if config is None or config.get("lock") not in UNDER_WAY:
            return config is None  # it failed, or is whole now: the list is to be read again
        is_it = config.get("name") in (None, name)
        return is_it and bool(tasks.active(self._client, vm.node, "qmclone"))

    def _remove_leftovers(self, node: str, number: int, volumes: Iterable[str]) -> None:
        """No volume of that number is left where these were, unless a machine has the number."""
        storages = sorted({one.partition(":")[0] for one in volumes})
        left = [one for storage in storages for one in self._left(node, storage, number)]
        if not left or any(vm.number == number for vm in self._cluster.vms()):
            return
        for volume in left:
            log.warning("%s was left behind by VM %d; removing it", volume, number)
            storage = volume.partition(":")[0]
            with suppress(Absent):
                tasks.delete(self._client, f"nodes/{node}/storage/{storage}/content/{volume}")

    def _left(self, node: str, storage: str, number: int) -> list[str]:
        found = self._client.get(f"nodes/{node}/storage/{storage}/content", vmid=number)
        return [
            str(one["volid"])
            for one in found
            if str(one.get("vmid")) == str(number) and f"vm-{number}-" in one["volid"]
        ]


def _is_others(config: Json, name: str) -> bool:
    """Is it somebody else's, by all it says? One of ours that was renamed by hand is not."""
    mark = marks.of(config.get("tags"))
    return config.get("name") == name or mark is None or mark.tag.session != name
