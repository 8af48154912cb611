"""The machine that an image is baked in, as Proxmox sees it. It bears a mark of its own until it is
a template, and whatever ends or changes it reads that mark first."""

import secrets
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from daas import process
from daas.errors import NotOurs, NotYet, Refused, Stopped
from daas.providers.base import Progress
from daas.providers.proxmox import errors, machine, marks, tasks
from daas.providers.proxmox.agent import Agent, address_of
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.cluster import Cluster, Vm
from daas.providers.proxmox.errors import AgentAway, NumberInUse
from daas.providers.proxmox.machine import Json, Place

IMPORT_S, STOP_S = 1800.0, 120.0
FIRST_BOOT_S = 1200.0  # with all packages upgraded, on a slow mirror
LOOK_S = 0.5
SHOWN_S = 25.0  # pvestatd looks each 10
TRIES = 20  # numbers that somebody else may take in the moment we do
VENDOR = "BC:24:11"  # Proxmox's own
GONE: dict[str, Any] = {"purge": 1, "destroy-unreferenced-disks": 1}
SEED_SLOT, DISK_SLOT = "ide2", "scsi0"


@dataclass(frozen=True)
class Order:
    """What is to be made. `disk` is as Proxmox wants it, with the volume it is copied from."""

    name: str
    node: str
    cores: int
    memory_mib: int
    disk: str
    mac: str
    hardware: Mapping[str, str | int]


