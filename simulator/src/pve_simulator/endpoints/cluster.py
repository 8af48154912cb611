"""/version and /cluster: lists come from pvestatd's last look, ids from the files."""

from typing import Any

from pve_simulator.api import Invalid
from pve_simulator.dispatch import Call
from pve_simulator.engine.vm import Vm
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/version")
def version(call: Call) -> Row:
    full = call.cluster.version
    release = ".".join(full.split(".")[:2])
    return {"version": full, "release": release, "repoid": call.cluster.repoid}


@endpoint("GET", "/cluster/nextid")
def next_id(call: Call) -> str:
    """The lowest free id, which nobody reserves; or whether one is free."""
    wanted = call.params.get("vmid")
    if wanted is None:
        return str(call.cluster.next_id())
    if int(wanted) in call.cluster.vms:
        raise Invalid(vmid=f"VM {wanted} already exists")
    return str(wanted)


@endpoint("GET", "/cluster/resources")
def resources(call: Call) -> list[Row]:
    kind = call.params.get("type")
    rows: list[Row] = []
    if kind in (None, "vm"):
        rows += [
            _vm_row(call, vm)
            for vm in sorted(call.cluster.vms.values(), key=_id)
            if call.cluster.access.has(call.identity, f"/vms/{vm.vmid}", "VM.Audit")
        ]
    if kind in (None, "node"):
        rows += [_node_row(call, name) for name in call.cluster.nodes]
    if kind in (None, "storage"):
        rows += _storage_rows(call)
    if kind in (None, "sdn"):
        rows += _sdn_rows(call)
    return rows


def _id(vm: Vm) -> int:
    return vm.vmid


def _vm_row(call: Call, vm: Vm) -> Row:
    row: Row = {"id": f"qemu/{vm.vmid}", "type": "qemu", "vmid": vm.vmid, "node": vm.node}
    # Tags and lock are read from the configuration at once; the rest is as old as the last look.
    row |= {key: vm.config[key] for key in ("tags", "lock") if key in vm.config}
    if pool := call.cluster.access.pool_of(vm.vmid):
        row["pool"] = pool
    return row | call.cluster.stats.vms.get(vm.vmid, {"status": "unknown"})


def _node_row(call: Call, name: str) -> Row:
    node = call.cluster.nodes[name]
    row: Row = {"id": f"node/{name}", "type": "node", "node": name, "level": "", "cgroup-mode": 2}
    if not node.is_online:
        stats = call.cluster.stats.nodes.get(name, {})
        limits = {key: stats[key] for key in ("maxcpu", "maxmem", "maxdisk") if key in stats}
        return row | {"status": "offline"} | limits
    return row | {"status": "online"} | call.cluster.stats.nodes.get(name, {})


def _storage_rows(call: Call) -> list[Row]:
    rows = []
    for node in call.cluster.nodes.values():
        for storage in call.cluster.storages.on(node.name):
            if not call.cluster.access.has(
                call.identity, f"/storage/{storage.id}", "Datastore.Audit"
            ):
                continue
            look = call.cluster.stats.storages.get((node.name, storage.id), {})
            rows.append(
                {
                    "id": f"storage/{node.name}/{storage.id}",
                    "type": "storage",
                    "storage": storage.id,
                    "node": node.name,
                    "plugintype": storage.type,
                    "content": ",".join(storage.content),
                    "shared": int(storage.is_shared),
                    "status": "available" if look and node.is_online else "unknown",
                    **look,
                }
            )
    return rows


def _sdn_rows(call: Call) -> list[Row]:
    return [
        {
            "id": f"sdn/{name}/localnetwork",
            "type": "sdn",
            "node": name,
            "sdn": "localnetwork",
            "status": "ok",
        }
        for name in call.cluster.nodes
    ]
