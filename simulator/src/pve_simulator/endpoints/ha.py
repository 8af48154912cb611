"""High availability: nothing is managed by it in a simulated cluster."""

from typing import Any

from pve_simulator.api import Failed
from pve_simulator.dispatch import Call
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/cluster/ha/resources")
def resources(call: Call) -> list[Row]:
    return []


@endpoint("GET", "/cluster/ha/resources/{sid}")
def resource(call: Call) -> Row:
    sid = str(call.params["sid"])
    raise Failed(f"no such resource '{sid if ':' in sid else f'vm:{sid}'}'")


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
