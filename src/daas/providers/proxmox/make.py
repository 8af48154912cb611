"""Making a machine: look whether it is there, let Terraform make it, look again and believe only
what Proxmox shows. After a crash at any moment the next call finds out what there is."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from daas import process
from daas.errors import (
    CommandFailed,
    NotOurs,
    NotYet,
    NumberTaken,
    Refused,
    Stopped,
    Unreachable,
)
from daas.providers.base import Progress, Spec, State
from daas.providers.proxmox import errors, machine, marks, tasks
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.cluster import Cluster, View, Vm
from daas.providers.proxmox.errors import Absent, NumberInUse
from daas.providers.proxmox.finding import Finder
from daas.providers.proxmox.guard import node_is_there
from daas.providers.proxmox.machine import Image, Json, Place
from daas.providers.proxmox.module import Module, what_it_said
from daas.providers.proxmox.remove import Remover
from daas.providers.proxmox.terraform_state import KEY

CLONE_S = 90.0  # that a clone somebody started may still take
LOOK_S = 0.3

Save = Callable[[State], None]


class Maker:
    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        finder: Finder,
        remover: Remover,
        place: Place,
        module: Module,
    ):
        self._client, self._cluster, self._finder = client, cluster, finder
        self._remover, self._place, self._module = remover, place, module

    def ensure(self, name: str, spec: Spec, state: State, save: Save, note: Progress) -> State:
        """See the contract."""
        if spec.number is None:
            raise Refused(f"No VMID is leased for {name}; is DAAS_PROXMOX_VMIDS set?")
        state = _begun(name, spec, state)
        save(state)
        view = self._cluster.look()
        _must_be_alone(name, spec, view)
        there = view.at(spec.number)
        config = self._usable(there, name, spec, state) if there else None
        if there is None or config is None:
            if not view.is_online(spec.node):
                raise Unreachable(errors.RETRY_S, f"node {spec.node}, which is offline")
            image = self._cluster.image(spec.image, spec.node, view)
            state = self._make(name, spec, image, state, save, note)
            return self._verified(spec, state, save)
        if there.lock != "suspended" and self._is_running(there.path):
            return _learned(state, there.node, config)
        tasks.post(self._client, f"{there.path}/status/start")
        return _learned(state, there.node, config)

    def _usable(self, vm: Vm, name: str, spec: Spec, state: State) -> Json | None:
        """Return the configuration of the machine with our number if it can be relied on; None
        if there is none any more. A stranger's is NumberTaken."""
        config = self._settled(vm, name, spec, state)
        if config is None:
            return None
        mark = marks.of(config.get("tags"))
        if mark and mark.tag == spec.tag and config.get("name") == name:
            if machine.is_complete(config, spec):
                return config
        elif not self._finder.is_half_made(config, vm.number, name, state):
            raise _taken(vm.number, config)
        # Terraform died on the way. What it had done nobody can say; a clone is cheap.
        self._remover.remove(vm.path, vm.number, name, state)
        return None

    def _settled(self, vm: Vm, name: str, spec: Spec, state: State) -> Json | None:
        """Return the configuration once no clone works on it. One that has no name yet is being
        made by somebody; whose it is shows when it has."""
        deadline = time.monotonic() + CLONE_S
        while True:
            try:
                config = self._cluster.config(vm)
            except Absent:  # it failed, or was moved to its node in this moment
                moved = self._cluster.look().at(vm.number)
                if moved is None or moved.node == vm.node:
                    return None
                vm = moved
                continue
            if config.get("lock") not in ("clone", "create"):
                return config
            is_nameless = not config.get("name")
            if not is_nameless and not self._finder.is_half_made(config, vm.number, name, state):
                raise _taken(vm.number, config)
            if not tasks.active(self._client, vm.node, "qmclone"):
                if is_nameless:
                    raise _taken(vm.number, config)
                return config
            if time.monotonic() > deadline:
                raise NotYet(errors.RETRY_S, f"the clone of {spec.image} that is under way")
            if process.stop.get().wait(LOOK_S):
                raise Stopped(name)

    def _make(
        self, name: str, spec: Spec, image: Image, state: State, save: Save, note: Progress
    ) -> State:
        """Terraform has made the machine, or what it said about it is raised."""
        assert spec.number is not None
        created = state.setdefault("created", int(time.time()))
        state |= {"template": image.number, "born": image.born}
        save(state)
        told = machine.variables(name, spec.number, spec, image, self._place, created)
        kept = [state]

        def keep(text: str) -> None:
            kept[0] = self._module.box.kept(kept[0], text)
            save(kept[0])

        try:
            with node_is_there(self._cluster, spec.node):
                self._module.apply(name, told, state, keep, note, spec.on_disks)
        except CommandFailed as error:
            said = what_it_said(error)
            if not self._is_whole(name, spec):
                raise self._meaning(said, spec, image) from error
            note(f"the machine is there, although Terraform said: {said}")
        return kept[0]

    def _is_whole(self, name: str, spec: Spec) -> bool:
        """Is the machine there, ours and running, whatever Terraform made of the last answers?"""
        with suppress(NotYet, Refused):
            vm = next((vm for vm in self._cluster.vms() if vm.number == spec.number), None)
            if vm is None:
                return False
            config = self._cluster.config(vm)
            mark = marks.of(config.get("tags"))
            is_ours = mark is not None and mark.tag == spec.tag and config.get("name") == name
            return is_ours and machine.is_complete(config, spec) and self._is_running(vm.path)
        return False

    def _meaning(self, said: str, spec: Spec, image: Image) -> Exception:
        error = errors.meaning(said)
        if errors.is_vague(said):  # what Proxmox says where either of two privileges would do
            where = f"/vms/{spec.number}, or on its pool"
            return errors.missing_right(f"Permission check failed ({where}, VM.Allocate)")
        if isinstance(error, NumberInUse):
            return NumberTaken(f"The VMID {spec.number} was taken in the moment we came to use it.")
        if isinstance(error, Absent) and f"/{image.number}.conf" in said:
            return errors.meaning(f"unable to find configuration file for VM {image.number}")
        if isinstance(error, Absent):
            return NotYet(errors.RETRY_S, f"the machine, which vanished while it was made ({said})")
        if isinstance(error, errors.Unexplained):
            return Refused(f"Terraform could not make the machine: {said}")
        return error

    def _verified(self, spec: Spec, state: State, save: Save) -> State:
        """Nobody's word is taken for it: the machine is there, ours, and running."""
        path = f"nodes/{spec.node}/qemu/{spec.number}"
        try:
            config: Json = self._client.get(f"{path}/config")
        except Absent:
            raise NotYet(
                errors.RETRY_S, f"VM {spec.number}, which vanished when it was made"
            ) from None
        mark = marks.of(config.get("tags"))
        if mark is None or mark.tag != spec.tag or config.get("name") != state["name"]:
            raise _taken(spec.number or 0, config)
        if not self._is_running(path):
            raise NotYet(errors.RETRY_S, f"VM {spec.number}, which stopped right after its start")
        state = {**_learned(state, spec.node, config), "started": round(time.time(), 1)}
        save(state)
        return state

    def _is_running(self, path: str) -> bool:
        return bool(self._client.get(f"{path}/status/current").get("status") == "running")