class Builders:
    """Those of one installation."""

    def __init__(self, client: Client, cluster: Cluster, instance: str, place: Place):
        self._client, self._cluster = client, cluster
        self._instance, self._place = instance, place

    def find(self, name: str) -> list[Vm]:
        """Return the builders of that name. NotOurs if there is one of somebody else's."""
        found = self.named(name)
        for vm in found:
            if not marks.is_build_of(vm.tags, self._instance):
                raise NotOurs(f"VM {vm.number} is called {name} and is not ours; rename it.")
        return found

    def named(self, name: str) -> list[Vm]:
        """Return the machines that have that name now. The list knows a new name only seconds
        later, so whatever could bear it is asked."""
        found = []
        for vm in self._cluster.vms():
            tags = marks.split(vm.tags)
            is_ours = marks.is_build_of(vm.tags, self._instance) or marks.instances_of_images(tags)
            if vm.kind != "qemu" or not (is_ours or vm.name in ("", name)):
                continue
            with suppress(errors.Absent):
                config = self._cluster.config(vm)
                if config.get("name") == name:
                    found.append(replace(vm, name=name, tags=str(config.get("tags", ""))))
        return found

    def remove(self, vm: Vm) -> None:
        """The builder is gone with its disks."""
        config = self._must_be_a_build(vm.path)
        if config is None:
            return
        if config.get("template"):  # sealed, and never named: the name says that it is whole
            pass
        elif self._client.get(f"{vm.path}/status/current").get("status") != "stopped":
            tasks.post(self._client, f"{vm.path}/status/stop")
        with suppress(errors.Absent):
            tasks.delete(self._client, vm.path, GONE)

    def make(self, order: Order) -> str:
        """Return the path of a machine with that disk. It has no address of another build's."""
        config = self._config(order)
        for number in self._free_numbers():
            try:
                path = f"nodes/{order.node}/qemu"
                tasks.post(self._client, path, {"vmid": number, **config}, IMPORT_S)
            except NumberInUse:
                continue
            return f"{path}/{number}"
        first, last = self._place.numbers
        raise Refused(
            f"No VMID from {first} to {last} is free for a builder; see DAAS_PROXMOX_VMIDS."
        )

    def grow(self, path: str, gib: int, progress: Progress) -> None:
        """The disk is as large as desktops may have it; a larger one stays."""
        drive = machine.boot_drive(self._client.get(f"{path}/config"))
        if drive is None:
            raise Refused(f"{path} has no disk; was its image empty?")
        has_gib = drive.size_bytes / machine.UNITS["G"]
        if has_gib > gib:
            progress(f"the image's disk has {has_gib:.1f} GiB: no desktop can have less")
        elif has_gib < gib:
            order = {"disk": drive.slot, "size": f"{gib}G"}
            upid = self._client.put(f"{path}/resize", order)
            if upid:
                tasks.wait(self._client, str(upid))

    def insert(self, path: str, volume: str) -> None:
        """The CD is in."""
        self._client.put(f"{path}/config", {SEED_SLOT: f"{volume},media=cdrom"})

    def start(self, path: str) -> None:
        tasks.post(self._client, f"{path}/status/start")

    def leased_address(self, path: str, mac: str) -> str:
        """Return the address that DHCP gave it, which its agent tells once cloud-init has
        installed it. Refused if it never does."""
        deadline, agent = time.monotonic() + FIRST_BOOT_S, Agent(self._client, path)
        while time.monotonic() < deadline:
            with suppress(AgentAway):
                if found := address_of(agent.cards(), mac):
                    return found
            if self._client.get(f"{path}/status/current").get("status") != "running":
                raise Refused("The builder stopped during its first boot; see its console.")
            if process.stop.get().wait(LOOK_S):
                raise Stopped(path)
        raise Refused(
            f"The builder's guest agent told no address in {FIRST_BOOT_S / 60:.0f} min. Does "
            f"{self._place.bridge} have a DHCP server, and can machines there reach their package "
            "mirror? Without DHCP set DAAS_PROXMOX_ADDRESSES and DAAS_PROXMOX_GATEWAY."
        )

    def shut_down(self, path: str) -> None:
        order = {"timeout": int(STOP_S) // 2, "forceStop": 1}
        with suppress(errors.NotRunning):
            tasks.post(self._client, f"{path}/status/shutdown", order, STOP_S)

    def convert(self, path: str) -> None:
        """It is a template, without what the build alone needed."""
        config = self._must_be_a_build(path) or {}
        gone = [key for key in (SEED_SLOT, "ipconfig0") if key in config]
        if gone:
            self._client.put(f"{path}/config", {"delete": ",".join(gone)})
        if not config.get("template"):
            tasks.wait(self._client, self._client.post(f"{path}/template"))

    def must_be_whole(self, path: str, is_full_clone: bool) -> None:
        """Desktops can be made of it. Refused, with the reason, otherwise."""
        config = self._client.get(f"{path}/config")
        drive = machine.boot_drive(config)
        if not config.get("template") or drive is None or "base-" not in drive.volume:
            raise Refused(f"{path} did not become a template; see its task on Proxmox.")
        if not is_full_clone:
            asked = self._client.get(f"{path}/feature", feature="clone")
            if not asked.get("hasFeature"):
                raise Refused(
                    f"Storage {drive.storage} cannot make linked clones of {path}; choose another "
                    "(DAAS_PROXMOX_STORAGE), or set DAAS_PROXMOX_FULL_CLONE=true."
                )

    def name(self, path: str, image: str, description: str) -> None:
        """It is the image. In one call, and last: what bears the name and the mark is whole."""
        tags = ";".join(marks.image_words(self._instance))
        order = {"name": image, "tags": tags, "description": description}
        self._client.put(f"{path}/config", order)

    def await_shown(self, image: str) -> None:
        """The cluster's list shows the image by its name: it is some seconds old, and what is
        placed goes by it. Not for ever; the list will know one day."""
        deadline = time.monotonic() + SHOWN_S
        while time.monotonic() < deadline:
            if any(vm.name == image and vm.is_template for vm in self._cluster.vms()):
                return
            if process.stop.get().wait(LOOK_S):
                raise Stopped(image)

    def claim(self, path: str, free: Sequence[str]) -> str:
        """Return one of these addresses, which no other builder has. It is written down first and
        looked at then: of two that choose the same at once, the later one sees the other's. NotYet
        while others have them all."""
        for _ in range(TRIES):
            address = choose_address(free, self._addresses_in_use(path))
            self._client.put(f"{path}/config", {"ipconfig0": f"ip={address}/32"})
            if address not in self._addresses_in_use(path):
                return address
            self._client.put(f"{path}/config", {"delete": "ipconfig0"})
            if process.stop.get().wait(secrets.randbelow(1000) / 1000):
                raise Stopped(path)
        raise NotYet(10.0, "an address that another template build has")

    def _addresses_in_use(self, but: str) -> set[str]:
        """Return those of builders that exist now, except the one at `but`."""
        found = set()
        for vm in self._cluster.vms():
            if vm.path == but or not marks.is_build_of(vm.tags, self._instance):
                continue
            with suppress(errors.Absent):
                told = str(self._cluster.config(vm).get("ipconfig0", ""))
                found.add(told.removeprefix("ip=").partition("/")[0])
        return found

    def _config(self, order: Order) -> Json:
        vlan = f",tag={self._place.vlan}" if self._place.vlan else ""
        config: Json = {
            "name": order.name,
            "tags": ";".join(marks.build_words(self._instance)),
            "description": "An image of the DaaS orchestrator is being made in this machine.",
            "ostype": "l26",
            "agent": 1,
            "cores": order.cores,
            "memory": order.memory_mib,
            "cpu": "host",
            "scsihw": "virtio-scsi-pci",
            DISK_SLOT: order.disk,
            "boot": f"order={DISK_SLOT}",
            "net0": f"virtio={order.mac},bridge={self._place.bridge}{vlan}",
            "serial0": "socket",  # some cloud images do not boot without
            "onboot": 0,
            **order.hardware,
        }
        if self._place.pool:
            config["pool"] = self._place.pool
        return config

    def _free_numbers(self) -> list[int]:
        """From the last one down: desktops come from the other end."""
        first, last = self._place.numbers
        taken = {vm.number for vm in self._cluster.vms()}
        return [one for one in range(last, first - 1, -1) if one not in taken][:TRIES]

    def _must_be_a_build(self, path: str) -> Json | None:
        try:
            config: Json = self._client.get(f"{path}/config")
        except errors.Absent:
            return None
        if not marks.is_build_of(config.get("tags"), self._instance):
            raise NotOurs(f"{path} does not bear the mark of a build of ours; it was left alone.")
        return config


def new_mac() -> str:
    return ":".join([VENDOR, *(f"{secrets.randbelow(256):02X}" for _ in range(3))])


def choose_address(free: Sequence[str], taken: Container[str]) -> str:
    """Return an address for a builder. NotYet while other builds have them all."""
    for address in free:
        if address not in taken:
            return address
    raise NotYet(10.0, "an address that another template build has")
