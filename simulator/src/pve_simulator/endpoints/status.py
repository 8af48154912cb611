"""Power: where it stands at once, and the tasks that change it."""

from typing import Any

from pve_simulator.dispatch import Call
from pve_simulator.engine import power
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/nodes/{node}/qemu/{vmid}/status/current")
def current(call: Call) -> Row:
    """Asked from the process itself, so never old."""
    vm = call.vm()
    now = call.cluster.stats.vm_now(vm)
    row: Row = {
        "vmid": vm.vmid,
        "status": now["status"],
        "qmpstatus": vm.run.status if vm.run else "stopped",
        "cpus": vm.cpus,
        "ha": {"managed": 0},
        **{key: now[key] for key in ("maxmem", "maxdisk", "mem", "cpu", "disk", "uptime")},
        **{key: now[key] for key in ("netin", "netout")},
    }
    row |= {key: vm.config[key] for key in ("name", "lock", "tags", "template") if key in vm.config}
    if vm.has_agent:
        row["agent"] = 1
    if any(key.startswith("serial") for key in vm.config):
        row["serial"] = 1
    if vm.run:
        row["pid"] = vm.run.pid
        row["nics"] = {
            f"tap{vm.vmid}i{key[3:]}": {key: now[key] for key in ("netin", "netout")}
            for key in sorted(vm.run.config)
            if key.startswith("net")
        }
    return row


@endpoint("POST", "/nodes/{node}/qemu/{vmid}/status/start", protected=True, latency="fork")
def start(call: Call) -> str:
    call.cluster.need_quorum()
    node, vmid = call.node, call.vmid
    return call.start("qmstart", vmid, lambda task: power.start(call.cluster, node, vmid))


@endpoint("POST", "/nodes/{node}/qemu/{vmid}/status/stop", protected=True, latency="fork")
def stop(call: Call) -> str:
    node, vmid = call.node, call.vmid
    return call.start("qmstop", vmid, lambda task: power.stop(call.cluster, node, vmid))
