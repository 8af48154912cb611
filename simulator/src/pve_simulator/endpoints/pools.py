"""/pools: names for sets of VMs and storages. Both ways of naming one, in the path and not."""

from typing import Any

from pve_simulator.access.directory import Pool
from pve_simulator.api import Failed
from pve_simulator.dispatch import Call
from pve_simulator.endpoints.cluster import storage_row, vm_row
from pve_simulator.endpoints.users import directory_of
from pve_simulator.formats import split_list
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/pools")
def list_pools(call: Call) -> list[Row]:
    if call.params.get("poolid"):
        return [_with_members(call)]
    return [
        {"poolid": name, **_comment(pool)}
        for name, pool in sorted(directory_of(call).pools.items())
        if call.cluster.access.has(call.identity, f"/pool/{name}", "Pool.Audit")
    ]


@endpoint("GET", "/pools/{poolid}")
def read_pool(call: Call) -> Row:
    return _with_members(call)


@endpoint("POST", "/pools", protected=True)
def create_pool(call: Call) -> None:
    name, pools = call.params["poolid"], directory_of(call).pools
    with call.cluster.access.change("create pool failed"):
        if name in pools:
            raise Failed(f"pool '{name}' already exists")
        parent, slash, leaf = name.rpartition("/")
        if slash and parent not in pools:
            raise Failed(f"parent '{parent}' of pool '{name}' does not exist")
        if call.cluster.access.major >= 9 and not (leaf[:1].isascii() and leaf[:1].isalpha()):
            raise Failed("pool name must start with a letter")
        pools[name] = Pool(call.params.get("comment", ""))


@endpoint("PUT", "/pools", protected=True)
@endpoint("PUT", "/pools/{poolid}", protected=True)
def update_pool(call: Call) -> None:
    with call.cluster.access.change("update pools failed"):
        pool = _pool(call)
        pool.comment = call.params.get("comment", pool.comment)
        changed = Pool(vms=set(pool.vms), storages=set(pool.storages))
        moved = [
            vmid
            for vmid in split_list(call.params.get("vms") or "")
            if _change_vm(call, changed, int(vmid))
        ]
        for storage in split_list(call.params.get("storage") or ""):
            _change_storage(call, changed, storage)
        for vmid in moved:
            for other in directory_of(call).pools.values():
                other.vms.discard(int(vmid))
        pool.vms, pool.storages = changed.vms, changed.storages


@endpoint("DELETE", "/pools", protected=True)
@endpoint("DELETE", "/pools/{poolid}", protected=True)
def delete_pool(call: Call) -> None:
    name, directory = call.params["poolid"], directory_of(call)
    with call.cluster.access.change("delete pool failed"):
        pool = _pool(call)
        start = f"pool '{name}' is not empty (contains"
        for other in sorted(directory.pools):
            if other.rpartition("/")[0] == name:
                raise Failed(f"{start} pool '{other}')")
        for vmid in sorted(pool.vms, key=str):
            if vmid in call.cluster.vms:
                raise Failed(f"{start} VM {vmid})")
        for storage in sorted(pool.storages):
            if call.cluster.storages.find(storage):
                raise Failed(f"{start} storage '{storage}')")
        del directory.pools[name]
        directory.acl.pop(f"/pool/{name}", None)


def _with_members(call: Call) -> Row:
    name, pool = call.params["poolid"], _pool(call)
    kind = call.params.get("type")
    members: list[Row] = []
    if kind in (None, "qemu"):
        members += [
            vm_row(call, call.cluster.vms[vmid])
            for vmid in sorted(pool.vms, key=str)
            if vmid in call.cluster.vms
        ]
    if kind in (None, "storage"):
        members += [
            storage_row(call, storage)
            for storage in sorted(pool.storages)
            if call.cluster.storages.find(storage)
        ]
    return {"poolid": name, "members": members, **_comment(pool)}


def _change_vm(call: Call, pool: Pool, vmid: int) -> bool:
    """Whether it came from another pool."""
    call.cluster.access.rules(call.identity).can_modify(f"/vms/{vmid}")
    if call.params.get("delete"):
        if vmid not in pool.vms:
            raise Failed(f"VM {vmid} is not a pool member")
        pool.vms.discard(vmid)
        return False
    if vmid in pool.vms:
        raise Failed(f"VM {vmid} is already a pool member")
    other = directory_of(call).pool_of(vmid)
    if other is not None and not call.params.get("allow-move"):
        raise Failed(f"VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set")
    if other is not None:
        call.cluster.access.require(call.identity, f"/pool/{other}", "Pool.Allocate")
    pool.vms.add(vmid)
    return other is not None


def _change_storage(call: Call, pool: Pool, storage: str) -> None:
    call.cluster.access.rules(call.identity).can_modify(f"/storage/{storage}")
    if call.params.get("delete"):
        if storage not in pool.storages:
            raise Failed(f"Storage '{storage}' is not a pool member")
        pool.storages.discard(storage)
    elif storage in pool.storages:
        raise Failed(f"Storage '{storage}' is already a pool member")
    else:
        pool.storages.add(storage)


def _pool(call: Call) -> Pool:
    name = call.params["poolid"]
    found = directory_of(call).pools.get(name)
    if found is None:
        raise Failed(f"pool '{name}' does not exist")
    return found


def _comment(pool: Pool) -> Row:
    return {"comment": pool.comment} if pool.comment else {}
