"""/nodes and a node's own facts."""

from typing import Any

from pve_simulator.dispatch import Call
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/nodes")
def list_nodes(call: Call) -> list[Row]:
    return [_row(call, name) for name in call.cluster.nodes]


def _row(call: Call, name: str) -> Row:
    node = call.cluster.nodes[name]
    row: Row = {
        "id": f"node/{name}",
        "node": name,
        "type": "node",
        "level": "",
        "status": "online" if node.is_online else "offline",
        "ssl_fingerprint": node.fingerprint,
    }
    if not call.cluster.access.has(call.identity, f"/nodes/{name}", "Sys.Audit"):
        return row
    seen = call.cluster.stats.nodes.get(name, {})
    if not node.is_online:
        return row | {key: seen[key] for key in ("maxcpu", "maxmem", "maxdisk") if key in seen}
    return row | seen
