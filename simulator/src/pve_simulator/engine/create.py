"""A new VM from nothing, and a VM made a template."""

from typing import TYPE_CHECKING

import simpy

from pve_simulator.api import Failed, Steps
from pve_simulator.engine import drives, power
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S, CREATE_TIMEOUT_S
from pve_simulator.engine.properties import (
    is_cdrom,
    is_cloudinit,
    is_drive,
    parse_drive,
    print_drive,
)
from pve_simulator.engine.tasks import NODE_DIED, Task
from pve_simulator.engine.vm import Config, Vm
from pve_simulator.engine.volumes import Volume

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node

TARGET_TIMEOUT_S = 1


def reserve(cluster: "Cluster", node: "Node", vmid: int) -> Steps[Vm]:
    """Write the file that takes the id, with the lock `create`; before there is a task."""
    with (yield from cluster.locks.config(node.name, vmid).hold(CREATE_TIMEOUT_S)):
        if taken := cluster.vms.get(vmid):
            raise Failed(
                f"unable to create VM {vmid} - VM {vmid} already exists on node '{taken.node}'"
            )
        vm = Vm(vmid, node.name, {"lock": "create"})
        cluster.vms[vmid] = vm
        return vm


def create(
    cluster: "Cluster", vm: Vm, values: Config, default_storage: str | None, pool: str | None
) -> Steps[None]:
    """Make the disks and write the configuration; or leave nothing."""
    made: list[Volume] = []
    try:
        with (yield from cluster.locks.config(vm.node, vm.vmid).hold(TARGET_TIMEOUT_S)):
            config = _complete(cluster, values)
            for key in sorted(filter(is_drive, values)):
                text = str(values[key])
                config[key] = yield from drives.make(cluster, vm, key, text, default_storage, made)
            config.setdefault("boot", _boot_order(config))
            vm.config = config
    except Exception as error:
        if isinstance(error, simpy.Interrupt) and error.cause == NODE_DIED:
            raise  # nobody is left to clean up
        for volume in made:
            yield from cluster.storages.free(volume.id, vm.node)
        cluster.remove(vm)
        if isinstance(error, Failed):
            raise Failed(f"unable to create VM {vm.vmid} - {error.message}") from error
        raise
    if pool:
        cluster.access.add_vm_to_pool(vm.vmid, pool)


def autostart(cluster: "Cluster", node: "Node", vm: Vm, task: Task) -> Steps[None]:
    """`start=1`: a VM that does not start is created all the same."""
    task.log.append("Execute autostart")
    try:
        yield from power.start(cluster, node, vm.vmid)
    except Failed as error:
        task.log.append(error.message)


def check_template(vm: Vm) -> None:
    vm.refuse_if_locked()
    if vm.snapshots:
        raise Failed("unable to create template, because VM contains snapshots")
    if vm.is_template:
        raise Failed("you can't convert a template to a template")
    if vm.run:
        raise Failed("you can't convert a VM to template if VM is running")


def make_template(cluster: "Cluster", node: "Node", vmid: int) -> Steps[None]:
    """Every disk becomes a base: read-only, and what linked clones are made of."""
    with (yield from cluster.locks.config(node.name, vmid).hold(CONFIG_TIMEOUT_S)):
        vm = cluster.vm_on(node.name, vmid)
        check_template(vm)
        cluster.write(vm)
        vm.config["template"] = 1
        yield cluster.wait("template")
        for key, drive in vm.disks().items():
            volume = cluster.storages.volume(drive["file"], vm.node)
            if volume is not None and not volume.is_base:
                base = cluster.storages.base_from(volume, vm.node)
                vm.config[key] = print_drive(drive | {"file": base.id})


def _complete(cluster: "Cluster", values: Config) -> Config:
    """What Proxmox VE adds to a new configuration by itself."""
    config = {key: value for key, value in values.items() if not is_drive(key)}
    qemu = cluster.qemu_version
    config["meta"] = f"creation-qemu={qemu},ctime={int(cluster.unix_time)}"
    config.setdefault("smbios1", f"uuid={cluster.random_uuid()}")
    if config.get("vmgenid", "1") == "1":
        config["vmgenid"] = cluster.random_uuid()
    return config


def _boot_order(config: Config) -> str:
    """The first disk, the first CD-ROM, the first network card."""
    found = {key: parse_drive(str(config[key])) for key in sorted(filter(is_drive, config))}
    disks = [key for key, drive in found.items() if not is_cdrom(drive)]
    discs = [key for key, drive in found.items() if is_cdrom(drive) or is_cloudinit(drive)]
    nets = sorted(key for key in config if key.startswith("net") and key[3:].isdigit())
    return "order=" + ";".join([*disks[:1], *discs[:1], *nets[:1]])
