"""The guest's agent: commands and files inside a machine. A call to one that does not run yet
takes 3 s and fails, or is answered in the moment it comes: there is nothing better to wait with."""

import base64
import secrets
import time
from dataclasses import dataclass
from typing import Any

from daas import process
from daas.errors import CommandFailed, Refused, Stopped
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.errors import AgentAway

RUN_S = 120.0
COMES_S = 30.0  # that an agent may take to come, where the machine was up before
STEPS_S = (0.02, 0.05, 0.1, 0.2, 0.4)
STDIN = 60 * 1024  # bytes of a command's stdin; Proxmox takes 64 KiB
CHUNK = STDIN // 4 * 3  # of a file: base64 makes four of three
TAIL = 4000
NO_PROGRAM = 127
SHELL = ("/bin/sh", "-euc")
# Arguments: path, mode, "first" and "last" where the piece on stdin is that.
PUT = """
case $3 in *first*)
    (umask 022; mkdir -p "${1%/*}"); umask 077; rm -f "$1.part"; : >"$1.part" ;;
esac
base64 -d >>"$1.part"
case $3 in *last*) chmod "$2" "$1.part"; mv -f "$1.part" "$1" ;; esac
"""
# Arguments: a file that becomes stdin and goes, then the command.
FED = """
exec 3<"$1"; rm -f "$1"; shift; exec "$@" <&3
"""


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    out: str
    err: str


class Agent:
    """That of one machine. `path` is the machine's: nodes/NODE/qemu/VMID."""

    def __init__(self, client: Client, path: str):
        self._client, self._path = client, f"{path}/agent"

    def run(self, args: list[str], stdin: str = "", timeout_s: float = RUN_S) -> str:
        """Return the output of a command that ended well. CommandFailed otherwise. `stdin` is in
        the request's body alone: not in a log of ours or Proxmox's, nor in a process list."""
        if len(stdin.encode()) > STDIN:
            file = f"/run/daas-{secrets.token_hex(8)}"
            self.put(file, stdin.encode(), 0o600)
            args, stdin = [*SHELL, FED, "fed", file, *args], ""
        ended = self.ended(self.start(args, stdin), args[0], timeout_s)
        if ended.exit_code:
            raise CommandFailed(args[0], ended.exit_code, (ended.out + ended.err)[-TAIL:])
        return ended.out

    def put(self, path: str, content: bytes, mode: int) -> None:
        """The file is there, whole or not at all, with this mode."""
        pieces = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)] or [b""]
        for number, piece in enumerate(pieces):
            which = "first" * (number == 0) + "last" * (number == len(pieces) - 1)
            args = [*SHELL, PUT, "put", path, f"{mode:o}", which]
            self.run(args, base64.b64encode(piece).decode())

    def start(self, args: list[str], stdin: str = "", comes_s: float = COMES_S) -> int:
        """Return the process id of a command that was started; AgentAway if no agent came."""
        deadline = time.monotonic() + comes_s
        order: dict[str, Any] = {"command": args, **({"input-data": stdin} if stdin else {})}
        while True:
            asked = time.monotonic()
            try:
                return int(self._client.post(f"{self._path}/exec", order)["pid"])
            except AgentAway:
                self._pause(asked, deadline)
            except Refused as error:
                if "No such file" in str(error) or "Failed to execute child" in str(error):
                    raise CommandFailed(args[0], NO_PROGRAM, str(error)) from error
                raise

    def status(self, pid: int) -> Outcome | None:
        """Return how it ended, or None while it runs. It is told once."""
        found = self._client.get(f"{self._path}/exec-status", pid=pid)
        if not found.get("exited"):
            return None
        code = found.get("exitcode", 128 + int(found.get("signal") or 0))
        return Outcome(int(code), found.get("out-data") or "", found.get("err-data") or "")

    def ended(self, pid: int, program: str, timeout_s: float = RUN_S) -> Outcome:
        """Return how it ended, once it has. Refused at the time limit."""
        deadline, steps_s = time.monotonic() + timeout_s, [*STEPS_S]
        while (found := self.status(pid)) is None:
            if time.monotonic() > deadline:
                raise Refused(f"{program} did not end within {timeout_s:.0f} s.")
            if process.stop.get().wait(steps_s.pop(0) if len(steps_s) > 1 else steps_s[0]):
                raise Stopped(program)
        return found

    def cards(self) -> list[dict[str, Any]]:
        """Return the guest's network cards and their addresses. AgentAway while it is away."""
        found: list[dict[str, Any]] = self._client.get(f"{self._path}/network-get-interfaces")[
            "result"
        ]
        return found

    def _pause(self, asked: float, deadline: float) -> None:
        """Those that answer "not running" at once would be asked a hundred times a second."""
        if time.monotonic() >= deadline:
            raise AgentAway(1.0, "the guest agent")
        if process.stop.get().wait(max(0.0, 0.2 - (time.monotonic() - asked))):
            raise Stopped(self._path)


def address_of(cards: list[dict[str, Any]], mac: str) -> str | None:
    """Return the IPv4 address of the card with that hardware address, if it has one yet."""
    for card in cards:
        if str(card.get("hardware-address", "")).lower() != mac.lower():
            continue
        for one in card.get("ip-addresses") or []:
            given = str(one.get("ip-address", ""))
            if one.get("ip-address-type") == "ipv4" and not given.startswith("169.254."):
                return given
    return None
