"""A guest that is a real LXD (or Incus) container, copied from a stopped one when its VM starts.

The container has the MAC address of the VM's first network card and is destroyed with the VM. The
guest agent is taken for up once the container has an IPv4 address.
"""

import contextlib
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pve_simulator.engine.volumes import owner_of, parse_parent
from pve_simulator.guests import Execution
from pve_simulator.guests.addresses import address_of, mac_of
from pve_simulator.guests.lxd_api import Absent, LxdApi

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.vm import Vm

NOT_COPIED = ("volatile.", "user.")  # what another program wrote about the source
FAMILIES = {"inet": "ipv4", "inet6": "ipv6"}


class LxdGuest:
    """Options: `container` (what is copied), `containers` (the same per template's VM id),
    `prefix` of the copies' names (`pvesim-`), `socket`, `network` (a bridge of LXD's for the card
    eth0, where the container has none). With `dhcp` and `gateway`, or a static `ipconfig0`, the
    address is there before the first process; else the container asks for one itself."""

    is_slow = True

    def __init__(self, cluster: "Cluster", vm: "Vm", options: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._vm = vm
        self._options = options
        self._lxd = LxdApi(options.get("socket"))
        self._source = _source(vm, options)
        self.name = f"{options.get('prefix', 'pvesim-')}{vm.vmid}"

    def start(self, *, is_resumed: bool) -> None:
        status = self._status()
        if status is None:
            self._copy()
        if is_resumed and status == "Frozen":
            self._power("unfreeze")
        elif status == "Running":
            self._power("restart")
        else:
            self._power("start")

    def stop(self, *, is_saved: bool) -> None:
        """Saved memory stays where it is: the container is frozen."""
        if self._status() in ("Running", "Frozen"):
            self._power("freeze" if is_saved else "stop")

    def destroy(self) -> None:
        with contextlib.suppress(Absent):
            if self._status() in ("Running", "Frozen"):
                self._power("stop")
            self._lxd.ask("DELETE", f"/1.0/instances/{self.name}")

    def snapshot_taken(self, name: str) -> None:
        self._lxd.ask("POST", f"/1.0/instances/{self.name}/snapshots", {"name": name})

    def rolled_back(self, name: str) -> None:
        """A container that runs is stopped for it, as the VM was."""
        self.stop(is_saved=False)
        self._lxd.ask("PUT", f"/1.0/instances/{self.name}", {"restore": name})

    def is_agent_up(self) -> bool:
        with contextlib.suppress(OSError):
            return any(
                address["ip-address-type"] == "ipv4"
                for card in self.interfaces()
                for address in card["ip-addresses"]
                if card["name"] != "lo"
            )
        return False

    def interfaces(self) -> list[dict[str, Any]]:
        state = self._lxd.ask("GET", f"/1.0/instances/{self.name}/state")
        return [_interface(name, card) for name, card in (state.get("network") or {}).items()]

    def os_info(self) -> dict[str, str]:
        lines = self.read_file("/etc/os-release").decode().splitlines()
        pairs = dict(line.split("=", 1) for line in lines if "=" in line)
        wanted = {"id": "ID", "name": "NAME", "pretty-name": "PRETTY_NAME", "version": "VERSION"}
        return {key: pairs[name].strip('"') for key, name in wanted.items() if name in pairs}

    def execute(self, args: list[str], stdin: bytes) -> Execution:
        if not stdin:
            return _execution(*self._lxd.execute(self.name, args))
        # A file that only root may read, and only for as long as the command runs.
        path = f"/run/.stdin-{uuid.uuid4().hex}"
        self._lxd.write_file(self.name, path, stdin, 0o600)
        try:
            command = ["sh", "-c", 'file=$1; shift; exec "$@" <"$file"', "sh", path, *args]
            return _execution(*self._lxd.execute(self.name, command))
        finally:
            self._lxd.remove_file(self.name, path)

    def read_file(self, path: str) -> bytes:
        try:
            return self._lxd.read_file(self.name, path)
        except Absent as error:
            raise FileNotFoundError(path) from error

    def write_file(self, path: str, content: bytes) -> None:
        self._lxd.write_file(self.name, path, content)

    def _status(self) -> str | None:
        try:
            return str(self._lxd.ask("GET", f"/1.0/instances/{self.name}")["status"])
        except Absent:
            return None

    def _power(self, action: str) -> None:
        order = {"action": action, "force": True, "timeout": 30}
        self._lxd.ask("PUT", f"/1.0/instances/{self.name}/state", order)

    def _copy(self) -> None:
        source = self._lxd.ask("GET", f"/1.0/instances/{self._source}")
        # The API copies the disk alone; profiles, devices and settings are asked for.
        config = {k: v for k, v in source["config"].items() if not k.startswith(NOT_COPIED)}
        devices = dict(source["devices"])
        if network := self._options.get("network"):
            devices["eth0"] = {"type": "nic", "network": network, "name": "eth0"}
        if mac := mac_of(self._vm, "net0"):
            config["volatile.eth0.hwaddr"] = mac
        order = {
            "name": self.name,
            "profiles": source["profiles"],
            "devices": devices,
            "config": config | self._static_address(),
            "source": {"type": "copy", "source": self._source, "instance_only": True},
        }
        self._lxd.ask("POST", "/1.0/instances", order)

    def _static_address(self) -> dict[str, str]:
        is_static = "ip=dhcp" not in str(self._vm.config.get("ipconfig0", "ip=dhcp"))
        if not is_static and "dhcp" not in self._options:
            return {}
        address = address_of(self._cluster, self._vm, "net0", self._options)
        lines = [f"lxc.net.0.ipv4.address={address.ip}/{address.prefix}"]
        lines += [f"lxc.net.0.ipv4.gateway={address.gateway}"] if address.gateway else []
        return {"raw.lxc": "\n".join(lines)}


def _source(vm: "Vm", options: Mapping[str, Any]) -> str:
    """The container of the template that the VM was cloned from, else the one for all."""
    named = {str(key): str(value) for key, value in dict(options.get("containers", {})).items()}
    for drive in vm.disks().values():
        base = parse_parent(drive["file"])
        if base is not None and str(owner_of(base)) in named:
            return named[str(owner_of(base))]
    if "container" not in options:
        raise ValueError("LXD guests need the option `container`, or `containers` with their ids")
    return str(options["container"])


def _execution(code: int, out: bytes, err: bytes) -> Execution:
    return Execution(code, out.decode(errors="replace"), err.decode(errors="replace"))


def _interface(name: str, card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "hardware-address": card.get("hwaddr") or "00:00:00:00:00:00",
        "ip-addresses": [
            {
                "ip-address": address["address"],
                "ip-address-type": FAMILIES[address["family"]],
                "prefix": int(address["netmask"]),
            }
            for address in card.get("addresses") or []
            if address["family"] in FAMILIES
        ],
    }
