"""Virtual machines of a node: list, create, clone, make a template, move, destroy."""

from typing import Any

from pve_simulator.api import Failed, Steps
from pve_simulator.dispatch import Call
from pve_simulator.endpoints import rights
from pve_simulator.endpoints.config import normal
from pve_simulator.endpoints.status import live
from pve_simulator.engine import clone, config, create, destroy, migrate, move
from pve_simulator.engine.properties import is_cdrom, is_cloudinit
from pve_simulator.router import endpoint

Row = dict[str, Any]
QEMU = "/nodes/{node}/qemu"
VM = f"{QEMU}/{{vmid}}"
NOT_VALUES = {
    "archive", "bwlimit", "force", "pool", "start", "storage", "unique", "live-restore",
    "import-working-storage",
}  # fmt: skip


@endpoint("GET", QEMU, protected=True)
def list_vms(call: Call) -> list[Row]:
    """Read from the processes and files themselves, so never old."""
    has = call.cluster.access.has
    return [
        live(call, vm, is_full=bool(call.params.get("full")))
        for vmid, vm in call.cluster.vms.items()
        if vm.node == call.node.name and has(call.identity, f"/vms/{vmid}", "VM.Audit")
    ]


@endpoint("POST", QEMU, protected=True, latency="fork")
def create_vm(call: Call) -> Steps[str]:
    """A new VM. Its id is taken before there is a task."""
    given, cluster = call.given(), call.cluster
    cluster.need_quorum()
    pool, storage = given.get("pool"), given.get("storage")
    if pool:
        cluster.access.check_pool_exists(pool)
    if storage:
        rights.on_storage(call, storage, "Datastore.AllocateSpace")
    rights.may_create(call, pool)
    vmid = int(given["vmid"])
    values = {k: v for k, v in given.items() if k not in NOT_VALUES and k != "vmid"}
    values = config.with_macs(cluster, normal(values))
    if given.get("archive"):
        raise Failed("restoring a backup is not simulated")
    config.check(cluster, call.node.name, config.Change(values or {"name": ""}))
    rights.may_change(call, list(values))
    rights.may_change_drives(call, values)
    rights.may_use_bridges(call, values)
    vm = yield from create.reserve(cluster, call.node, vmid)
    starts = bool(given.get("start"))

    def work(task: Any) -> Steps[None]:
        yield from create.create(cluster, vm, values, storage, pool)
        if starts:
            yield from create.autostart(cluster, call.node, vm, task)

    return call.start("qmcreate", vmid, work)


@endpoint("GET", VM)
def index(call: Call) -> list[Row]:
    names = ("config", "pending", "status", "agent", "snapshot", "clone", "migrate", "resize")
    return [{"subdir": name} for name in names]


@endpoint("POST", f"{VM}/clone", protected=True, latency="fork")
def clone_vm(call: Call) -> str:
    given = call.params.get
    request = clone.CloneRequest(
        vmid=call.vmid,
        newid=int(call.params["newid"]),
        target=given("target"),
        is_full=given("full"),
        storage=given("storage"),
        format=given("format"),
        name=given("name"),
        description=given("description"),
        snapname=given("snapname"),
        pool=given("pool"),
    )
    planned = clone.check(call.cluster, call.node, request)
    for drive in planned.drives.values():
        target = request.storage or drive["file"].split(":")[0]
        if not is_cdrom(drive) and not is_cloudinit(drive):
            rights.on_storage(call, target, "Datastore.AllocateSpace")
    rights.may_use_bridges(call, planned.config)
    return call.start(
        "qmclone", call.vmid, lambda task: clone.run(call.cluster, call.node, planned, task)
    )


@endpoint("POST", f"{VM}/template", protected=True, latency="fork")
def template(call: Call) -> str:
    create.check_template(call.vm())
    node, vmid = call.node, call.vmid
    return call.start("qmtemplate", vmid, lambda _: create.make_template(call.cluster, node, vmid))


@endpoint("GET", f"{VM}/feature", protected=True)
def feature(call: Call) -> Row:
    """Whether all disks can be cloned, copied or snapshotted."""
    vm, storages = call.vm(), call.cluster.storages
    wanted = str(call.params["feature"])
    volumes = [storages.volume(drive["file"], vm.node) for drive in vm.disks().values()]
    can = {
        "copy": True,
        "clone": all(v and v.is_base and storages.get(v.storage).can_link for v in volumes),
        "snapshot": not vm.is_template and all(v and v.format == "qcow2" for v in volumes),
    }
    shared = all(v and storages.get(v.storage).is_shared for v in volumes)
    names = list(call.cluster.nodes) if shared else [vm.node]
    return {"hasFeature": int(can.get(wanted, False)), "nodes": names}


@endpoint("POST", f"{VM}/move_disk", protected=True, latency="fork")
def move_disk(call: Call) -> str:
    given, vm, node = call.params.get, call.vm(), call.node
    order = move.Order(
        str(call.params["disk"]), str(given("storage", "")), given("format"), bool(given("delete"))
    )
    move.check(call.cluster, vm, order)
    rights.on_storage(call, order.storage, "Datastore.AllocateSpace")
    return call.start(
        "qmmove", vm.vmid, lambda task: move.run(call.cluster, node, vm.vmid, order, task)
    )


@endpoint("GET", f"{VM}/migrate", protected=True)
def migrate_preconditions(call: Call) -> Row:
    vm = call.vm()
    return migrate.preconditions(call.cluster, vm)


@endpoint("POST", f"{VM}/migrate", protected=True, latency="fork")
def migrate_vm(call: Call) -> str:
    cluster, target = call.cluster, str(call.params["target"])
    cluster.need_quorum()
    migrate.check(cluster, call.vm(), target, bool(call.params.get("online")))
    vmid, node = call.vmid, call.node
    return call.start("qmigrate", vmid, lambda task: migrate.run(cluster, node, vmid, target, task))


@endpoint("DELETE", VM, protected=True, latency="fork")
def destroy_vm(call: Call) -> str:
    rights.only_root(call, "skiplock")
    vm = call.vm()
    order = destroy.Order(
        purges=bool(call.params.get("purge")),
        takes_unreferenced=bool(call.params.get("destroy-unreferenced-disks")),
        skips_lock=bool(call.params.get("skiplock")),
    )
    destroy.check(call.cluster, vm, order)
    call.cluster.faults.glitch_destroy()
    return call.start("qmdestroy", vm.vmid, lambda task: destroy.run(call.cluster, vm, task, order))
