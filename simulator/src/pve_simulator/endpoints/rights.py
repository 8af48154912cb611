"""Rights that depend on what a call asks for, beyond what the schema of its endpoint says."""

import re

from pve_simulator.api import Failed, Forbidden, Invalid
from pve_simulator.dispatch import Call
from pve_simulator.engine.config import CLOUDINIT_KEYS
from pve_simulator.engine.drives import NEW_DISK
from pve_simulator.engine.properties import (
    is_cdrom,
    is_cloudinit,
    is_drive,
    parse_drive,
    parse_net,
)
from pve_simulator.engine.vm import Config, Vm

ROOT = "root@pam"
_BY_PRIVILEGE = {
    "VM.Config.CPU": "affinity cores cpu cpulimit cpuunits numa smp sockets vcpus",
    "VM.Config.Memory": "balloon hugepages keephugepages memory shares",
    "VM.Config.HWType": "acpi hotplug kvm machine scsihw smbios1 tablet vga watchdog audio0 "
    "bios arch spice_enhancements rng0 amd-sev vmgenid ivshmem efidisk tpmstate",
    "VM.Config.Options": "agent autostart bios description keyboard localtime migrate_downtime "
    "migrate_speed name onboot ostype protection reboot startdate startup tdf template tags",
    "VM.PowerMgmt": "freeze",
    "VM.Config.Disk": "boot bootdisk vmstatestorage",
}
PRIVILEGE = {key: privilege for privilege, keys in _BY_PRIVILEGE.items() for key in keys.split()}
ELSEWHERE = re.compile(r"(unused|serial|usb|hostpci|virtiofs)\d+|cdrom")


def is_root(call: Call) -> bool:
    """Root in person: a token of root's, even one of full rights, is not."""
    return call.identity.name == ROOT


def only_root(call: Call, *names: str) -> None:
    for name in names:
        if call.params.get(name) and not is_root(call):
            raise Invalid(**{name: "Only root may use this option."})


def may_change(call: Call, keys: list[str]) -> None:
    """Each key of a VM's configuration needs the privilege of its kind."""
    if is_root(call):
        return
    for key in keys:
        if is_drive(key) or ELSEWHERE.fullmatch(key):
            continue
        if key in PRIVILEGE or re.fullmatch(r"numa\d+", key):
            need(call, PRIVILEGE.get(key, "VM.Config.CPU"))
        elif re.fullmatch(r"net\d+", key):
            need(call, "VM.Config.Network")
        elif key in CLOUDINIT_KEYS or re.fullmatch(r"ipconfig\d+", key):
            need_any(call, "VM.Config.Cloudinit", "VM.Config.Network")
        else:
            raise Failed(f"only root can set '{key}' config")


def may_delete(call: Call, keys: list[str], vm: Vm | None) -> None:
    """The same for keys that go; for a drive it depends on what it is."""
    may_change(call, keys)
    if is_root(call):
        return
    found = vm.config if vm is not None else {}
    for key in keys:
        if is_drive(key) and key in found:
            _may_change_drive(call, parse_drive(str(found[key])))
        elif key.startswith("unused"):
            need(call, "VM.Config.Disk")
        elif re.fullmatch(r"net\d+", key) and key in found:
            may_use_bridges(call, {key: found[key]})


def may_use_bridges(call: Call, values: Config) -> None:
    """A network card may be on a bridge that one may use, with its tag if it has one."""
    if is_root(call):
        return
    for key in sorted(key for key in values if re.fullmatch(r"net\d+", key)):
        net = parse_net(str(values[key]))
        bridge = f"/sdn/zones/localnetwork/{net.get('bridge', '')}"
        tags = [net["tag"]] if net.get("tag") else []
        tags += [tag for tag in net.get("trunks", "").split(";") if tag]
        for path in [f"{bridge}/{tag}" for tag in tags] or [bridge]:
            call.cluster.access.require(call.identity, path, "SDN.Use")


def may_change_drives(call: Call, values: Config, vm: Vm | None = None) -> None:
    """Drives need a right on the VM, and on the storage that a new disk is made on."""
    for key, value in values.items():
        if not is_drive(key):
            continue
        drive = parse_drive(str(value))
        _may_change_drive(call, drive)
        may_use_volume(call, drive, vm)


def may_use_volume(call: Call, drive: dict[str, str], vm: Vm | None) -> None:
    volid = drive["file"]
    if match := NEW_DISK.fullmatch(volid):
        if match[1]:
            on_storage(call, match[1], "Datastore.AllocateSpace")
        return
    if ":" not in volid or volid.endswith(":cloudinit"):
        return
    volume = call.cluster.storages.volume(volid, call.node.name)
    if vm is not None and volume is not None and volume.vmid == vm.vmid:
        return
    storage = volid.split(":")[0]
    access = call.cluster.access
    if not access.has(call.identity, f"/storage/{storage}", "Datastore.Audit") and not access.has(
        call.identity, f"/storage/{storage}", "Datastore.AllocateSpace"
    ):
        raise Forbidden(
            f"Permission check failed (/storage/{storage}, Datastore.Audit|Datastore.AllocateSpace)"
        )


def on_storage(call: Call, storage: str, privilege: str) -> None:
    call.cluster.access.require(call.identity, f"/storage/{storage}", privilege)


def may_create(call: Call, pool: str | None) -> None:
    """A new VM needs VM.Allocate on its number or on its pool."""
    has = call.cluster.access.has
    if has(call.identity, f"/vms/{call.params['vmid']}", "VM.Allocate"):
        return
    if not (pool and has(call.identity, f"/pool/{pool}", "VM.Allocate")):
        raise Forbidden("Permission check failed")


def need(call: Call, privilege: str) -> None:
    """A right on the VM; for one that is to be made, on its pool will do."""
    pool = call.params.get("pool")
    if pool and call.cluster.access.has(call.identity, f"/pool/{pool}", privilege):
        return
    call.cluster.access.require(call.identity, f"/vms/{call.params['vmid']}", privilege)


def need_any(call: Call, *privileges: str) -> None:
    path = f"/vms/{call.params['vmid']}"
    call.cluster.access.require_any(call.identity, path, *privileges)


def _may_change_drive(call: Call, drive: dict[str, str]) -> None:
    if is_cloudinit(drive) or drive["file"].endswith(":cloudinit"):
        need(call, "VM.Config.Cloudinit")
        need(call, "VM.Config.CDROM")
    else:
        need(call, "VM.Config.CDROM" if is_cdrom(drive) else "VM.Config.Disk")
