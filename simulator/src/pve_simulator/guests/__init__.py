"""What runs inside a virtual machine. Guests are plug-ins: `plain`, `lxd`, or `module:Class`.

A guest is made when its VM starts for the first time and lives until the VM is deleted.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.vm import Vm


@dataclass(frozen=True)
class Execution:
    """What a command did, and how long it takes (simulated) until that is known."""

    exit_code: int = 0
    out: str = ""
    err: str = ""
    seconds: float = 0.0


class Guest(Protocol):
    """A guest answers at once. One that has to wait for the real world says `is_slow`: then its
    methods run in a thread while the simulation goes on (in real time only).

    One that has files may also have `snapshot_taken(name)` and `rolled_back(name)`.
    """

    is_slow: bool

    def start(self, *, is_resumed: bool) -> None:
        """Power on; `is_resumed`: with the memory it was saved with, so without a boot."""

    def stop(self, *, is_saved: bool) -> None:
        """Power off; `is_saved`: its memory was saved first."""

    def destroy(self) -> None: ...
    def is_agent_up(self) -> bool: ...
    def interfaces(self) -> list[dict[str, Any]]:
        """As `network-get-interfaces` has them."""
        ...

    def os_info(self) -> dict[str, str]: ...
    def execute(self, args: list[str], stdin: bytes) -> Execution: ...
    def read_file(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def write_file(self, path: str, content: bytes) -> None: ...


Maker = Callable[["Cluster", "Vm", Mapping[str, Any]], Guest]


class Guests:
    """Makes the guest of a VM: by kind, with the options of the world file."""

    def __init__(self, kind: str = "plain", options: Mapping[str, Any] | None = None) -> None:
        self._make = _load(kind)
        self.options = dict(options or {})

    def make(self, cluster: "Cluster", vm: "Vm") -> Guest:
        return self._make(cluster, vm, self.options)


KINDS = {
    "plain": "pve_simulator.guests.plain:PlainGuest",
    "lxd": "pve_simulator.guests.lxd:LxdGuest",
}


def _load(kind: str) -> Maker:
    module, separator, name = KINDS.get(kind, kind).partition(":")
    if not separator:
        raise ValueError(f"guest kind {kind!r} is neither {', '.join(KINDS)} nor module:Class")
    maker: Maker = getattr(importlib.import_module(module), name)
    return maker
