"""Changes to a configuration. On a running VM what cannot be plugged in stays pending."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.engine import drives
from pve_simulator.engine.properties import (
    NET,
    is_cdrom,
    is_cloudinit,
    is_drive,
    parse,
    parse_drive,
    parse_net,
    print_net,
)
from pve_simulator.engine.vm import Config, Vm
from pve_simulator.schema import methods

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster

CLOUDINIT_KEYS = {
    "citype", "ciuser", "cipassword", "ciupgrade", "cicustom", "searchdomain", "nameserver",
    "sshkeys",
}  # fmt: skip
# Nothing that a running process would have to be told.
AT_ONCE = CLOUDINIT_KEYS | {
    "description", "hookscript", "lock", "migrate_downtime", "migrate_speed", "name", "onboot",
    "protection", "shares", "startup", "tags", "vmstatestorage", "cpuunits", "cpulimit",
}  # fmt: skip
# Of the call, not of the configuration; and of the configuration, though no call sets them.
NO_OPTIONS = {
    "node", "vmid", "delete", "revert", "force", "digest", "skiplock", "background_delay", "cdrom",
    "import-working-storage",
}  # fmt: skip
MORE_OPTIONS = {"vmstate", "runningmachine", "runningcpu", "meta", "parent"}
NOT_HOTPLUGGED = re.compile(r"(efidisk|ide|sata|tpmstate)\d+")
COLD_OPTIONS = {"aio", "discard", "iothread", "queues", "product", "cache", "ssd", "vendor", "ro"}


@dataclass
class Change:
    """What a call to change a configuration asks for."""

    values: Config = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)
    reverts: list[str] = field(default_factory=list)
    is_forced: bool = False
    digest: str | None = None
    skips_lock: bool = False


def check(cluster: "Cluster", node: str, change: Change) -> None:
    """What is refused before the configuration is looked at."""
    if not (change.values or change.deletes or change.reverts):
        raise Failed("no options specified")
    for key in change.reverts:
        if not is_option(key):
            raise Invalid(revert=f"unknown option '{key}'")
        if key in change.values:
            raise Invalid(delete=f"you can't use '-{key}' and -revert {key}' at the same time")
    for key in change.deletes:
        if key in change.values:
            raise Invalid(delete=f"you can't use '-{key}' and -delete {key}' at the same time")
        if key in change.reverts:
            text = f"you can't use '-delete {key}' and -revert {key}' at the same time"
            raise Invalid(revert=text)
        if not is_option(key):
            raise Invalid(delete=f"unknown option '{key}'")
    for key, value in change.values.items():
        if is_drive(key):
            drives.check(cluster, node, key, str(value))


def is_option(key: str) -> bool:
    """Whether a configuration may have such a key."""
    known = methods()["PUT", "/nodes/{node}/qemu/{vmid}/config"].properties
    return (key in known and key not in NO_OPTIONS) or key in MORE_OPTIONS


def update(cluster: "Cluster", vm: Vm, change: Change) -> Steps[None]:
    """Carry a change out. The caller holds the configuration's lock."""
    refuse(vm, change)
    cluster.write(vm)
    for key in change.reverts:
        vm.pending.pop(key, None)
        vm.deletes.pop(key, None)
    for key in change.deletes:
        yield from _note_delete(cluster, vm, key, change.is_forced)
    for key in sorted(change.values):
        yield from _note_value(cluster, vm, key, change)
    _forget_what_is_no_change(vm)
    if vm.run:
        yield from _plug(cluster, vm, {*change.values, *change.deletes})
    else:
        yield from apply_pending(cluster, vm)


def apply_pending(cluster: "Cluster", vm: Vm) -> Steps[None]:
    """Make all pending changes true, as on a stopped VM and at each start."""
    for key in list(vm.deletes):
        yield from _delete(cluster, vm, key)
    for key in list(vm.pending):
        yield from _set(cluster, vm, key, vm.pending.pop(key))


