"""A hypervisor in memory: everything but a guest. For trying the product where LXD cannot run,
and for developing it. Its machines live as long as their process does."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from daas import process
from daas.errors import CommandFailed, NotOurs, NotYet, Refused, Stopped, TemplateMissing
from daas.providers.base import Baking, Machine, NodeInfo, Progress, Spec, State, Tag, silent

BAKE_LINES = ("unpacking the base", "installing the desktop", "trimming it", "sealing it")


@dataclass
class Guest:
    spec: Spec
    is_on: bool = True
    on_since: float = field(default_factory=time.monotonic)
    created_at: float = field(default_factory=time.time)
    files: dict[str, bytes] = field(default_factory=dict)
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)


class SimulatedProvider:
    """`boot_s` passes between the start of a machine and its open RDP port."""

    def __init__(
        self,
        instance: str,
        boot_s: float = 0.0,
        nodes: int = 1,
        memory_mib: int = 65536,
        bake_s: float = 0.0,
    ):
        self.instance, self.boot_s, self.bake_s = instance, boot_s, bake_s
        self._nodes = [f"sim{n + 1}" for n in range(nodes)]
        self._memory_mib = memory_mib
        self._guests: dict[str, Guest] = {}
        self._images: set[str] = set()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str], None]] = []

    def ensure(
        self,
        name: str,
        spec: Spec,
        state: State,
        save: Callable[[State], None],
        note: Progress = silent,
    ) -> State:
        address = (spec.address or "127.0.0.1").split("/")[0]
        state = {**state, "name": name, "nonce": spec.tag.nonce, "address": address}
        save(state)
        with self._lock:
            guest = self._guests.get(name)
            if guest is None:
                if not spec.image.startswith("sim-"):
                    raise TemplateMissing(
                        f"The image {spec.image} is gone; run `daas template build`."
                    )
                guest = self._guests[name] = Guest(spec)
            elif guest.spec.tag != spec.tag:
                raise NotOurs(f"There is a machine {name} already, and it is not this session's.")
            if not guest.is_on:
                guest.is_on, guest.on_since = True, time.monotonic()
        return state

    def endpoints(
        self, state: State, timeout_s: float, personal: Mapping[str, bytes]
    ) -> dict[str, str]:
        guest = self._guest(state)
        left_s = guest.on_since + self.boot_s - time.monotonic()
        if process.stop.get().wait(min(max(left_s, 0.0), timeout_s)):
            raise Stopped(state["name"])
        if left_s > timeout_s or not guest.is_on:
            raise NotYet(1.0, "the desktop to open its RDP port")
        return {"rdp": f"{state['address']}:3389", "ssh": f"{state['address']}:22"}

    def run(self, state: State, args: list[str], stdin: str = "") -> str:
        """Knows `cat PATH` of what was put there, and the guest's own program."""
        guest = self._guest(state)
        if args[0] == "cat" and len(args) == 2:
            content = guest.files.get(args[1])
            if content is None:
                raise CommandFailed("cat", 1, f"{args[1]}: No such file")
            return content.decode()
        return ""

    def put(self, state: State, path: str, content: bytes, mode: int) -> None:
        self._guest(state).files[path] = content

    def power(self, state: State, on: bool) -> None:
        guest = self._guest(state)
        self._must_be_ours(state["name"], guest, state)
        if guest.is_on is not on:
            guest.is_on, guest.on_since = on, time.monotonic()

    def hibernate(self, state: State) -> None:
        self.power(state, False)

    def snapshot(self, state: State, name: str) -> None:
        guest = self._guest(state)
        guest.snapshots.setdefault(name, dict(guest.files))

    def restore(self, state: State, name: str) -> None:
        guest = self._guest(state)
        self._must_be_ours(state["name"], guest, state)
        if name not in guest.snapshots:
            raise Refused(f"{state['name']} has no snapshot {name}.")
        guest.files = dict(guest.snapshots[name])

    def delete_snapshot(self, state: State, name: str) -> None:
        self._guest(state).snapshots.pop(name, None)

    def destroy(self, name: str, state: State) -> None:
        with self._lock:
            guest = self._guests.get(name)
            if guest is None:
                return
            self._must_be_ours(name, guest, state)
            del self._guests[name]

    def owned(self) -> list[Machine]:
        with self._lock:
            return [
                Machine(name, guest.spec.tag, guest.created_at, guest.is_on)
                for name, guest in self._guests.items()
                if guest.spec.tag.instance == self.instance
            ]

    def watch(self, on_change: Callable[[str], None]) -> None:
        self._listeners.append(on_change)

    def nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(
                name,
                is_online=True,
                cpus=64,
                memory_mib=self._memory_mib,
                subnet=f"127.{n + 64}.0.1/16",
                addresses=(f"127.{n + 64}.1.0", f"127.{n + 64}.255.254"),
            )
            for n, name in enumerate(self._nodes)
        ]

    def bake(self, baking: Baking, progress: Progress) -> str:
        for line in BAKE_LINES:
            progress(line)
            if process.stop.get().wait(self.bake_s / len(BAKE_LINES)):
                raise Stopped(baking.template)
        image = f"sim-{baking.template}-{baking.version}"
        self._images.add(image)
        return image

    def images(self) -> list[str]:
        return sorted(self._images)

    def delete_image(self, image: str) -> None:
        self._images.discard(image)

    def retag(self, name: str, tag: Tag) -> None:
        """As if somebody had changed the mark by hand."""
        with self._lock:
            guest = self._guests[name]
            guest.spec = replace(guest.spec, tag=tag)

    def shut_down(self, name: str) -> None:
        """As if somebody had shut the guest down from inside."""
        with self._lock:
            self._guests[name].is_on = False
        for listener in self._listeners:
            listener(name)

    def _must_be_ours(self, name: str, guest: Guest, state: State) -> None:
        tag = guest.spec.tag
        is_ours = tag.instance == self.instance and tag.session == name
        if not is_ours or state.get("nonce", tag.nonce) != tag.nonce:
            raise NotOurs(f"The machine {name} does not bear our mark; it was left alone.")

    def _guest(self, state: State) -> Guest:
        with self._lock:
            guest = self._guests.get(state.get("name", ""))
        if guest is None:
            raise Refused(f"The machine {state.get('name')} is not there any more.")
        return guest
