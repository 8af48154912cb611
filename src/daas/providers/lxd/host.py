"""What LXD knows about this host: capacity, the bridge and who uses which address on it."""

import socket
from dataclasses import replace
from typing import Any

from daas.errors import ConfigError, NotYet
from daas.providers.base import NodeInfo
from daas.providers.lxd import machine
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.machine import Json, Place, Range

RUNNING = 103  # an operation's status code
HOST_MIB = 1024  # what LXD, our processes and the kernel need, or a tenth of all
NAME = socket.gethostname()
ANY = ("0.0.0.0", "*")


def listening(place: Place) -> Place:
    """Return the place with a real address in the stead of "any": the kernel forwards ports of
    one address only, and people need one to connect to."""
    if place.proxy_listen not in ANY:
        return place
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; chooses the card that leads outside
        except OSError as error:
            raise ConfigError(
                f"There is no network to offer desktops on {place.proxy_listen}; "
                "name the address of this host instead."
            ) from error
        return replace(place, proxy_listen=probe.getsockname()[0])


class Host:
    def __init__(self, client: LxdClient, place: Place):
        self._client, self._place = client, place
        self._capacity: tuple[int, int] | None = None  # cores and MiB: they do not change
        self._range = place.addresses

    def look(self) -> NodeInfo:
        """Return this host as a node; offline, with the reason, while LXD does not answer."""
        try:
            cpus, memory_mib = self._looked_up()
            network = self._network()
            taken = self._taken()
        except NotYet as error:
            return NodeInfo(NAME, is_online=False, why=error.why)
        range_ = self._place.addresses or machine.free_range(network)
        subnet = network.get("ipv4.address") if range_ else None
        within = machine.within(taken, range_) if range_ else frozenset()
        return NodeInfo(NAME, True, cpus, memory_mib, subnet, range_, within)

    def machines(self) -> list[Json]:
        """Return all machines of this LXD, ours or not."""
        found: list[Json] = self._client.request("GET", "/1.0/instances?recursion=1")
        return found

    def operation_on(self, name: str) -> Json | None:
        """Return an operation under way that concerns machine `name`."""
        by_status = self._client.request("GET", "/1.0/operations?recursion=1")
        for one in by_status.get("running", []):
            concerned = [url for urls in (one["resources"] or {}).values() for url in urls]
            if any(url.rpartition("/")[2] == name for url in concerned):
                running: Json = one
                return running
        return None

    def leased_address(self, name: str) -> str:
        """Return the address that DHCP gave to a machine. NotYet while it has none."""
        state = self._client.request("GET", f"/1.0/instances/{name}/state")
        for card in (state.get("network") or {}).values():
            for one in card["addresses"]:
                if one["family"] == "inet" and one["scope"] == "global":
                    return str(one["address"])
        raise NotYet(0.2, "the desktop to get an address")

    def range(self) -> Range | None:
        """Return the addresses we give out on this bridge."""
        if self._range is None:
            self._range = machine.free_range(self._network())
        return self._range

    def proxied(self, address: str) -> str | None:
        """Return host and port that lead to a desktop's RDP, where ports are proxied."""
        listen = self._place.proxy_listen
        range_ = self.range() if listen else None
        if range_ is None:
            return None
        return f"{listen}:{machine.proxied_port(address, range_, self._place.proxy_port_base)}"

    def _looked_up(self) -> tuple[int, int]:
        if self._capacity is None:
            found = self._client.request("GET", "/1.0/resources")
            mib = int(found["memory"]["total"]) // 2**20
            self._capacity = int(found["cpu"]["total"]), mib - max(HOST_MIB, mib // 10)
        return self._capacity

    def _network(self) -> dict[str, Any]:
        found: Json = self._client.request("GET", f"/1.0/networks/{self._place.bridge}")
        return dict(found["config"])

    def _taken(self) -> set[str]:
        leases = self._client.request("GET", f"/1.0/networks/{self._place.bridge}/leases")
        static = {one for found in self.machines() for one in machine.addresses_of(found)}
        return static | {lease["address"] for lease in leases}
