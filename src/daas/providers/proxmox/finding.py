"""Where a machine of ours is, and whether it is ours. Whatever changes or ends a machine comes
through here first: the configuration is read anew, and a number proves nothing."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from daas.errors import NotOurs, StepFailed, Unreachable
from daas.providers.base import State
from daas.providers.proxmox import machine, marks
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.cluster import Cluster, Vm
from daas.providers.proxmox.errors import Absent
from daas.providers.proxmox.machine import Json


class Finder:
    def __init__(self, client: Client, cluster: Cluster, instance: str):
        self._client, self._cluster, self._instance = client, cluster, instance

    def must_exist(self, state: State) -> tuple[str, Json]:
        """Return path and configuration of the machine, which is ours. NotOurs if it is not."""
        found = self.at_home(state)
        if found is None:
            raise StepFailed(f"The machine {state['name']} is not there any more.")
        path, config = found
        if not self.is_ours(config, state["name"], state):
            raise self.not_ours(state["name"], path)
        return path, config

    def at_home(self, state: State) -> tuple[str, Json] | None:
        """Return path and configuration of whatever has the machine's number: on the node where
        it was, or, after a migration, where it is now."""
        number, node = state.get("vmid"), state.get("node")
        if not number:
            return None
        why: Unreachable | None = None
        try:
            return _path(node, number), self._client.get(f"{_path(node, number)}/config")
        except Absent:
            pass
        except Unreachable as error:
            why = error
        moved = next((vm for vm in self._cluster.vms() if vm.number == number), None)
        if moved is None or (moved.node == node and why):
            if why:
                raise why
            return None
        with suppress(Absent):
            return moved.path, self._cluster.config(moved)
        return None

    def candidates(self, listed: list[Vm], name: str, state: State) -> list[Vm]:
        """Return the machines that could be `name`: by mark, by name, or by their number."""
        vms = [vm for vm in listed if vm.kind == "qemu"]
        # Without a number only its name tells one that has no mark yet, and lists lag behind.
        doubtful = set() if state.get("vmid") else {vm.node for vm in vms if not vm.tag}
        return [
            vm
            for vm in self._cluster.fresh(vms, doubtful)
            if vm.name == name
            or (vm.tag and vm.tag.session == name)
            or vm.number == state.get("vmid")
        ]

    def is_ours(self, config: Mapping[str, Any], name: str, state: State) -> bool:
        """Does it bear our mark, for this session, and the nonce that we know of?"""
        mark = marks.of(config.get("tags"))
        if mark is None:
            return False
        tag = mark.tag
        is_it = tag.instance == self._instance and tag.session == name
        return is_it and state.get("nonce", tag.nonce) == tag.nonce

    def is_half_made(self, config: Mapping[str, Any], number: int, name: str, state: State) -> bool:
        return machine.is_half_made(config, number, name, self._instance, state)

    @staticmethod
    def not_ours(name: str, path: str) -> NotOurs:
        number = path.rpartition("/")[2]
        return NotOurs(
            f"The machine {name} (VM {number}) does not bear our mark; it was left alone."
        )


def _path(node: object, number: object) -> str:
    return f"nodes/{node}/qemu/{number}"