def with_macs(cluster: "Cluster", values: Config) -> Config:
    """The same, with an address for each network card that has none."""
    found = dict(values)
    for key, value in values.items():
        if NET.fullmatch(key):
            net = parse_net(str(value))
            net.setdefault("macaddr", cluster.random_mac())
            found[key] = print_net(net)
    return found


def refuse(vm: Vm, change: Change) -> None:
    """What the configuration as it is forbids."""
    if change.digest and change.digest != vm.digest:
        raise Failed("checksum mismatch (file change by other user?)")
    if not change.skips_lock and not ("vmstate" in change.deletes and vm.lock == "suspended"):
        vm.refuse_if_locked()
    balloon = change.values.get("balloon")
    memory = change.values.get("memory", vm.config.get("memory", 512))
    if balloon and int(balloon) > int(parse(str(memory), "current")["current"]):
        raise Failed("balloon value too large (must be smaller than assigned memory)")


def _note_delete(cluster: "Cluster", vm: Vm, key: str, is_forced: bool) -> Steps[None]:
    value = vm.config.get(key, vm.pending.get(key))
    if value is None:
        return
    vm.pending.pop(key, None)
    _leave_boot_order(vm, key)
    if key.startswith("unused"):
        yield from _delete_unused(cluster, vm, key)
    elif key == "vmstate":
        yield from cluster.storages.free(str(value), vm.node)
        for name in ("vmstate", "runningmachine", "runningcpu", "lock"):
            vm.config.pop(name, None)
    else:
        if is_drive(key) and vm.config.get("protection"):
            raise Failed(f"can't remove drive '{key}' - protection mode enabled")
        vm.deletes[key] = 2 if is_forced else 1


def _delete_unused(cluster: "Cluster", vm: Vm, key: str) -> Steps[None]:
    volid = parse_drive(str(vm.config[key]))["file"]
    if vm.config.get("protection"):
        raise Failed(f"can't remove unused disk '{volid}' - protection mode enabled")
    yield from cluster.storages.free(volid, vm.node)
    vm.config.pop(key, None)


def _leave_boot_order(vm: Vm, key: str) -> None:
    order = _boot_order(vm)
    if key in order:
        vm.pending["boot"] = "order=" + ";".join(part for part in order if part != key)


def _boot_order(vm: Vm) -> list[str]:
    boot = str(vm.pending.get("boot", vm.config.get("boot", "")))
    return [part for part in parse(boot, "legacy").get("order", "").split(";") if part]


def _note_value(cluster: "Cluster", vm: Vm, key: str, change: Change) -> Steps[None]:
    value: Any = change.values[key]
    if key == "boot":
        _check_boot(vm, str(value), change)
    if is_drive(key):
        order = _boot_order(vm)
        wanted = parse_drive(str(value))
        if key in vm.pending:
            yield from drives.release(cluster, vm, parse_drive(str(vm.pending[key])), vm.config)
        value = yield from drives.make(cluster, vm, key, str(value))
        if order and key not in order and is_cdrom(wanted) and not is_cloudinit(wanted):
            vm.pending["boot"] = "order=" + ";".join([*order, key])
    # An empty value is written as `key: `, and read back as a blank.
    vm.pending[key] = " " if value == "" else value
    vm.deletes.pop(key, None)


def _check_boot(vm: Vm, value: str, change: Change) -> None:
    order = parse(value, "legacy").get("order", "")
    for device in filter(None, order.split(";")):
        exists = device in vm.config or device in vm.pending or device in change.values
        if not exists or device in change.deletes:
            raise Failed(f"invalid bootorder: device '{device}' does not exist'")


def _forget_what_is_no_change(vm: Vm) -> None:
    for key in [key for key, value in vm.pending.items() if vm.config.get(key) == value]:
        del vm.pending[key]


def _plug(cluster: "Cluster", vm: Vm, touched: set[str]) -> Steps[None]:
    features = _hotplug(vm)
    for key in [key for key in vm.deletes if key in touched]:
        if _can_unplug(vm, key, features):
            yield from _delete(cluster, vm, key)
    for key in [key for key in vm.pending if key in touched or key in AT_ONCE]:
        if _can_plug(vm, key, vm.pending[key], features):
            yield from _set(cluster, vm, key, vm.pending.pop(key))


