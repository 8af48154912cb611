"""Virtual machines of a node: list, clone, destroy."""

from typing import Any

from pve_simulator.api import Failed
from pve_simulator.dispatch import Call
from pve_simulator.engine import clone, destroy
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/nodes/{node}/qemu")
def list_vms(call: Call) -> list[Row]:
    """Read from the processes and files themselves, so never old."""
    has = call.cluster.access.has
    return [
        _row(call, vmid)
        for vmid, vm in call.cluster.vms.items()
        if vm.node == call.node.name and has(call.identity, f"/vms/{vmid}", "VM.Audit")
    ]


def _row(call: Call, vmid: int) -> Row:
    vm = call.cluster.vms[vmid]
    now = call.cluster.stats.vm_now(vm)
    row: Row = {
        "vmid": vmid,
        "status": now["status"],
        "cpus": vm.cpus,
        **{key: now[key] for key in ("maxmem", "maxdisk", "mem", "cpu", "disk", "uptime")},
        **{key: now[key] for key in ("netin", "netout")},
    }
    if "name" in vm.config:
        row["name"] = vm.config["name"]
    row |= {key: vm.config[key] for key in ("lock", "tags") if key in vm.config}
    if vm.is_template:
        row["template"] = 1
    if any(key.startswith("serial") for key in vm.config):
        row["serial"] = 1
    if vm.run:
        row["pid"] = vm.run.pid
    return row


@endpoint("POST", "/nodes/{node}/qemu/{vmid}/clone", protected=True, latency="fork")
def clone_vm(call: Call) -> str:
    request = clone.CloneRequest(
        vmid=call.vmid,
        newid=int(call.params["newid"]),
        target=call.params.get("target"),
        is_full=call.params.get("full"),
        storage=call.params.get("storage"),
        format=call.params.get("format"),
        name=call.params.get("name"),
        description=call.params.get("description"),
        snapname=call.params.get("snapname"),
        pool=call.params.get("pool"),
    )
    planned = clone.check(call.cluster, call.node, request)
    return call.start(
        "qmclone", call.vmid, lambda task: clone.run(call.cluster, call.node, planned, task)
    )


@endpoint("DELETE", "/nodes/{node}/qemu/{vmid}", protected=True, latency="fork")
def destroy_vm(call: Call) -> str:
    vm = call.vm()
    destroy.check(vm)
    if vm.run:
        raise Failed(f"VM {vm.vmid} is running - destroy failed")
    purge = bool(call.params.get("purge"))
    unreferenced = bool(call.params.get("destroy-unreferenced-disks"))
    skips_lock = bool(call.params.get("skiplock"))
    return call.start(
        "qmdestroy",
        vm.vmid,
        lambda task: destroy.run(call.cluster, vm, task, purge, unreferenced, skips_lock),
    )
