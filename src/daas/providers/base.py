"""What the orchestrator asks of a hypervisor. LXD, Terraform and Proxmox live behind this; the
rest of the program knows only these calls. Each may raise NotYet, Unreachable or StepFailed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

State = dict[str, Any]  # JSON, opaque to all but the provider that made it
Progress = Callable[[str], None]  # one line of a log


def silent(line: str) -> None:
    """A Progress that nobody reads."""


def nothing() -> None:
    """A call back that nobody waits for."""


@dataclass(frozen=True)
class Tag:
    """Whose a machine is. Written on the machine, read again before each destructive call."""

    instance: str  # this installation
    session: str
    nonce: str


@dataclass(frozen=True)
class Size:
    cpus: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True)
class Spec:
    """What a machine is to be. `personal` are files by name, for /var/lib/daas/personal in the
    guest, readable by its root alone: there before its first boot, or given by `endpoints`."""

    node: str
    image: str  # what `bake` returned
    size: Size
    tag: Tag
    address: str | None = None  # "10.88.0.50/24"; None where the network gives one
    gateway: str | None = None
    personal: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)  # the template's provider section
    number: int | None = None  # the VMID that is leased for it, where machines have numbers
    # Called when its disks are made: from then on others may clone onto the storage.
    on_disks: Callable[[], None] = field(default=nothing, compare=False, repr=False)


@dataclass(frozen=True)
class Machine:
    name: str
    tag: Tag
    created_at: float = 0.0  # epoch seconds, 0 where unknown
    is_on: bool = True


@dataclass(frozen=True)
class NodeInfo:
    """One host as it is now. `addresses` is the range we may give out, first and last."""

    name: str
    is_online: bool
    cpus: int = 0
    memory_mib: int = 0
    subnet: str | None = None  # "10.88.0.1/24": gateway and prefix; None: the network's own DHCP
    addresses: tuple[str, str] | None = None
    taken: frozenset[str] = frozenset()  # addresses in that range that somebody uses
    foreign_mib: int = 0  # memory of machines here that are not ours
    foreign_cpus: int = 0
    foreign_numbers: frozenset[int] = frozenset()  # VMIDs that are not ours
    # What can be cloned onto this host: image -> the storage whose lock a clone takes, the same
    # word for all hosts that share it, HOST/STORAGE where it is this one's alone. None: every
    # image, and no lock worth a queue.
    images: Mapping[str, str] | None = None
    why: str = ""  # why it is not online


@dataclass(frozen=True)
class Baking:
    """What a template is baked from. `work_dir` is ours for logs and intermediate files."""

    template: str
    version: int
    spec: Mapping[str, Any]  # the template's document, as validated
    instance: str
    work_dir: str


class Provider(Protocol):
    def ensure(
        self,
        name: str,
        spec: Spec,
        state: State,
        save: Callable[[State], None],
        note: Progress = silent,
    ) -> State:
        """A machine called `name` exists from `spec.image`, tagged as ours, running. Again
        changes nothing. Calls `save` before each call that could leave something behind.
        NumberTaken if `spec.number` is somebody else's; Congested if a lock was not to be had."""

    def endpoints(
        self, state: State, timeout_s: float, personal: Mapping[str, bytes]
    ) -> dict[str, str]:
        """Return {"rdp": "host:port", "direct": …}, where people reach it and where we do, once
        RDP accepts; waits up to `timeout_s` for that, then raises NotYet. Gives the guest its
        `personal` files where that was not possible before it ran; again changes nothing."""

    def run(self, state: State, args: list[str], stdin: str = "") -> str:
        """Run a command inside the guest; its output. Secrets go by stdin, never in args.
        CommandFailed on another exit code than 0."""

    def put(self, state: State, path: str, content: bytes, mode: int) -> None:
        """A file of the guest's root with this content and mode exists at `path`."""

    def power(self, state: State, on: bool) -> None:
        """The machine runs, or does not. Off asks the guest, and after a while insists."""

    def hibernate(self, state: State) -> None:
        """The machine is off and its memory on disk: `power` on goes on where it was.
        Unsupported where the hypervisor cannot."""

    def snapshot(self, state: State, name: str) -> None: ...
    def restore(self, state: State, name: str) -> None: ...
    def delete_snapshot(self, state: State, name: str) -> None: ...

    def destroy(self, name: str, state: State) -> None:
        """No machine of ours of that name exists, nor its disks; also with empty state. NotOurs
        if the one there does not bear our tag; one already gone is success."""

    def owned(self) -> list[Machine]:
        """Every machine that bears our tag, known to the database or not."""

    def watch(self, on_change: Callable[[str], None]) -> None:
        """From now on `on_change` is called, in a thread of the provider, with the name of each
        machine that stopped or vanished; "" where such news may have been missed."""

    def nodes(self) -> list[NodeInfo]:
        """Capacity and health of each host; one that does not answer is reported as such."""

    def bake(self, baking: Baking, progress: Progress) -> str:
        """Return the image of this template version, made unless it is there already."""

    def images(self) -> list[str]:
        """The images of ours."""

    def delete_image(self, image: str) -> None:
        """No such image of ours exists. Refused while clones need it."""