def _begun(name: str, spec: Spec, state: State) -> State:
    """Return the state before anything is done. What is about another number is forgotten."""
    same = state.get("vmid") in (None, spec.number)
    kept = state if same else {key: state[key] for key in (KEY,) if key in state}
    return {
        **kept,
        "name": name,
        "nonce": spec.tag.nonce,
        "vmid": spec.number,
        "node": spec.node,
        "address": machine.bare(spec.address) if spec.address else None,
        "personalize": spec.options.get("personalize", "agent"),
    }


def _learned(state: State, node: str, config: Json) -> State:
    volumes = sorted(one.volume for one in machine.drives(config))
    return {**state, "node": node, "mac": machine.mac(config), "volumes": volumes}


def _must_be_alone(name: str, spec: Spec, view: View) -> None:
    """No other machine says that it is this session's: of two, one would be forgotten."""
    for vm in view.vms:
        if vm.number != spec.number and vm.tag and vm.tag.session == name:
            raise NotOurs(
                f"There is a machine {name} already (VM {vm.number} on {vm.node}), and it is not "
                "this session's."
            )


def _taken(number: int, config: Mapping[str, Any]) -> NumberTaken:
    who = config.get("name") or "somebody"
    return NumberTaken(f"VM {number} is {who}'s, not ours; it was left alone.")
