"""Snapshots of a virtual machine."""

from typing import Any

from pve_simulator.api import Failed
from pve_simulator.dispatch import Call
from pve_simulator.engine import snapshots
from pve_simulator.router import endpoint

Row = dict[str, Any]
SNAPSHOTS = "/nodes/{node}/qemu/{vmid}/snapshot"
ONE = f"{SNAPSHOTS}/{{snapname}}"


@endpoint("GET", SNAPSHOTS, protected=True)
def list_snapshots(call: Call) -> list[Row]:
    """All, and `current`: the state that is none."""
    vm = call.vm()
    rows: list[Row] = []
    for snapshot in vm.snapshots.values():
        row: Row = {
            "name": snapshot.name,
            "snaptime": snapshot.time,
            "vmstate": int(bool(snapshot.vmstate)),
            "description": snapshot.description,
        }
        if snapshot.parent:
            row["parent"] = snapshot.parent
        if snapshot.state:
            row["snapstate"] = snapshot.state
        rows.append(row)
    now: Row = {
        "name": "current",
        "description": "You are here!",
        "digest": vm.digest,
        "running": int(vm.is_running),
    }
    if vm.parent:
        now["parent"] = vm.parent
    return [*rows, now]


@endpoint("POST", SNAPSHOTS, protected=True, latency="fork")
def create(call: Call) -> str:
    node, vmid, name = call.node, call.vmid, str(call.params["snapname"])
    if name == "current":
        raise Failed("unable to use snapshot name 'current' (reserved name)")
    if name.lower() == "pending":
        raise Failed("unable to use snapshot name 'pending' (reserved name)")
    call.vm()
    text, has_memory = str(call.params.get("description", "")), bool(call.params.get("vmstate"))
    return call.start(
        "qmsnapshot",
        vmid,
        lambda _: snapshots.create(call.cluster, node, vmid, name, text, has_memory),
    )


@endpoint("GET", ONE)
def index(call: Call) -> list[Row]:
    return [{"cmd": name} for name in ("config", "rollback")]


@endpoint("DELETE", ONE, protected=True, latency="fork")
def delete(call: Call) -> str:
    node, vmid, name = call.node, call.vmid, str(call.params["snapname"])
    is_forced = bool(call.params.get("force"))
    return call.start(
        "qmdelsnapshot",
        vmid,
        lambda _: snapshots.delete(call.cluster, node, vmid, name, is_forced),
    )


@endpoint("POST", f"{ONE}/rollback", protected=True, latency="fork")
def rollback(call: Call) -> str:
    node, vmid, name = call.node, call.vmid, str(call.params["snapname"])
    starts = bool(call.params.get("start"))
    return call.start(
        "qmrollback", vmid, lambda _: snapshots.rollback(call.cluster, node, vmid, name, starts)
    )


@endpoint("GET", f"{ONE}/config")
def config(call: Call) -> Row:
    return snapshots.get(call.vm(), str(call.params["snapname"])).section()


@endpoint("PUT", f"{ONE}/config", protected=True)
def describe(call: Call) -> None:
    if call.params.get("description") is None:
        return
    vm = call.vm()
    vm.refuse_if_locked()
    snapshot = snapshots.get(vm, str(call.params["snapname"]))
    call.cluster.write(vm)
    snapshot.description = str(call.params["description"])
