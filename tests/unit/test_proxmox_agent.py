"""What goes into a guest by its agent. The scripts are run for real, by the guest's own shell."""

import base64
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from daas import process
from daas.errors import CommandFailed, Refused, Stopped
from daas.providers.proxmox.agent import CHUNK, FED, PUT, SHELL, STDIN, Agent, address_of
from daas.providers.proxmox.errors import AgentAway

SH = shutil.which("dash") or "/bin/sh"


def run(script: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [SH, SHELL[1], script, *args]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_a_file_is_there_whole_and_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file"
    content = bytes(range(256)) * 3
    pieces = [(content[:300], "first"), (content[300:600], ""), (content[600:], "last")]

    for piece, which in pieces:
        assert not path.exists(), "not before it is whole"
        done = run(PUT, "put", str(path), "600", which, stdin=base64.b64encode(piece))
        assert done.returncode == 0, done.stderr

    assert path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["file"]
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_a_file_is_never_readable_by_others_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.part").write_text("of a try that died")
    (tmp_path / "file.part").chmod(0o666)

    run(PUT, "put", str(path), "600", "first", stdin=base64.b64encode(b"secret"))

    assert (tmp_path / "file.part").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "file.part").read_bytes() == b"secret"


def test_much_stdin_comes_from_a_file_that_goes(tmp_path: Path) -> None:
    file = tmp_path / "stdin"
    file.write_text("much")

    fed = run(FED, "fed", str(file), "sh", "-c", "cat; exit 3")

    assert fed.stdout == b"much" and fed.returncode == 3 and not file.exists()


class Wire:
    """Stands for the client: answers `exec` after `away` times without an agent."""

    def __init__(self, away: int = 0, status: dict[str, Any] | None = None):
        self.away, self.status_of = away, status or {"exited": 1, "exitcode": 0, "out-data": "x"}
        self.orders: list[dict[str, Any]] = []

    def post(self, path: str, order: dict[str, Any]) -> Any:
        self.orders.append(order)
        self.away -= 1
        if self.away >= 0:
            raise AgentAway(1.0, "the guest agent")
        return {"pid": 7}

    def get(self, path: str, **params: Any) -> Any:
        return self.status_of


def test_an_agent_that_comes_late_is_asked_again_and_not_a_hundred_times() -> None:
    wire = Wire(away=2)

    assert Agent(wire, "x").run(["true"], "secret") == "x"  # type: ignore[arg-type]

    assert len(wire.orders) == 3
    assert all(order["command"] == ["true"] for order in wire.orders)
    assert wire.orders[-1]["input-data"] == "secret"


def test_an_agent_that_does_not_come_in_time_is_named() -> None:
    with pytest.raises(AgentAway, match="guest agent"):
        Agent(Wire(away=99), "x").start(["true"], comes_s=0.3)  # type: ignore[arg-type]


def test_a_program_that_is_not_there_is_a_command_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "Agent error: Failed to execute child process \u201cx\u201d (No such file or directory)"

    def refuse(self: Wire, path: str, order: dict[str, Any]) -> Any:
        raise Refused(f"Proxmox said: {said}")

    monkeypatch.setattr(Wire, "post", refuse)

    with pytest.raises(CommandFailed) as failed:
        Agent(Wire(), "x").run(["x"])  # type: ignore[arg-type]
    assert failed.value.exit_code == 127


def test_a_command_that_never_ends_is_given_up() -> None:
    wire = Wire(status={"exited": 0})

    with pytest.raises(Refused, match="did not end within 0 s"):
        Agent(wire, "x").run(["sleep"], timeout_s=0.1)  # type: ignore[arg-type]


def test_a_step_that_is_told_to_stop_does_not_wait_for_an_agent() -> None:
    stop = threading.Event()
    stop.set()
    token = process.stop.set(stop)
    try:
        with pytest.raises(Stopped):
            Agent(Wire(away=99), "x").start(["true"])  # type: ignore[arg-type]
    finally:
        process.stop.reset(token)


def test_no_piece_is_more_than_proxmox_takes() -> None:
    wire = Wire()

    Agent(wire, "x").put("/f", b"x" * (3 * CHUNK + 1), 0o600)  # type: ignore[arg-type]

    assert [len(order["input-data"]) <= STDIN for order in wire.orders] == [True] * 4
    assert [order["command"][-1] for order in wire.orders] == ["first", "", "", "last"]


def test_the_address_is_that_of_the_card_we_know() -> None:
    lo = {"hardware-address": "00:00:00:00:00:00", "ip-addresses": [_ip("127.0.0.1")]}
    other = {"hardware-address": "bc:24:11:00:00:02", "ip-addresses": [_ip("10.9.9.9")]}
    ours = {"hardware-address": "BC:24:11:00:00:01", "ip-addresses": [_ip("fe80::1", "ipv6")]}

    assert address_of([lo, other, ours], "bc:24:11:00:00:01") is None
    ours["ip-addresses"] = [_ip("169.254.3.4"), _ip("10.0.0.7")]
    assert address_of([lo, other, ours], "bc:24:11:00:00:01") == "10.0.0.7"
    assert address_of([lo, {"hardware-address": "bc:24:11:00:00:01"}], "bc:24:11:00:00:01") is None


def _ip(address: str, kind: str = "ipv4") -> dict[str, str]:
    return {"ip-address": address, "ip-address-type": kind}
