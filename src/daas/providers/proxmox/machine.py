"""What Proxmox's answers about one machine say, and what we ask Terraform for. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daas.providers.base import Spec
from daas.providers.proxmox import marks

Json = dict[str, Any]

RDP, SSH = 3389, 22
DRIVE = re.compile(r"(ide|sata|scsi|virtio|efidisk|tpmstate|unused)\d+")
SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
UNITS = {"": 1.0, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}
BASE = re.compile(r"\bbase-(\d+)-")
FILE = re.compile(r"\.(qcow2|raw|vmdk)$")


@dataclass(frozen=True)
class Place:
    """Where machines of this installation live on this cluster."""

    storage: str = ""  # of full clones; a linked one's disk is where its template's is
    bridge: str = "vmbr0"
    vlan: int | None = None
    pool: str = ""
    nodes: tuple[str, ...] = ()  # none: all of the cluster
    addresses: tuple[str, str] | None = None
    build_addresses: tuple[str, ...] = ()  # kept from desktops, for template builds
    gateway: str | None = None  # with its prefix: "10.0.0.1/24"
    numbers: tuple[int, int] = (20000, 29999)
    is_full_clone: bool = False


@dataclass(frozen=True)
class Drive:
    slot: str
    volume: str  # "local:401/vm-401-disk-0.qcow2"
    size_bytes: float
    is_cdrom: bool

    @property
    def storage(self) -> str:
        return self.volume.partition(":")[0]

    @property
    def format(self) -> str:
        found = FILE.search(self.volume)
        return found[1] if found else "raw"

    @property
    def base(self) -> int | None:
        """The number of the template that this volume needs, where its name tells."""
        found = BASE.search(self.volume)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Image:
    """A template, as it can be cloned."""

    name: str
    number: int
    node: str
    storages: tuple[str, ...]  # of all its volumes; the boot disk's first
    disk_gib: float
    disk_format: str
    born: str  # what a clone keeps of it: the moment that its configuration was first written


def drives(config: Mapping[str, Any]) -> Iterator[Drive]:
    """Yield the volumes of a machine, its cloud-init drive among them, other media not."""
    for slot, value in config.items():
        if not DRIVE.fullmatch(slot):
            continue
        volume, *options = str(value).split(",")
        given = dict(one.partition("=")[::2] for one in options)
        is_cdrom = given.get("media") == "cdrom"
        if ":" in volume and not (is_cdrom and "cloudinit" not in volume):
            yield Drive(slot, volume, size_bytes(given.get("size", "0")), is_cdrom)


def boot_drive(config: Mapping[str, Any]) -> Drive | None:
    disks = {one.slot: one for one in drives(config) if not one.is_cdrom}
    order = str(config.get("boot", "")).partition("order=")[2].split(";")
    chosen = [slot for slot in order if slot in disks]
    usual = [slot for slot in ("scsi0", "virtio0", "sata0", "ide0") if slot in disks]
    return next((disks[slot] for slot in [*chosen, *usual]), None)


def size_bytes(text: str) -> float:
    found = SIZE.fullmatch(text)
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def image_of(name: str, number: int, node: str, config: Mapping[str, Any]) -> Image:
    boot = boot_drive(config)
    storages = [boot.storage] if boot else []
    storages += sorted({one.storage for one in drives(config)} - set(storages))
    return Image(
        name,
        number,
        node,
        tuple(storages),
        boot.size_bytes / UNITS["G"] if boot else 0.0,
        boot.format if boot else "raw",
        str(config.get("meta", "")),
    )


def mac(config: Mapping[str, Any]) -> str:
    """Return the hardware address of the first card, "" where there is none."""
    found = re.search(r"=((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})", str(config.get("net0", "")))
    return found[1].lower() if found else ""


def is_complete(config: Mapping[str, Any], spec: Spec) -> bool:
    """Is it what `spec` asks for, in all that Terraform sets after the clone?"""
    boot = boot_drive(config)
    has_address = not spec.address or spec.address in str(config.get("ipconfig0", ""))
    return (
        not str(config.get("lock", "")).startswith(("clone", "create", "destroyed"))
        and int(config.get("cores") or 1) == spec.size.cpus
        and str(config.get("memory", "")).removeprefix("current=").split(",")[0]
        == str(spec.size.memory_mib)
        and boot is not None
        and boot.size_bytes >= spec.size.disk_gib * UNITS["G"]
        and has_address
    )


def is_half_made(
    config: Mapping[str, Any], number: int, name: str, instance: str, state: Mapping[str, Any]
) -> bool:
    """Is that machine a clone of our image that Terraform has not marked yet? It bears the name
    that a session has for ever and nobody's mark, it has the number that we leased or is a clone
    of an image of ours, and its volumes come from the template in `state`, where one is known."""
    tags = config.get("tags")
    is_ours = state.get("vmid") == number or marks.is_image_of(tags, instance)
    is_others = marks.instances_of_images(marks.split(tags)) - {instance}
    if config.get("name") != name or config.get("template") or marks.has_any(tags):
        return False
    born = config.get("meta", "")
    return (
        is_ours
        and not is_others
        and born == state.get("born", born)
        and all(_is_from(one, number, state.get("template")) for one in drives(config))
    )


def _is_from(drive: Drive, number: int, template: int | None) -> bool:
    if drive.base is not None and template is not None:
        return drive.base == template
    return f"vm-{number}-" in drive.volume


def variables(
    name: str, number: int, spec: Spec, image: Image, place: Place, created_at: float
) -> Json:
    """Return what a desktop module is told; docs/reference/desktop-module.md."""
    is_larger = spec.size.disk_gib > image.disk_gib
    home = image.storages[0] if image.storages else place.storage
    return {
        "vm_name": name,
        "node": spec.node,
        "vmid": number,
        "template_vmid": image.number,
        "template_name": image.name,
        "template_node": image.node,
        "full_clone": place.is_full_clone,
        "cores": spec.size.cpus,
        "memory_mib": spec.size.memory_mib,
        "disk_gib": spec.size.disk_gib if is_larger else 0,
        "disk_format": image.disk_format,
        "storage": place.storage or home if place.is_full_clone else home,
        "bridge": place.bridge,
        "vlan": place.vlan,
        "pool": place.pool,
        "address": spec.address or "",
        "gateway": spec.gateway or "" if spec.address else "",
        "tags": marks.words(spec.tag, created_at),
        "description": marks.sentence(spec.tag),
    }


def bare(address: str) -> str:
    return address.split("/")[0]
