"""The address of a guest's network card: `ipconfigN` says it, or the simulated DHCP gives one."""

import ipaddress
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pve_simulator.engine.properties import parse, parse_net

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.vm import Vm

DEFAULT_RANGE = "10.10.10.100-10.10.10.250/24"


@dataclass(frozen=True)
class Address:
    ip: str
    prefix: int
    gateway: str = ""


def mac_of(vm: "Vm", net: str) -> str:
    return parse_net(str(vm.config.get(net, ""))).get("macaddr", "").lower()


def address_of(cluster: "Cluster", vm: "Vm", net: str, options: Mapping[str, Any]) -> Address:
    """Of a card (`net0`): static, or out of the option `dhcp` (`first-last/prefix`)."""
    wanted = parse(str(vm.config.get(f"ipconfig{net[3:]}", "ip=dhcp")))
    gateway = wanted.get("gw", str(options.get("gateway", "")))
    if wanted.get("ip", "dhcp") != "dhcp":
        static = ipaddress.ip_interface(wanted["ip"])
        return Address(str(static.ip), static.network.prefixlen, gateway)
    span, _, prefix = str(options.get("dhcp", DEFAULT_RANGE)).partition("/")
    return Address(_leased(cluster, mac_of(vm, net), span), int(prefix or 24), gateway)


def _leased(cluster: "Cluster", mac: str, span: str) -> str:
    """The same address for the same MAC for as long as the simulation lasts."""
    first, last = (int(ipaddress.ip_address(end)) for end in span.split("-"))
    leases = cluster.leases
    if mac not in leases:
        taken, size = set(leases.values()), last - first + 1
        start = zlib.crc32(mac.encode())
        free = (first + (start + step) % size for step in range(size))
        leases[mac] = next((number for number in free if number not in taken), first)
    return str(ipaddress.ip_address(leases[mac]))
