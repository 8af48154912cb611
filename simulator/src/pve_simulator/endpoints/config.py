"""The configuration of a virtual machine: read, change now (PUT) or in a task (POST), resize."""

import re
import urllib.parse
from typing import Any

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.dispatch import Call
from pve_simulator.endpoints import rights
from pve_simulator.engine import config
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S
from pve_simulator.engine.properties import is_cdrom, parse_drive, print_drive
from pve_simulator.engine.stock import refuse_open_images
from pve_simulator.engine.vm import Config, Vm
from pve_simulator.engine.volumes import parse_size, print_size
from pve_simulator.router import endpoint

Row = dict[str, Any]
CONFIG = "/nodes/{node}/qemu/{vmid}/config"
HIDDEN = "**********"
MOST_CPU_UNITS = 10000  # of cgroup v2
NOT_VALUES = {
    "delete", "revert", "force", "digest", "skiplock", "background_delay", "skip_cloud_init",
    "import-working-storage",
}  # fmt: skip


@endpoint("GET", CONFIG)
def read(call: Call) -> Row:
    """With pending changes already made, unless `current=1`; of a snapshot with `snapshot=`."""
    name = call.params.get("snapshot")
    if name and call.params.get("current"):
        text = "cannot use 'snapshot' parameter with 'current'"
        raise Invalid(snapshot=text, current=text)
    vm = call.vm()
    if name:
        if name not in vm.snapshots:
            raise Failed(f"snapshot '{name}' does not exist")
        return _masked(vm.snapshots[name].section()) | {"digest": vm.digest}
    shown = dict(vm.config)
    if not call.params.get("current"):
        shown |= vm.pending
        # A Perl truth: what is 0 is not taken out.
        gone = {key for key in vm.deletes if shown.get(key) not in (0, "0")}
        shown = {key: value for key, value in shown.items() if key not in gone}
    if vm.parent:
        shown["parent"] = vm.parent
    return _masked(shown) | {"digest": vm.digest}


@endpoint("GET", "/nodes/{node}/qemu/{vmid}/pending")
def pending(call: Call) -> list[Row]:
    """Each key with its value, what it will be at the next start, and whether it will go."""
    vm = call.vm()
    rows: list[Row] = []
    parent = {"parent": vm.parent} if vm.parent else {}
    for key, value in (vm.config | parent | {"digest": vm.digest}).items():
        row: Row = {"key": key, "value": HIDDEN if key == "cipassword" else value}
        if key in vm.pending:
            row["pending"] = vm.pending[key]
        if key in vm.deletes:
            row["delete"] = vm.deletes[key]
        rows.append(row)
    fresh = (key for key in vm.pending if key not in vm.config)
    rows += [{"key": key, "pending": vm.pending[key]} for key in fresh]
    left = (key for key in vm.deletes if key not in vm.config)
    return rows + [{"key": key, "delete": vm.deletes[key]} for key in left]


@endpoint("PUT", CONFIG, protected=True)
def put(call: Call) -> Steps[None]:
    yield from _change(call, _wanted(call))


@endpoint("POST", CONFIG, protected=True, latency="fork")
def post(call: Call) -> str:
    change = _wanted(call)
    config.refuse(call.vm(), change)
    return call.start("qmconfig", call.vmid, lambda task: _change(call, change))


@endpoint("PUT", "/nodes/{node}/qemu/{vmid}/resize", protected=True, latency="fork")
def resize(call: Call) -> str:
    rights.only_root(call, "skiplock")
    return call.start("resize", call.vmid, lambda task: _resize(call))


@endpoint("PUT", "/nodes/{node}/qemu/{vmid}/unlink", protected=True)
def unlink(call: Call) -> Steps[None]:
    keys = split_list(str(call.params["idlist"]))
    change = config.Change(deletes=keys, is_forced=bool(call.params.get("force")))
    yield from _change(call, change)


@endpoint("GET", "/nodes/{node}/qemu/{vmid}/cloudinit")
def cloudinit_pending(call: Call) -> list[Row]:
    vm = call.vm()
    return [
        {"key": key, "value": HIDDEN if key == "cipassword" else value}
        for key, value in vm.config.items()
        if key in config.CLOUDINIT_KEYS or key == "name" or re.match(r"(ipconfig|net)\d", key)
    ]