def _hotplug(vm: Vm) -> set[str]:
    value = str(vm.config.get("hotplug", "1"))
    if value == "1":
        return {"network", "disk", "usb", "cloudinit"}
    return set() if value == "0" else set(value.split(","))


def _is_at_once(key: str) -> bool:
    return key in AT_ONCE or key.startswith("ipconfig")


def _can_unplug(vm: Vm, key: str, features: set[str]) -> bool:
    if _is_at_once(key):
        return True
    if NET.fullmatch(key):
        return "network" in features
    if is_drive(key):
        return "disk" in features and not NOT_HOTPLUGGED.fullmatch(key)
    if key == "balloon":
        return vm.config.get("balloon") != 0
    if key == "hotplug":
        return not re.search("cpu|memory", str(vm.config.get("hotplug", "")))
    if key == "tablet":
        return "usb" in features
    return key == "memory" and "memory" in features


def _can_plug(vm: Vm, key: str, value: Any, features: set[str]) -> bool:
    if _is_at_once(key):
        return True
    if NET.fullmatch(key):
        return _can_plug_net(vm, key, str(value), features)
    if is_drive(key):
        return _can_plug_drive(vm, key, str(value), features)
    if key == "balloon":
        return bool(vm.config.get("balloon", 1)) == bool(value)
    if key == "tablet":
        return "usb" in features
    if key == "hotplug":
        both = f"{value} {vm.config.get('hotplug', '')}"
        return not re.search("memory|cpu", both)
    if key == "agent":
        return _is_same_agent(vm, str(value))
    if key in ("memory", "vcpus"):
        return {"memory": "memory", "vcpus": "cpu"}[key] in features
    return False


def _can_plug_net(vm: Vm, key: str, value: str, features: set[str]) -> bool:
    if key in vm.config:
        old, new = parse_net(str(vm.config[key])), parse_net(value)
        fixed = ("model", "macaddr", "queues", "mtu")
        if all(old.get(name) == new.get(name) for name in fixed) and "bridge" in old:
            return True
    return "network" in features


def _can_plug_drive(vm: Vm, key: str, value: str, features: set[str]) -> bool:
    new, old = parse_drive(value), parse_drive(str(vm.config.get(key, "none")))
    if key in vm.config and is_cdrom(new) != is_cdrom(old):
        raise Invalid(**{key: "hotplug problem - unable to change media type\n"})
    if is_cloudinit(new):
        return key in vm.config
    if key in vm.config and new["file"] == old["file"]:
        return all(new.get(name) == old.get(name) for name in COLD_OPTIONS)
    if key in vm.config and is_cdrom(old) and is_cdrom(new):
        return True
    return "disk" in features and not NOT_HOTPLUGGED.fullmatch(key)


def _is_same_agent(vm: Vm, value: str) -> bool:
    if "agent" not in vm.config:
        return False
    hot = "fstrim_cloned_disks"
    old, new = parse(str(vm.config["agent"]), "enabled"), parse(value, "enabled")
    return {**old, hot: ""} == {**new, hot: ""}


def _delete(cluster: "Cluster", vm: Vm, key: str) -> Steps[None]:
    force = vm.deletes.pop(key)
    value = vm.config.pop(key, None)
    if value is None or not is_drive(key):
        return
    drive = parse_drive(str(value))
    if force == 2 and not is_cdrom(drive):
        yield from cluster.storages.free(drive["file"], vm.node)
    else:
        yield from drives.release(cluster, vm, drive, vm.config)


def _set(cluster: "Cluster", vm: Vm, key: str, value: Any) -> Steps[None]:
    if is_drive(key) and key in vm.config:
        old = parse_drive(str(vm.config[key]))
        if old["file"] != parse_drive(str(value))["file"]:
            yield from drives.release(cluster, vm, old, vm.config)
    vm.config[key] = value
    if key == "boot":
        vm.config.pop("bootdisk", None)
