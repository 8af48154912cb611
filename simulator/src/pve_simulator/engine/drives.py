"""Drives of a configuration: made from `STORAGE:8`, `STORAGE:cloudinit`, `import-from` or a volume
that exists, and let go of again as `unusedN` or for good."""

import re
from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.engine.properties import is_cdrom, is_cloudinit, parse_drive, print_drive
from pve_simulator.engine.storage import CLOUDINIT_SIZE
from pve_simulator.engine.vm import Config, Vm
from pve_simulator.engine.volumes import Volume, print_size

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster

NEW_DISK = re.compile(r"(?:([^/:\s]+):)?(\d+(?:\.\d+)?)")
CLOUDINIT = re.compile(r"(?:([^/:\s]+):)?cloudinit")
MAX_UNUSED = 256
GIB = 1 << 30


def make(
    cluster: "Cluster",
    vm: Vm,
    key: str,
    text: str,
    default_storage: str | None = None,
    made: list[Volume] | None = None,
) -> Steps[str]:
    """What to write into the configuration for a drive that was asked for; its volume exists."""
    drive = parse_drive(text)
    made = [] if made is None else made
    if drive["file"] in ("none", "cdrom"):
        drive.pop("size", None)
        return print_drive(drive)
    if match := CLOUDINIT.fullmatch(drive["file"]):
        return (yield from _cloudinit(cluster, vm, key, drive, match[1] or default_storage, made))
    if match := NEW_DISK.fullmatch(drive["file"]):
        storage = match[1] or default_storage
        return (yield from _disk(cluster, vm, drive, storage, float(match[2]), made))
    return _existing(cluster, vm, key, drive)


def check(cluster: "Cluster", node: str, key: str, text: str) -> None:
    """What is wrong with a drive parameter before anything is done."""
    drive = parse_drive(text)
    if "file" not in drive:
        raise Invalid(**{key: "unable to parse drive options"})
    new = NEW_DISK.fullmatch(drive["file"])
    if "import-from" in drive and (not new or float(new[2]) != 0):
        raise Invalid(
            **{
                key: "'import-from' requires special syntax - "
                "use <storage ID>:0,import-from=<source>"
            }
        )
    if new and new[1] and "images" not in cluster.storages.usable(new[1], node).content:
        raise Invalid(storage=f"storage '{new[1]}' does not support vm images")
    if ":iso/" in drive["file"] and not is_cdrom(drive):
        raise Invalid(**{key: "explicit 'media=cdrom' is required for iso images"})


def release(cluster: "Cluster", vm: Vm, drive: dict[str, str], config: Config) -> Steps[None]:
    """A drive leaves the configuration: a disk of the VM's own stays, as `unusedN`."""
    if is_cloudinit(drive):
        yield from cluster.storages.free(drive["file"], vm.node)
    elif not is_cdrom(drive):
        volume = cluster.storages.volume(drive["file"], vm.node)
        if volume is not None and volume.vmid == vm.vmid:
            add_unused(config, drive["file"])


def add_unused(config: Config, volid: str) -> None:
    if volid in config.values():
        return
    free = (f"unused{number}" for number in range(MAX_UNUSED))
    config[next(key for key in free if key not in config)] = volid


def storage_of(volid: str) -> str:
    return volid.split(":", 1)[0]


def _cloudinit(
    cluster: "Cluster",
    vm: Vm,
    key: str,
    drive: dict[str, str],
    storage_id: str | None,
    made: list[Volume],
) -> Steps[str]:
    for config in (vm.config, vm.pending):
        for other, existing in vm.drives(config).items():
            if other != key and is_cloudinit(existing):
                raise Failed(f"{key} - cloud-init drive is already attached at '{other}'")
    storage = cluster.storages.usable(_named(storage_id), vm.node)
    fmt = drive.pop("format", None) or ("qcow2" if storage.is_file else "raw")
    volume = yield from cluster.storages.allocate(
        storage, vm.node, vm.vmid, CLOUDINIT_SIZE, fmt, name=f"vm-{vm.vmid}-cloudinit"
    )
    made.append(volume)
    return print_drive(drive | {"file": volume.id, "media": "cdrom"})


def _disk(
    cluster: "Cluster",
    vm: Vm,
    drive: dict[str, str],
    storage_id: str | None,
    size_gib: float,
    made: list[Volume],
) -> Steps[str]:
    storage = cluster.storages.usable(_named(storage_id), vm.node)
    source_id = drive.pop("import-from", None)
    size, used = int(size_gib * GIB), 0
    if source_id:
        source = cluster.storages.volume(source_id, vm.node)
        if source is None:
            raise Failed(f"cannot import from '{source_id}' - volume '{source_id}' does not exist")
        size, used = source.size, source.used or source.size
        # A copy is of its source's format unless another is asked for.
        drive["format"] = storage.format_for(drive.get("format") or source.format)
    volume = yield from cluster.storages.allocate(
        storage, vm.node, vm.vmid, size, drive.pop("format", None), used=used
    )
    made.append(volume)
    if source_id:
        yield cluster.wait("clone.full_per_gib", size / GIB)
    return print_drive(drive | {"file": volume.id, "size": print_size(volume.size)})


def _existing(cluster: "Cluster", vm: Vm, key: str, drive: dict[str, str]) -> str:
    volid = drive["file"]
    if volid.startswith("/"):
        return print_drive(drive)
    if ":" not in volid:
        raise Failed(f"unable to parse volume ID '{volid}'")
    storage = cluster.storages.usable(storage_of(volid), vm.node)
    volume = cluster.storages.volume(volid, vm.node)
    if volume is None:
        raise Failed(f"volume '{volid}' does not exist")
    fmt = drive.pop("format", None)
    if fmt and fmt != volume.format:
        raise Failed(
            f"drive '{key}' - volume '{volid}' - 'format={fmt}' option different"
            f" from storage format '{volume.format}'"
        )
    assert storage.is_enabled
    return print_drive(drive | {"size": print_size(volume.size)})


def _named(storage_id: str | None) -> str:
    if not storage_id:
        raise Failed("no storage ID specified (and no default storage)")
    return storage_id
