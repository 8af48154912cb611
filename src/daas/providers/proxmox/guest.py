"""From a machine that was started to a desktop that answers: its own files go in by the agent, and
then its RDP port opens. A template of ours opens it only when it shows this session's certificate,
so an open port says that all of it is done."""

import socket
import time
from collections.abc import Mapping

from daas import process
from daas.errors import CommandFailed, NotYet, Refused, StepFailed, Stopped
from daas.providers.base import State
from daas.providers.proxmox.agent import NO_PROGRAM, Agent, address_of
from daas.providers.proxmox.boots import Boots
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.errors import AgentAway, NotRunning
from daas.providers.proxmox.machine import RDP, SSH

PROGRAM = "/usr/local/lib/daas/guest"
NOT_OURS = (
    f"The template has no {PROGRAM}: build it with `daas template build`, or, if it is to stay as "
    "it is, write `personalize: none` into its provider.proxmox section."
)
NONE = "none"  # a template that is not ours: nothing is handed over
STEP_S = 0.02  # between two looks at a port that is not open yet
CONNECT_S = 0.2  # longer, and a lost SYN would cost a whole second
LOOK_S = 1.0  # between two looks at what the guest's program does
END = "."


def bundle(files: Mapping[str, bytes]) -> str:
    """Return the files as `guest personalize` reads them: each line with its file's name."""
    lines = [
        f"{name}:{line}"
        for name, content in sorted(files.items())
        for line in content.decode().splitlines()
    ]
    return "".join(f"{line}\n" for line in [*lines, END])


class Desktop:
    """One look at a machine until it is reachable, or time is up."""

    def __init__(
        self, client: Client, path: str, mac: str, state: State, timeout_s: float, boots: Boots
    ):
        self._client, self._path, self._mac, self._state = client, path, mac, state
        self._boots = boots
        self._agent = Agent(client, path)
        self._deadline = time.monotonic() + timeout_s

    def reached(self, personal: Mapping[str, bytes]) -> dict[str, str]:
        """See `endpoints` of the contract."""
        address: str | None = self._state.get("address")
        if not address or not _accepts(address):
            is_due = bool(personal) and self._is_ours()
            if is_due or not address:
                self._wait_for_boot()
            pid = self._personalized(personal) if is_due else None
            address = address or self._given_address()
            self._wait_for_port(address, pid)
        where, ssh = f"{address}:{RDP}", f"{address}:{SSH}"
        return {"rdp": where, "ssh": ssh, "direct": where}

    def _is_ours(self) -> bool:
        return bool(self._state.get("personalize") != NONE)

    def _wait_for_boot(self) -> None:
        """Nobody asks for an agent that cannot be there yet."""
        left_s = self._boots.left_s(self._state.get("template"), self._state.get("started"))
        self._pause(min(left_s, max(0.0, self._deadline - time.monotonic())))

    def _personalized(self, personal: Mapping[str, bytes]) -> int:
        """The guest's program has begun to take its files. It may have them already."""
        left_s = self._deadline - time.monotonic()
        try:
            pid = self._agent.start([PROGRAM, "personalize"], bundle(personal), left_s)
            self._boots.came(self._state.get("template"), self._state.get("started"))
            return pid
        except (AgentAway, NotRunning):
            self._must_run()
            raise
        except CommandFailed as error:
            raise StepFailed(NOT_OURS) from error

    def _given_address(self) -> str:
        while True:
            asked = time.monotonic()
            try:
                if found := address_of(self._agent.cards(), self._mac):
                    return found
                why = "the desktop to get an address"
            except AgentAway as error:
                why = error.why
            except NotRunning:
                self._must_run()
                raise
            if time.monotonic() >= self._deadline:
                self._must_run()
                raise NotYet(0.5, why)
            self._pause(max(0.0, 0.2 - (time.monotonic() - asked)))

    def _wait_for_port(self, address: str, pid: int | None) -> None:
        look_at = time.monotonic() + LOOK_S
        while not _accepts(address):
            now = time.monotonic()
            if now >= min(look_at, self._deadline):
                pid = self._looked_at(pid)
                look_at = now + LOOK_S
            if now >= self._deadline:
                raise NotYet(0.5, "the desktop to open its RDP port")
            self._pause(STEP_S)

    def _looked_at(self, pid: int | None) -> int | None:
        """The port stays closed: say why, where the guest knows. Return what still runs."""
        if pid is None:
            self._must_run()
            return None
        ended = self._agent.status(pid)
        if ended and ended.exit_code == NO_PROGRAM:
            raise StepFailed(NOT_OURS)
        if ended and ended.exit_code:
            raise StepFailed(f"The desktop cannot be made its owner's: {ended.err.strip()[-500:]}")
        return None if ended else pid

    def _must_run(self) -> None:
        found = self._client.get(f"{self._path}/status/current")
        if found.get("status") != "running":
            number = self._path.rpartition("/")[2]
            raise Refused(
                f"The machine {self._state['name']} (VM {number}) stopped before its desktop was "
                "up; see its console, and its tasks in Proxmox."
            )

    def _pause(self, seconds: float) -> None:
        if process.stop.get().wait(seconds):
            raise Stopped(self._state["name"])


def _accepts(address: str) -> bool:
    try:
        with socket.create_connection((address, RDP), CONNECT_S):
            return True
    except OSError:
        return False
