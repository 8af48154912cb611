"""A guest of the simulator that behaves as our baked one does: it boots, has an agent and files,
and opens an RDP port that speaks TLS, on a loopback address of its own."""

import base64
import contextlib
import re
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pve_simulator.guests import Execution

from daas.providers.proxmox.agent import FED, PUT
from daas.providers.proxmox.guest import PROGRAM

PERSONAL = "/var/lib/daas/personal"
DONE = "/var/lib/daas/done"
CONFIRM = bytes.fromhex("030000130ed000001234000209080001000000")
CONFIRM = CONFIRM[:11] + b"\x02" + CONFIRM[12:]
PORT = 3389


class RdpGuest:
    """Options: `awaiting`, the numbers of templates whose copies open RDP only when they were
    given their files; copies of others make a certificate of their own."""

    is_slow = False

    def __init__(self, cluster: Any, vm: Any, options: Mapping[str, Any]) -> None:
        self._cluster, self._vm = cluster, vm
        self._awaits = _template(vm) in options.get("awaiting", ())
        self.files: dict[str, bytes] = {}
        self.told: list[list[str]] = []
        self.has_program = True
        self._kept: dict[str, dict[str, bytes]] = {}
        self._started = 0
        self._is_up = False
        self._door: Door | None = None

    @property
    def address(self) -> str:
        found = re.search(r"ip=([\d.]+)", str(self._vm.config.get("ipconfig0", "")))
        return found[1] if found else f"127.99.{self._vm.vmid // 250 % 250}.{self._vm.vmid % 250}"

    def start(self, *, is_resumed: bool) -> None:
        self._started += 1
        if is_resumed:
            self._is_up = True
            self._open()
        else:
            self._cluster.env.process(self._boot(self._started))

    def stop(self, *, is_saved: bool) -> None:
        self._is_up = False
        self._started += 1
        if self._door:
            self._door.close()
            self._door = None

    def snapshot_taken(self, snapshot: str) -> None:
        self._kept[snapshot] = dict(self.files)

    def rolled_back(self, snapshot: str) -> None:
        self.files = dict(self._kept[snapshot])

    def destroy(self) -> None:
        self.stop(is_saved=False)
        self.files.clear()

    def is_agent_up(self) -> bool:
        return self._is_up

    def interfaces(self) -> list[dict[str, Any]]:
        mac = re.search(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}", str(self._vm.config.get("net0", "")))
        return [
            _card("lo", "00:00:00:00:00:00", "127.0.0.1"),
            _card("eth0", mac[0].lower() if mac else "", self.address),
        ]

    def os_info(self) -> dict[str, str]:
        return {"id": "debian", "version-id": "12"}

    def execute(self, args: list[str], stdin: bytes) -> Execution:
        self.told.append(args)
        match args:
            case ["cat", path]:
                return self._cat(path)
            case ["true"]:
                return Execution()
            case ["cat"]:
                return Execution(out=stdin.decode())
            case [_, _, script, _, path, _, which] if script == PUT:
                return self._put(path, base64.b64decode(stdin), which)
            case [_, _, script, _, path, *command] if script == FED:
                return self.execute(command, self.files.pop(path))
            case [program, *_] if program == PROGRAM and not self.has_program:
                return Execution(127, err=f"{program}: No such file or directory")
            case [program, "personalize"] if program == PROGRAM:
                return self._personalize(stdin.decode())
            case [program, "assign"] if program == PROGRAM:
                self.files["/etc/owner"] = stdin
                return Execution()
        return Execution(127, err=f"{args[0]}: No such file or directory")

    def read_file(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def write_file(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def _boot(self, start: int) -> Iterator[Any]:
        yield self._cluster.env.timeout(self._cluster.latencies("boot"))
        is_there = self._cluster.vms.get(self._vm.vmid) is self._vm  # a start may outlive its VM
        if start == self._started and is_there:  # it was not stopped meanwhile
            self._is_up = True
            if not self._awaits and DONE not in self.files:
                self._take(dict(zip(("tls.key", "tls.crt"), _own_pair(), strict=True)))
            self._open()

    def _personalize(self, text: str) -> Execution:
        if DONE not in self.files:
            lines = text.splitlines()
            if not lines or lines[-1] != ".":
                return Execution(1, err="guest: the files on stdin are not complete\n")
            found: dict[str, bytes] = {}
            for line in lines[:-1]:
                file, _, rest = line.partition(":")
                found[file] = found.get(file, b"") + rest.encode() + b"\n"
            if "tls.key" not in found:
                return Execution(1, err="guest: there is no tls.key among the files\n")
            self._take(found)
        self._open()
        return Execution(seconds=0.02)

    def _take(self, files: Mapping[str, bytes]) -> None:
        self.files |= {f"{PERSONAL}/{name}": content for name, content in files.items()}
        self.files[DONE] = b""

    def _cat(self, path: str) -> Execution:
        if path not in self.files:
            return Execution(1, err=f"cat: {path}: No such file or directory\n")
        return Execution(out=self.files[path].decode())

    def _put(self, path: str, piece: bytes, which: str) -> Execution:
        part = b"" if "first" in which else self.files[f"{path}.part"]
        self.files[f"{path}.part"] = part + piece
        if "last" in which:
            self.files[path] = self.files.pop(f"{path}.part")
        return Execution()

    def _open(self) -> None:
        key, crt = (self.files.get(f"{PERSONAL}/tls.{end}") for end in ("key", "crt"))
        if self._door is None and DONE in self.files and key and crt:
            self._door = Door(self.address, key, crt)


class Door:
    """An open RDP port, until it is closed."""

    def __init__(self, address: str, key: bytes, crt: bytes):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(key + crt)
            file.flush()
            self._context.load_cert_chain(file.name)
        self._socket = socket.create_server((address, PORT), backlog=16)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        # Closing alone would leave the port open until the thread's accept returns.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._socket.accept()
                threading.Thread(target=self._greet, args=(plain,), daemon=True).start()

    def _greet(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            plain.settimeout(2.0)
            if plain.recv(64):
                plain.sendall(CONFIRM)
                with self._context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(1)


def _template(vm: Any) -> int:
    found = re.search(r"base-(\d+)-", str(vm.config.get("scsi0", "")))
    return int(found[1]) if found else 0


def _card(name: str, mac: str, address: str) -> dict[str, Any]:
    given = {"ip-address": address, "ip-address-type": "ipv4", "prefix": 16}
    return {"name": name, "hardware-address": mac, "ip-addresses": [given]}


def _own_pair(made: list[tuple[bytes, bytes]] = []) -> tuple[bytes, bytes]:  # noqa: B006
    """One for all guests that make their own: it takes a while."""
    if not made:
        with tempfile.TemporaryDirectory() as folder:
            key, crt = Path(folder, "key"), Path(folder, "crt")
            args = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=own"]
            args += ["-days", "2", "-keyout", str(key), "-out", str(crt)]
            subprocess.run(args, check=True, capture_output=True)
            made.append((key.read_bytes(), crt.read_bytes()))
    return made[0]