@endpoint("PUT", "/nodes/{node}/qemu/{vmid}/cloudinit", protected=True)
def cloudinit_regenerate(call: Call) -> Steps[None]:
    with (yield from call.cluster.locks.config(call.node.name, call.vmid).hold(CONFIG_TIMEOUT_S)):
        vm = call.vm()
        vm.refuse_if_locked()
        if vm.cloudinit_drive() is None:
            raise Failed("no cloudinit config changes")
        yield call.cluster.wait("config")


def split_list(text: str) -> list[str]:
    return [part for part in re.split(r"[,;\s\0]+", text) if part]


def normal(values: Config) -> Config:
    """Values as they are kept: tags once each, in lower case and in order."""
    found = dict(values)
    if "tags" in found:
        tags = {tag.lower() for tag in split_list(str(found["tags"]))}
        found["tags"] = ";".join(sorted(tags))
    if "sshkeys" in found:
        check_ssh_keys(str(found["sshkeys"]))
    if "cpuunits" in found:
        found["cpuunits"] = min(max(int(found["cpuunits"]), 1), MOST_CPU_UNITS)
    if "cdrom" in found:
        found["ide2"] = f"{found.pop('cdrom')},media=cdrom"
    return found


def check_ssh_keys(encoded: str) -> None:
    for line in urllib.parse.unquote(encoded).splitlines():
        if line.strip() and not re.match(r"(\S+ )?(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]+", line):
            raise Failed("SSH public key validation error")


def _wanted(call: Call) -> config.Change:
    rights.only_root(call, "skiplock")
    given = call.given()
    values = normal({key: value for key, value in given.items() if key not in NOT_VALUES})
    change = config.Change(
        config.with_macs(call.cluster, values),
        ["ide2" if key == "cdrom" else key for key in split_list(str(given.get("delete", "")))],
        split_list(str(given.get("revert", ""))),
        bool(given.get("force")),
        given.get("digest"),
        bool(given.get("skiplock")),
    )
    config.check(call.cluster, call.node.name, change)
    vm = call.cluster.vms.get(call.vmid)
    rights.may_delete(call, change.deletes, vm)
    rights.may_change(call, list(change.values))
    rights.may_change_drives(call, change.values, vm)
    rights.may_use_bridges(call, change.values)
    return change


def _change(call: Call, change: config.Change) -> Steps[None]:
    locks, vmid = call.cluster.locks, call.vmid
    with (yield from locks.config(call.node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        yield from config.update(call.cluster, call.vm(), change)
        yield call.cluster.wait("config")


def _resize(call: Call) -> Steps[None]:
    with (yield from call.cluster.locks.config(call.node.name, call.vmid).hold(CONFIG_TIMEOUT_S)):
        vm, key = call.vm(), str(call.params["disk"])
        if call.params.get("digest") not in (None, vm.digest):
            raise Failed("checksum mismatch (file change by other user?)")
        vm.refuse_if_locked()
        if key not in vm.config:
            raise Failed(f"disk '{key}' does not exist")
        drive = parse_drive(str(vm.config[key]))
        if is_cdrom(drive):
            raise Failed("you can't resize a cdrom")
        rights.on_storage(call, drive["file"].split(":")[0], "Datastore.AllocateSpace")
        volume = call.cluster.storages.volume(drive["file"], vm.node)
        refuse_open_images(call.cluster, [volume] if volume else [])
        size = _new_size(str(call.params["size"]), volume.size if volume else 0)
        yield call.cluster.wait("resize")
        _grow(call, vm, key, drive, size)


def _new_size(text: str, old: int) -> int:
    size = (parse_size(text.removeprefix("+")) or 0) + (old if text.startswith("+") else 0)
    if size < old:
        raise Failed("shrinking disks is not supported")
    return size


def _grow(call: Call, vm: Vm, key: str, drive: dict[str, str], size: int) -> None:
    call.cluster.write(vm)
    volume = call.cluster.storages.volume(drive["file"], vm.node)
    if volume is None:
        raise Failed(f"volume '{drive['file']}' does not exist")
    if volume.size != size:
        volume.size = size
        vm.config[key] = print_drive(drive | {"size": print_size(size)})


def _masked(shown: Config) -> Row:
    return {key: HIDDEN if key == "cipassword" else value for key, value in shown.items()}
