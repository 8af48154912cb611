"""A guest that is nothing but a few facts: it boots after a while, has an address and files."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pve_simulator.engine.properties import NET
from pve_simulator.guests import Execution
from pve_simulator.guests.addresses import address_of, mac_of

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.vm import Vm


class PlainGuest:
    """Options: `dhcp` (`first-last/prefix`), `exec` (pattern to exit, out, err, seconds)."""

    is_slow = False

    def __init__(self, cluster: "Cluster", vm: "Vm", options: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._vm = vm
        self._options = options
        self.files: dict[str, bytes] = {}
        self.executed: list[list[str]] = []
        self._kept: dict[str, dict[str, bytes]] = {}  # files by snapshot
        self._agent_at: float | None = None

    def start(self, *, is_resumed: bool) -> None:
        boot_s = 0.0 if is_resumed else self._cluster.latencies("boot")
        self._agent_at = self._cluster.agent_moment(self._vm.vmid, boot_s)

    def stop(self, *, is_saved: bool) -> None:
        self._agent_at = None

    def destroy(self) -> None:
        self.files.clear()

    def snapshot_taken(self, name: str) -> None:
        self._kept[name] = dict(self.files)

    def rolled_back(self, name: str) -> None:
        self.files = dict(self._kept.get(name, {}))

    def is_agent_up(self) -> bool:
        return self._agent_at is not None and self._cluster.env.now >= self._agent_at

    def interfaces(self) -> list[dict[str, Any]]:
        found = [_interface("lo", "00:00:00:00:00:00", [("127.0.0.1", 8), ("::1", 128)])]
        nets = sorted(key for key in self._vm.config if NET.fullmatch(key))
        for index, key in enumerate(nets):
            address = address_of(self._cluster, self._vm, key, self._options)
            pairs = [(address.ip, address.prefix)]
            found.append(_interface(f"eth{index}", mac_of(self._vm, key), pairs))
        return found

    def os_info(self) -> dict[str, str]:
        return {
            "id": "debian",
            "name": "Debian GNU/Linux",
            "pretty-name": "Debian GNU/Linux 12 (bookworm)",
            "version": "12 (bookworm)",
            "version-id": "12",
            "machine": "x86_64",
            "kernel-release": "6.1.0-18-amd64",
            "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1",
        }

    def execute(self, args: list[str], stdin: bytes) -> Execution:
        """The first row of the table whose pattern is found in the command; else success."""
        self.executed.append(args)
        command = " ".join(args)
        for pattern, row in dict(self._options.get("exec", {})).items():
            if re.search(pattern, command):
                return Execution(
                    int(row.get("exit", 0)),
                    str(row.get("out", "")),
                    str(row.get("err", "")),
                    float(row.get("seconds", 0)),
                )
        return Execution()

    def read_file(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def write_file(self, path: str, content: bytes) -> None:
        self.files[path] = content


def _interface(name: str, mac: str, addresses: list[tuple[str, int]]) -> dict[str, Any]:
    counters = ("bytes", "packets", "errs", "dropped")
    return {
        "name": name,
        "hardware-address": mac,
        "ip-addresses": [
            {
                "ip-address": address,
                "ip-address-type": "ipv6" if ":" in address else "ipv4",
                "prefix": prefix,
            }
            for address, prefix in addresses
        ],
        "statistics": {f"{way}-{what}": 0 for way in ("rx", "tx") for what in counters},
    }
