"""Power: where it stands at once, and the tasks that change it."""

from typing import Any

from pve_simulator.api import Failed
from pve_simulator.dispatch import Call
from pve_simulator.endpoints import ha, rights
from pve_simulator.engine import power
from pve_simulator.engine.properties import NET, parse
from pve_simulator.engine.vm import Vm
from pve_simulator.router import endpoint

Row = dict[str, Any]
STATUS = "/nodes/{node}/qemu/{vmid}/status"


@endpoint("GET", STATUS)
def index(call: Call) -> list[Row]:
    call.vm()
    names = ("current", "start", "stop", "reset", "shutdown", "suspend", "reboot")
    return [{"subdir": name} for name in names]


@endpoint("GET", f"{STATUS}/current", protected=True)
def current(call: Call) -> Row:
    """Asked from the process itself, so never old."""
    vm = call.vm()
    row = live(call, vm, is_full=True) | {"ha": ha.state_of(call.cluster, vm.vmid)}
    vga = parse(str(vm.config.get("vga", "")), "type")
    if vga:
        if vga.get("type", "").startswith(("virtio", "qxl")):
            row["spice"] = 1
        row["clipboard"] = vga.get("clipboard")
    if vm.has_agent:
        row["agent"] = 1
    return row


def live(call: Call, vm: Vm, *, is_full: bool) -> Row:
    """What both the list of a node and the status of one VM show. `is_full`: what is asked of the
    process, too."""
    now = call.cluster.stats.vm_now(vm)
    shown = ("maxmem", "maxdisk", "mem", "cpu", "disk", "uptime", "netin", "netout")
    row: Row = {"vmid": vm.vmid, "status": now["status"], "cpus": now["maxcpu"]}
    row |= {key: now[key] for key in shown}
    row |= {key: vm.config[key] for key in ("lock", "tags", "template") if key in vm.config}
    row["name"] = vm.config.get("name") or f"VM {vm.vmid}"
    if vm.config.get("balloon"):
        row["balloon_min"] = int(vm.config["balloon"]) << 20
        row["shares"] = int(vm.config.get("shares", 1000))
    if any(key.startswith("serial") for key in vm.config):
        row["serial"] = 1
    if vm.run:
        row["pid"] = vm.run.pid
    return row | _asked_of_process(call, vm, now) if is_full else row


def _asked_of_process(call: Call, vm: Vm, now: Row) -> Row:
    if vm.run is None:
        return {"qmpstatus": "stopped"}
    row: Row = {"qmpstatus": vm.run.status}
    nets = sorted(key for key in vm.run.config if NET.fullmatch(key))
    if nets:
        row["nics"] = {
            f"tap{vm.vmid}i{key[3:]}": {way: now[way] for way in ("netin", "netout")}
            for key in nets
        }
    # The first of the further questions is one that only Proxmox VE's QEMU can answer, and the
    # others are not asked after one that failed.
    return row if call.cluster.has_stock_qemu else row | _of_own_qemu(call, vm, now)


def _of_own_qemu(call: Call, vm: Vm, now: Row) -> Row:
    version = call.cluster.qemu_version
    reads = {"rd_bytes": now["diskread"], "wr_bytes": now["diskwrite"]}
    row: Row = {
        "diskread": now["diskread"],
        "diskwrite": now["diskwrite"],
        "blockstat": {key: dict(reads) for key in vm.drives(vm.run.config if vm.run else None)},
        "running-machine": power.running_as(call.cluster)["runningmachine"],
        "running-qemu": version,
        "proxmox-support": {"pbs-dirty-bitmap": True, "query-bitmap-info": True},
    }
    if vm.config.get("balloon") != 0:
        memory = now["maxmem"]
        row |= {"balloon": memory, "ballooninfo": {"actual": memory, "max_mem": memory}}
    return row


@endpoint("POST", f"{STATUS}/start", protected=True, latency="fork")
def start(call: Call) -> str:
    rights.only_root(call, "skiplock", "stateuri", "migratedfrom", "migration_type")
    call.cluster.need_quorum()
    node, vmid, skips_lock = call.node, call.vmid, bool(call.params.get("skiplock"))
    return call.start("qmstart", vmid, lambda _: power.start(call.cluster, node, vmid, skips_lock))


@endpoint("POST", f"{STATUS}/stop", protected=True, latency="fork")
def stop(call: Call) -> str:
    rights.only_root(call, "skiplock", "keepActive", "migratedfrom")
    node, vmid = call.node, call.vmid
    overrules = bool(call.params.get("overrule-shutdown"))
    return call.start(
        "qmstop", vmid, lambda task: power.stop(call.cluster, node, vmid, task, overrules)
    )


@endpoint("POST", f"{STATUS}/shutdown", protected=True, latency="fork")
def shutdown(call: Call) -> str:
    rights.only_root(call, "skiplock", "keepActive")
    node, vmid, timeout_s = call.node, call.vmid, call.params.get("timeout")
    is_forced = bool(call.params.get("forceStop"))
    vm = call.cluster.vms.get(vmid)
    if vm and vm.run and vm.run.status == "paused" and not is_forced:
        raise Failed("VM is paused - cannot shutdown")
    return call.start(
        "qmshutdown",
        vmid,
        lambda task: power.shutdown(call.cluster, node, vmid, task, timeout_s, is_forced),
    )


@endpoint("POST", f"{STATUS}/reboot", protected=True, latency="fork")
def reboot(call: Call) -> str:
    node, vmid, timeout_s = call.node, call.vmid, call.params.get("timeout")
    vm = _running(call)
    if vm.run and vm.run.status == "paused":
        raise Failed("VM is paused - cannot shutdown")
    return call.start(
        "qmreboot", vmid, lambda task: power.reboot(call.cluster, node, vmid, task, timeout_s)
    )


@endpoint("POST", f"{STATUS}/reset", protected=True, latency="fork")
def reset(call: Call) -> str:
    rights.only_root(call, "skiplock")
    node, vmid = call.node, _running(call).vmid
    return call.start("qmreset", vmid, lambda _: power.reset(call.cluster, node, vmid))


@endpoint("POST", f"{STATUS}/suspend", protected=True, latency="fork")
def suspend(call: Call) -> str:
    rights.only_root(call, "skiplock")
    node, vm = call.node, _running(call)
    if not call.params.get("todisk"):
        return call.start("qmpause", vm.vmid, lambda _: power.pause(call.cluster, node, vm.vmid))
    rights.need(call, "VM.Config.Disk")
    storage = call.params.get("statestorage") or power.state_storage(call.cluster, vm)
    rights.on_storage(call, storage, "Datastore.AllocateSpace")
    return call.start(
        "qmsuspend", vm.vmid, lambda _: power.hibernate(call.cluster, node, vm.vmid, storage)
    )


@endpoint("POST", f"{STATUS}/resume", protected=True, latency="fork")
def resume(call: Call) -> str:
    rights.only_root(call, "skiplock", "nocheck")
    node, vmid = call.node, call.vmid
    vm = call.cluster.vms.get(vmid)
    if vm is not None and vm.node == node.name and vm.lock == "suspended":
        return call.start("qmresume", vmid, lambda _: power.start(call.cluster, node, vmid))
    _running(call)
    return call.start("qmresume", vmid, lambda _: power.resume(call.cluster, node, vmid))


def _running(call: Call) -> Vm:
    vm = call.cluster.vms.get(call.vmid)
    if vm is None or vm.node != call.node.name:
        raise Failed(
            f"unable to find configuration file for VM {call.vmid} on node '{call.node.name}'"
        )
    if vm.run is None:
        raise Failed(f"VM {call.vmid} not running")
    return vm
