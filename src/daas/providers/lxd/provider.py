"""The contract to a hypervisor, kept by LXD or Incus on this host. A machine is made by one copy
request that carries our tag; every call that could hurt one reads that tag first."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from daas import process
from daas.errors import (
    CommandFailed,
    NotOurs,
    NotYet,
    Refused,
    StepFailed,
    Stopped,
    TemplateMissing,
    Unsupported,
)
from daas.providers.base import Baking, Machine, NodeInfo, Progress, Spec, State, silent
from daas.providers.lxd import machine, shared_usr
from daas.providers.lxd.bake import Bakery
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.errors import Absent, Exists
from daas.providers.lxd.host import Host, listening
from daas.providers.lxd.machine import Json, Place
from daas.providers.lxd.personal import PersonalFiles

KIND = "lxd"
STEP_S = 0.02  # between two looks at a port that is not open yet
CONNECT_S = 0.2  # longer, and a lost SYN would cost a whole second
LOOK_S = 1.0  # between two looks whether a machine that does not answer still runs
RUN_S = 120.0
STOP_S = 30  # that a guest has to shut down by itself
DELETE_TRIES = 5
TAIL = 4000
# After these a machine may be off or gone; after "reconnected" any may be.
ENDS = ("instance-shutdown", "instance-stopped", "instance-deleted", "reconnected")


class LxdProvider:
    """Desktops of one installation, in one pool and on one bridge. `work_dir` holds personal
    files; `stop_s` is how long a guest may take to shut down."""

    kind = KIND

    def __init__(
        self,
        client: LxdClient,
        instance: str,
        place: Place,
        work_dir: str,
        stop_s: int = STOP_S,
        ansible_dir: Path = Path("ansible"),
    ):
        self.client, self.instance, self.place = client, instance, listening(place)
        self.personal = PersonalFiles(work_dir)
        self.host = Host(client, self.place)
        self._stop_s = stop_s
        self._bakery = Bakery(client, instance, self.place, ansible_dir)

    def ensure(
        self,
        name: str,
        spec: Spec,
        state: State,
        save: Callable[[State], None],
        note: Progress = silent,
    ) -> State:
        state = {
            **state,
            "name": name,
            "nonce": spec.tag.nonce,
            "type": spec.options.get("type", "container"),
            "address": machine.bare(spec.address) if spec.address else None,
        }
        save(state)
        found = self._usable(name, spec)
        if found is None or found["status"] == "Stopped":
            self._make_or_complete(name, spec, found)
            self._set(name, "start")
        return state

    def endpoints(
        self, state: State, timeout_s: float, personal: Mapping[str, bytes]
    ) -> dict[str, str]:
        deadline = time.monotonic() + timeout_s
        self._give_files_to_vm(state)
        address = self._address(state)
        look_at = time.monotonic() + LOOK_S
        while not _accepts(address, machine.RDP):
            now = time.monotonic()
            if now >= min(look_at, deadline):
                self._must_run(state)
                look_at = now + LOOK_S
            if now >= deadline:
                raise NotYet(0.5, "the desktop to open its RDP port")
            if process.stop.get().wait(STEP_S):
                raise Stopped(state["name"])
        return self._reached_at(address)

    def run(self, state: State, args: list[str], stdin: str = "") -> str:
        ended = self.client.exec(state["name"], args, stdin.encode(), RUN_S)
        output = ended.stdout.decode(errors="replace")
        if ended.exit_code:
            tail = output + ended.stderr.decode(errors="replace")
            raise CommandFailed(args[0], ended.exit_code, tail[-TAIL:])
        return output

    def put(self, state: State, path: str, content: bytes, mode: int) -> None:
        self.client.put_file(state["name"], path, content, mode)

    def power(self, state: State, on: bool) -> None:
        found = self._must_exist(state)
        if on and found["status"] != "Running":
            self._set(state["name"], "start")
        elif not on and found["status"] != "Stopped":
            self._stop_gently(state["name"])

    def hibernate(self, state: State) -> None:
        raise Unsupported("A container's memory cannot be kept; stop the desktop instead.")

    def snapshot(self, state: State, name: str) -> None:
        self._must_exist(state)
        with suppress(Exists):
            self.client.do(
                "POST", f"{_url(state['name'])}/snapshots", {"name": name, "stateful": False}
            )

    def restore(self, state: State, name: str) -> None:
        self._must_exist(state)
        try:
            self.client.do("PUT", _url(state["name"]), {"restore": name})
        except Absent as error:
            raise Refused(f"{state['name']} has no snapshot {name}.") from error

    def delete_snapshot(self, state: State, name: str) -> None:
        self._must_exist(state)
        with suppress(Absent):
            self.client.do("DELETE", f"{_url(state['name'])}/snapshots/{name}")

    def destroy(self, name: str, state: State) -> None:
        if self._ours(name, state):
            self._delete(name)
        self.personal.remove(name)

    def owned(self) -> list[Machine]:
        return [
            Machine(
                one["name"],
                tag,
                float(one["config"].get(machine.CREATED) or 0),
                one["status"] != "Stopped",
            )
            for one in self.host.machines()
            if (tag := machine.tag_of(one)).instance == self.instance and tag.session
        ]

    def watch(self, on_change: Callable[[str], None]) -> None:
        def listen(action: str, name: str) -> None:
            if action in ENDS:
                on_change(name)

        self.client.events.listen(listen)

    def nodes(self) -> list[NodeInfo]:
        return [self.host.look()]

    def bake(self, baking: Baking, progress: Progress) -> str:
        return self._bakery.bake(baking, progress)

    def images(self) -> list[str]:
        return sorted(
            one["name"] for one in self.host.machines() if machine.is_image(one, self.instance)
        )

    def delete_image(self, image: str) -> None:
        found = self._find(image)
        if found is None:
            return
        if found["config"].get(machine.INSTANCE) != self.instance or machine.tag_of(found).session:
            raise NotOurs(f"{image} is no image of this installation; it was left alone.")
        # Copies on btrfs live on without their source, unless they share its /usr.
        if "usr" in found["devices"] and (users := self._clones(image)):
            raise Refused(f"{len(users)} desktops still use {image}; delete them first.")
        self._delete(image)
        if shared_usr.DEVICE in found["devices"]:
            shared_usr.remove(self.client, self.place.pool, image)

    def _usable(self, name: str, spec: Spec) -> Json | None:
        """Return the machine of that name if it can be relied on; None where one must be made."""
        found = self._find(name)
        if found is None:
            return None
        if machine.tag_of(found) != spec.tag:
            raise NotOurs(f"There is a machine {name} already, and it is not this session's.")
        if machine.was_started(found) or found["status"] != "Stopped":
            return found
        # Never started. Either a copy is under way (we were killed, LXD was not), or nobody can
        # say whether it is whole (LXD was killed in the middle): a copy is cheap, make it again.
        if under_way := self.host.operation_on(name):
            with suppress(Absent, Refused):
                self.client.wait(under_way)
                return found
        self._delete(name)
        return None

    def _make_or_complete(self, name: str, spec: Spec, found: Json | None) -> None:
        image = self._find(spec.image)
        if found is None and image is None:
            raise TemplateMissing(
                f"The image {spec.image} is gone; build it again: daas template build NAME"
            )
        owner = machine.root_on_host(found or image or {"config": {}})
        folder = self.personal.write(name, spec.personal, owner) if spec.personal else None
        if found is None:
            range_ = self.host.range() if self.place.proxy_listen else None
            order = machine.copy_request(name, spec, self.place, range_, folder, time.time())
            self.client.do("POST", "/1.0/instances", order)

    def _set(self, name: str, action: str, force: bool = False, timeout_s: int = -1) -> None:
        """The machine is started or stopped; also when somebody else was faster."""
        order = {"action": action, "force": force, "timeout": timeout_s}
        try:
            self.client.do("PUT", f"{_url(name)}/state", order)
        except Refused as error:
            if "already running" not in str(error) and "already stopped" not in str(error):
                raise

    def _stop_gently(self, name: str) -> None:
        try:
            self._set(name, "stop", timeout_s=self._stop_s)
        except Refused:  # it did not shut down in time, or cannot at all
            self._set(name, "stop", force=True)

    def _delete(self, name: str) -> None:
        """Also one that somebody is just starting: LXD shows it as stopped until it runs."""
        for _ in range(DELETE_TRIES):
            found = self._find(name)
            if found is None:
                return
            if found["status"] != "Stopped":
                self._set(name, "stop", force=True)
            try:
                self.client.do("DELETE", _url(name))
            except Absent:
                return
            except Refused as error:
                if "is running" not in str(error):
                    raise
        raise NotYet(1.0, f"{name} to stop, which somebody starts again and again")

    def _find(self, name: str) -> Json | None:
        with suppress(Absent):
            found: Json = self.client.request("GET", _url(name))
            return found
        return None

    def _ours(self, name: str, state: State) -> Json | None:
        """Return the machine of that name, which bears our tag; None where there is none."""
        found = self._find(name)
        if found is None:
            return None
        tag = machine.tag_of(found)
        is_ours = tag.instance == self.instance and tag.session == name
        if not is_ours or state.get("nonce", tag.nonce) != tag.nonce:
            raise NotOurs(f"The machine {name} does not bear our mark; it was left alone.")
        return found

    def _must_exist(self, state: State) -> Json:
        found = self._ours(state["name"], state)
        if found is None:
            raise StepFailed(f"The machine {state['name']} is not there any more.")
        return found

    def _must_run(self, state: State) -> None:
        found = self._find(state["name"])
        if found is None:
            raise StepFailed(f"The machine {state['name']} is not there any more.")
        if found["status"] != "Running":
            raise StepFailed(
                f"The machine {state['name']} stopped before its desktop was up; "
                f"see why with: lxc info {state['name']} --show-log"
            )

    def _clones(self, image: str) -> list[str]:
        return [
            one["name"]
            for one in self.host.machines()
            if one["config"].get(machine.IMAGE) == image and machine.tag_of(one).session
        ]

    def _address(self, state: State) -> str:
        return state.get("address") or self.host.leased_address(state["name"])

    def _reached_at(self, address: str) -> dict[str, str]:
        direct, ssh = f"{address}:{machine.RDP}", f"{address}:{machine.SSH}"
        return {"rdp": self.host.proxied(address) or direct, "ssh": ssh, "direct": direct}

    def _give_files_to_vm(self, state: State) -> None:
        """A VM has no folder of the host: its agent takes the files once it is up."""
        if state.get("type") != "virtual-machine":
            return
        due = self.personal.due(state["name"])
        try:
            for file, content in due.items():
                path = f"{machine.PERSONAL}/{file}"
                self.client.put_file(state["name"], path, content, 0o600)
        except Refused as error:
            self._must_run(state)
            raise NotYet(1.0, "the virtual machine's agent") from error
        if due:
            self.personal.given(state["name"])


def _url(name: str) -> str:
    return f"/1.0/instances/{name}"


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), CONNECT_S):
            return True
    except OSError:
        return False
