"""A virtual machine: its configuration file, and the process and guest while it runs."""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pve_simulator.api import Failed
from pve_simulator.engine.properties import (
    is_cdrom,
    is_cloudinit,
    is_drive,
    parse,
    parse_drive,
)
from pve_simulator.engine.volumes import parse_size

if TYPE_CHECKING:
    from pve_simulator.guests import Guest

Config = dict[str, Any]


@dataclass
class Snapshot:
    name: str
    config: Config
    time: int
    parent: str | None = None
    description: str = ""
    vmstate: str | None = None  # volume id of the saved memory
    state: str | None = None  # "prepare", "delete"

    def section(self) -> Config:
        """As the configuration file has it."""
        section = {**self.config, "snaptime": self.time}
        for key, value in (
            ("parent", self.parent),
            ("description", self.description),
            ("vmstate", self.vmstate),
            ("snapstate", self.state),
        ):
            if value:
                section[key] = value
        return section


@dataclass
class Run:
    """What exists from start to stop."""

    pid: int
    started_at: float
    config: Config  # what the process was started with
    status: str = "running"  # or "paused"


@dataclass
class Vm:
    """`config` is what the file says; `pending` and `deletes` wait for the next start."""

    vmid: int
    node: str
    config: Config = field(default_factory=dict)
    pending: Config = field(default_factory=dict)
    deletes: dict[str, int] = field(default_factory=dict)  # key: 1, or 2 to force
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    parent: str | None = None
    run: Run | None = None
    is_empty: bool = False  # nothing on its disks: no agent ever answers, no shutdown is heard
    guest: "Guest | None" = None  # made at the first start
    executions: dict[int, Any] = field(default_factory=dict)  # commands in the guest, by pid
    last_pid: int = 1000

    @property
    def is_running(self) -> bool:
        return self.run is not None

    @property
    def is_template(self) -> bool:
        return bool(self.config.get("template"))

    @property
    def lock(self) -> str | None:
        return self.config.get("lock")

    def refuse_if_locked(self) -> None:
        if self.lock:
            raise Failed(f"VM is locked ({self.lock})")

    @property
    def digest(self) -> str:
        """Changes with the file."""
        parts = [self.config, self.pending, self.deletes, self.parent, self.snapshots]
        return hashlib.sha1(repr(parts).encode()).hexdigest()

    def drives(self, config: Config | None = None) -> dict[str, dict[str, str]]:
        chosen = self.config if config is None else config
        return {key: parse_drive(str(chosen[key])) for key in sorted(chosen) if is_drive(key)}

    def disks(self, config: Config | None = None) -> dict[str, dict[str, str]]:
        """Drives with a disk of the VM's own: no CD-ROM, no cloud-init."""
        return {k: d for k, d in self.drives(config).items() if not is_cdrom(d)}

    def cloudinit_drive(self) -> dict[str, str] | None:
        return next((d for d in self.drives().values() if is_cloudinit(d)), None)

    @property
    def has_agent(self) -> bool:
        """Whether the configuration says that there is a guest agent."""
        return agent_enabled(self.config)

    @property
    def memory(self) -> int:
        text = str(self.config.get("memory", 512))
        return int(parse(text, "current")["current"]) << 20

    @property
    def cpus(self) -> int | float:
        if self.config.get("vcpus"):
            return int(self.config["vcpus"])
        return int(self.config.get("cores", 1)) * int(self.config.get("sockets", 1))

    @property
    def disk_size(self) -> int:
        """The size of the disk it boots from, as lists show it."""
        disks = self.disks()
        boot = parse(str(self.config.get("boot", "")), "order").get("order", "")
        for key in [*boot.split(";"), str(self.config.get("bootdisk", "")), *disks]:
            if key in disks:
                return parse_size(disks[key].get("size", "0")) or 0
        return 0


def agent_enabled(config: Config) -> bool:
    return parse(str(config.get("agent", "0")), "enabled").get("enabled") in (
        "1",
        "yes",
        "on",
        "true",
    )
