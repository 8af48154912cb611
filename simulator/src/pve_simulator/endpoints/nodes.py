"""/nodes and a node's own facts."""

from typing import Any

from pve_simulator.api import Failed
from pve_simulator.dispatch import Call
from pve_simulator.router import endpoint

Row = dict[str, Any]
NODE = "/nodes/{node}"


@endpoint("GET", "/nodes")
def list_nodes(call: Call) -> list[Row]:
    return [_row(call, name) for name in call.cluster.nodes]


@endpoint("GET", NODE)
def index(call: Call) -> list[Row]:
    names = ("qemu", "lxc", "storage", "tasks", "status", "version", "network", "time")
    return [{"name": name} for name in names]


@endpoint("GET", f"{NODE}/status")
def status(call: Call) -> Row:
    """Asked from the kernel itself, so never old."""
    node, now = call.node, call.cluster.stats.node_now(call.node)
    version = call.cluster.version
    kernel = "6.8.12-11-pve" if version.startswith("8") else "6.14.8-2-pve"
    used = now["mem"]
    return {
        "uptime": node.uptime,
        "cpu": now["cpu"],
        "wait": 0,
        "idle": 0,
        "loadavg": ["0.10", "0.12", "0.15"],
        "memory": {"total": node.memory, "used": used, "free": node.memory - used},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {
            "total": node.disk,
            "used": node.disk_used,
            "free": node.disk - node.disk_used,
            "avail": node.disk - node.disk_used,
        },
        "ksm": {"shared": 0},
        "cpuinfo": {
            "cpus": node.cpus,
            "cores": node.cpus,
            "sockets": 1,
            "model": "Simulated CPU",
            "mhz": "2600.000",
            "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov",
            "hvm": "1",
            "user_hz": 100,
        },
        "pveversion": f"pve-manager/{version}/{call.cluster.repoid}",
        "kversion": f"Linux {kernel} #1 SMP PREEMPT_DYNAMIC",
        "current-kernel": {
            "sysname": "Linux",
            "release": kernel,
            "version": "#1 SMP PREEMPT_DYNAMIC",
            "machine": "x86_64",
        },
        "boot-info": {"mode": "legacy-bios"},
    }


@endpoint("GET", f"{NODE}/version")
def version(call: Call) -> Row:
    full = call.cluster.version
    return {
        "version": full,
        "release": ".".join(full.split(".")[:2]),
        "repoid": call.cluster.repoid,
    }


@endpoint("GET", f"{NODE}/time")
def node_time(call: Call) -> Row:
    now = int(call.cluster.unix_time)
    return {"time": now, "localtime": now, "timezone": "UTC"}


@endpoint("GET", f"{NODE}/lxc", protected=True)
def list_containers(call: Call) -> list[Row]:
    """There are no containers in a simulated cluster."""
    return []


@endpoint("GET", f"{NODE}/network")
def network(call: Call) -> list[Row]:
    kind = call.params.get("type")
    if kind not in (None, "bridge", "any_bridge", "any_local_bridge"):
        return []
    return [_bridge(call, name) for name in call.node.bridges]


@endpoint("GET", f"{NODE}/network/{{iface}}")
def network_interface(call: Call) -> Row:
    name = str(call.params["iface"])
    if name not in call.node.bridges:
        raise Failed("interface does not exist")
    return {key: value for key, value in _bridge(call, name).items() if key != "iface"}


def _bridge(call: Call, name: str) -> Row:
    is_first = name == call.node.bridges[0]
    row: Row = {
        "iface": name,
        "type": "bridge",
        "active": 1,
        "autostart": 1,
        "method": "static" if is_first else "manual",
        "method6": "manual",
        "bridge_ports": "",
        "bridge_stp": "off",
        "bridge_fd": "0",
        "families": ["inet"],
        "priority": 3,
    }
    if is_first:
        address = call.node.address
        row |= {"address": address, "cidr": f"{address}/24", "netmask": "24"}
    return row


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
