"""High availability: which VMs are managed by it, and in which state they ought to be.

Nothing is moved or restarted: no fencing is simulated.
"""

from typing import Any

from pve_simulator.api import Failed, Invalid
from pve_simulator.dispatch import Call
from pve_simulator.engine.cluster import Cluster
from pve_simulator.router import endpoint

Row = dict[str, Any]
RESOURCES = "/cluster/ha/resources"
ONE = f"{RESOURCES}/{{sid}}"
SETTINGS = ("state", "group", "max_relocate", "max_restart", "comment")


def state_of(cluster: Cluster, vmid: int) -> Row:
    """As a VM's own status shows it."""
    found = cluster.ha.get(f"vm:{vmid}")
    if found is None:
        return {"managed": 0}
    return {"managed": 1, "state": found.get("state", "started")}


@endpoint("GET", RESOURCES)
def list_resources(call: Call) -> list[Row]:
    kind = call.params.get("type")
    return [
        _row(call, sid) for sid in sorted(call.cluster.ha) if kind in (None, sid.partition(":")[0])
    ]


@endpoint("GET", ONE)
def read_resource(call: Call) -> Row:
    return _row(call, _known(call)) | {"digest": "0" * 40}


@endpoint("POST", RESOURCES, protected=True)
def add_resource(call: Call) -> None:
    sid = _sid(call)
    call.cluster.need_quorum()
    if sid in call.cluster.ha:
        raise Failed(f"create resource failed: resource ID '{sid}' already defined")
    kind, _, name = sid.partition(":")
    if kind != "vm" or not name.isdecimal() or int(name) not in call.cluster.vms:
        raise Failed(f"resource 'vm:{name}' does not exist in cluster")
    call.cluster.ha[sid] = {"state": "started", **_settings(call)}


@endpoint("PUT", ONE, protected=True)
def update_resource(call: Call) -> None:
    sid = _known(call)
    call.cluster.ha[sid] |= _settings(call)
    for key in str(call.params.get("delete", "")).split(","):
        if key and key not in SETTINGS:
            raise Invalid(delete=f"unknown option '{key}'")
        call.cluster.ha[sid].pop(key, None)


@endpoint("DELETE", ONE, protected=True)
def remove_resource(call: Call) -> None:
    del call.cluster.ha[_known(call, "cannot delete service '{sid}', not HA managed!")]


@endpoint("GET", "/cluster/ha/groups")
def groups(call: Call) -> list[Row]:
    return []


@endpoint("GET", "/cluster/ha/status/current")
def status(call: Call) -> list[Row]:
    is_quorate = call.cluster.is_quorate
    return [
        {
            "id": "quorum",
            "type": "quorum",
            "node": call.request.entry,
            "quorate": int(is_quorate),
            "status": "OK" if is_quorate else "No quorum on node!",
        }
    ]


def _row(call: Call, sid: str) -> Row:
    return {"sid": sid, "type": sid.partition(":")[0], **call.cluster.ha[sid]}


def _known(call: Call, text: str = "no such resource '{sid}'") -> str:
    sid = _sid(call)
    if sid not in call.cluster.ha:
        raise Failed(text.replace("{sid}", sid))
    return sid


def _sid(call: Call) -> str:
    sid = str(call.params["sid"])
    return sid if ":" in sid else f"vm:{sid}"


def _settings(call: Call) -> Row:
    return {key: call.params[key] for key in SETTINGS if call.params.get(key) is not None}
