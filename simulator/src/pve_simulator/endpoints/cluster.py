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


@endpoint("GET", "/cluster/options")
def options(call: Call) -> Row:
    return {"keyboard": "en-us", "mac_prefix": call.cluster.mac_prefix}


@endpoint("GET", "/cluster")
def index(call: Call) -> list[Row]:
    names = ("ha", "nextid", "options", "resources", "status", "tasks")
    return [{"name": name} for name in names]


@endpoint("GET", "/cluster/resources")
def resources(call: Call) -> list[Row]:
    """Everything one may audit. Mostly as old as the last look."""
    kind = call.params.get("type")
    rows: list[Row] = []
    if kind in (None, "pool"):
        rows += _pool_rows(call)
    if kind in (None, "vm"):
        rows += _vm_rows(call)
    if kind in (None, "node"):
        rows += [_node_row(call, name) for name in call.cluster.nodes]
    if kind in (None, "storage"):
        rows += _storage_rows(call)
    if kind in (None, "sdn"):
        rows += _sdn_rows(call)
    return rows


def vm_row(call: Call, vm: Vm) -> Row:
    """What pvestatd saw of a VM."""
    row: Row = {"id": f"qemu/{vm.vmid}", "type": "qemu", "vmid": vm.vmid, "node": vm.node}
    return row | call.cluster.stats.last_seen(vm.vmid)


def storage_row(call: Call, storage_id: str, node: str = "") -> Row:
    """What pvestatd saw of a storage, on a node or on the one that answers."""
    storage = call.cluster.storages.get(storage_id)
    on = node or call.request.entry
    if not storage.is_on(on):
        on = sorted(storage.nodes)[0]
    look = call.cluster.stats.storages.get((on, storage.id), {})
    return {
        "id": f"storage/{on}/{storage.id}",
        "type": "storage",
        "storage": storage.id,
        "node": on,
        "plugintype": storage.type,
        "content": ",".join(storage.content),
        "shared": int(storage.is_shared),
        "status": "available" if look else "unknown",
        **look,
    }


def _vm_rows(call: Call) -> list[Row]:
    has = call.cluster.access.has
    rows = []
    for vm in sorted(call.cluster.vms.values(), key=lambda vm: str(vm.vmid)):
        if not has(call.identity, f"/vms/{vm.vmid}", "VM.Audit"):
            continue
        row = vm_row(call, vm)
        row |= {key: vm.config[key] for key in ("tags", "lock") if key in vm.config}
        if managed := call.cluster.ha.get(f"vm:{vm.vmid}"):
            row["hastate"] = managed.get("state", "started")
        pool = call.cluster.access.pool_of(vm.vmid)
        if pool and has(call.identity, f"/pool/{pool}", "Pool.Audit"):
            row["pool"] = pool
        rows.append(row)
    return rows


def _pool_rows(call: Call) -> list[Row]:
    """Each pool, with the sums of its running VMs where not only pools were asked for."""
    access = call.cluster.access
    rows = []
    for name, pool in sorted(access.directory.pools.items()):
        if not access.has(call.identity, f"/pool/{name}", "Pool.Audit"):
            continue
        row: Row = {"id": f"/pool/{name}", "pool": name, "type": "pool"}
        if call.params.get("type") is None:
            seen = (call.cluster.stats.vms.get(vmid, {}) for vmid in pool.vms)
            row |= _sums([look for look in seen if look.get("uptime")])
        rows.append(row)
    return rows


def _sums(running: list[Row]) -> Row:
    if not running:
        return {}
    cpus = sum(look["maxcpu"] for look in running)
    return {
        "uptime": max(look["uptime"] for look in running),
        "mem": sum(look["mem"] for look in running),
        "maxmem": sum(look["maxmem"] for look in running),
        "maxcpu": cpus,
        "cpu": sum(look["cpu"] * look["maxcpu"] for look in running) / cpus,
    }


def _node_row(call: Call, name: str) -> Row:
    node = call.cluster.nodes[name]
    row: Row = {"id": f"node/{name}", "type": "node", "node": name, "level": "", "cgroup-mode": 2}
    row["status"] = "online" if node.is_online else "offline"
    if not call.cluster.access.has(call.identity, f"/nodes/{name}", "Sys.Audit"):
        return row
    seen = call.cluster.stats.nodes.get(name, {})
    if not node.is_online:
        return row | {key: seen[key] for key in ("maxcpu", "maxmem", "maxdisk") if key in seen}
    return row | seen


def _storage_rows(call: Call) -> list[Row]:
    return [
        storage_row(call, storage.id, name)
        for storage in call.cluster.storages
        if call.cluster.access.has(call.identity, f"/storage/{storage.id}", "Datastore.Audit")
        for name in call.cluster.nodes
        if storage.is_on(name)
    ]


def _sdn_rows(call: Call) -> list[Row]:
    if not call.cluster.access.has(call.identity, "/sdn/zones/localnetwork", "SDN.Audit"):
        return []
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


@endpoint("GET", "/cluster/status")
def status(call: Call) -> list[Row]:
    """One row for a node alone; of a cluster one more, with the quorum."""
    cluster = call.cluster
    rows: list[Row] = []
    if cluster.name:
        rows.append(
            {
                "type": "cluster",
                "id": "cluster",
                "name": cluster.name,
                "nodes": len(cluster.nodes),
                "version": cluster.config_version,
                "quorate": int(cluster.is_quorate),
            }
        )
    for node in cluster.nodes.values():
        rows.append(
            {
                "type": "node",
                "id": f"node/{node.name}",
                "name": node.name,
                "nodeid": node.number if cluster.name else 0,
                "local": int(node.name == call.request.entry),
                "online": int(node.is_online),
                "ip": node.address,
                "level": "",
            }
        )
    return rows
