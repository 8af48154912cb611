"""The guest agent. Without one a call blocks for three seconds, and a worker with it.

An agent that comes up in those three seconds is heard at once.
"""

import base64
from dataclasses import dataclass
from typing import Any, cast

from pve_simulator.api import Failed, Steps
from pve_simulator.dispatch import Call
from pve_simulator.engine.vm import Vm
from pve_simulator.guests import Execution, Guest
from pve_simulator.router import endpoint

Row = dict[str, Any]
AGENT = "/nodes/{node}/qemu/{vmid}/agent"
LOOK_EVERY_S = 0.1
MAX_READ = 16 << 20


@dataclass
class Started:
    """A command in the guest; without a result while it runs."""

    result: Execution | None = None


@endpoint("GET", f"{AGENT}/network-get-interfaces", protected=True)
def interfaces(call: Call) -> Steps[Row]:
    guest = yield from _agent(call)
    found = yield from call.cluster.with_guest(guest, guest.interfaces)
    return {"result": found}


@endpoint("GET", f"{AGENT}/get-osinfo", protected=True)
def os_info(call: Call) -> Steps[Row]:
    guest = yield from _agent(call)
    return {"result": (yield from call.cluster.with_guest(guest, guest.os_info))}


@endpoint("GET", f"{AGENT}/get-host-name", protected=True)
def host_name(call: Call) -> Steps[Row]:
    yield from _agent(call)
    return {"result": {"host-name": call.vm().config.get("name", f"VM{call.vmid}")}}


@endpoint("GET", f"{AGENT}/info", protected=True)
def info(call: Call) -> Steps[Row]:
    yield from _agent(call)
    commands = ("guest-ping", "guest-exec", "guest-exec-status", "guest-file-open",
                "guest-file-read", "guest-file-write", "guest-network-get-interfaces")  # fmt: skip
    supported = [{"name": name, "enabled": True, "success-response": True} for name in commands]
    return {"result": {"version": "7.2.0", "supported_commands": supported}}


@endpoint("GET", f"{AGENT}/get-time", protected=True)
def get_time(call: Call) -> Steps[Row]:
    yield from _agent(call)
    return {"result": int(call.cluster.unix_time * 1e9)}


@endpoint("GET", f"{AGENT}/get-fsinfo", protected=True)
def fs_info(call: Call) -> Steps[Row]:
    yield from _agent(call)
    root = {"name": "sda1", "mountpoint": "/", "type": "ext4", "disk": []}
    return {"result": [root | {"total-bytes": call.vm().disk_size, "used-bytes": 1 << 30}]}


def _nothing(command: str) -> None:
    """Register a command that has no result."""

    @endpoint("POST", f"{AGENT}/{command}", protected=True)
    def answer(call: Call) -> Steps[Row]:
        yield from _agent(call)
        return {"result": {}}


for _command in ("ping", "fstrim", "set-user-password"):
    _nothing(_command)


@endpoint("POST", f"{AGENT}/shutdown", protected=True)
def shutdown(call: Call) -> Steps[Row]:
    yield from _agent(call)
    call.cluster.env.process(_power_off(call))
    return {"result": {}}


@endpoint("POST", AGENT, protected=True)
def command(call: Call) -> Steps[Row]:
    """The old way: the command as a parameter."""
    name = str(call.params["command"])
    if name == "network-get-interfaces":
        return cast(Row, (yield from interfaces(call)))
    if name == "get-osinfo":
        return cast(Row, (yield from os_info(call)))
    yield from _agent(call)
    return {"result": {}}


@endpoint("POST", f"{AGENT}/exec", protected=True)
def execute(call: Call) -> Steps[Row]:
    """Start a command; its pid is what `exec-status` is asked for."""
    given, stdin = call.params.get("command"), call.params.get("input-data")
    if given is None and stdin is None:
        raise Failed("command or input-data (or both) required")
    args = [given] if isinstance(given, str) else list(given or [])
    guest = yield from _agent(call)
    vm, started = call.vm(), Started()
    pid = vm.last_pid = vm.last_pid + 1
    vm.executions[pid] = started
    data = str(stdin or "").encode()
    call.cluster.env.process(_run(call, guest, args, data, started))
    return {"pid": pid}


def _run(call: Call, guest: Guest, args: list[str], stdin: bytes, started: Started) -> Steps[None]:
    try:
        result = yield from call.cluster.with_guest(guest, lambda: guest.execute(args, stdin))
    except OSError as error:  # the guest went away meanwhile
        result = Execution(127, err=str(error))
    yield call.cluster.env.timeout(result.seconds)
    started.result = result


@endpoint("GET", f"{AGENT}/exec-status", protected=True)
def execute_status(call: Call) -> Steps[Row]:
    yield from _agent(call)
    pid = int(call.params["pid"])
    started: Started | None = call.vm().executions.get(pid)
    if started is None:
        raise Failed(f"Agent error: Invalid parameter 'pid': no process with PID {pid}")
    if started.result is None:
        return {"exited": 0}
    # The agent forgets a command once it has told how it ended.
    del call.vm().executions[pid]
    row: Row = {"exited": 1, "exitcode": started.result.exit_code}
    if started.result.out:
        row["out-data"] = started.result.out
    if started.result.err:
        row["err-data"] = started.result.err
    return row


@endpoint("GET", f"{AGENT}/file-read", protected=True)
def file_read(call: Call) -> Steps[Row]:
    guest, path = (yield from _agent(call)), str(call.params["file"])
    content = yield from _file(call, guest, path, lambda: guest.read_file(path))
    row: Row = {"content": content[:MAX_READ].decode("latin-1"), "bytes-read": len(content)}
    return row | ({"truncated": 1} if len(content) > MAX_READ else {})


@endpoint("POST", f"{AGENT}/file-write", protected=True)
def file_write(call: Call) -> Steps[None]:
    guest, path = (yield from _agent(call)), str(call.params["file"])
    content = str(call.params["content"])
    is_plain = call.params.get("encode", 1)
    data = content.encode() if is_plain else base64.b64decode(content)
    yield from _file(call, guest, path, lambda: guest.write_file(path, data))


def _file(call: Call, guest: Guest, path: str, work: Any) -> Steps[Any]:
    try:
        return (yield from call.cluster.with_guest(guest, work))
    except OSError as error:
        reason = error.strerror or "No such file or directory"
        raise Failed(f"Agent error: failed to open file '{path}': {reason}") from error


def _agent(call: Call) -> Steps[Guest]:
    """The guest, once its agent answers; otherwise 500 after the wait."""
    vm = call.vm()
    if "agent" not in vm.config:
        raise Failed("No QEMU guest agent configured")
    if vm.run is None:
        raise Failed(f"VM {vm.vmid} is not running")
    guest = call.cluster.guest_of(vm)
    yield from _wait_for(call, vm, guest)
    yield call.cluster.wait("agent")
    return guest


def _wait_for(call: Call, vm: Vm, guest: Guest) -> Steps[None]:
    env = call.cluster.env
    limit = env.now + call.cluster.latencies.exactly("agent_wait")
    while True:
        # Whether QEMU gave the guest a channel to talk on is decided when it starts.
        has_channel = vm.run is not None and "agent" in vm.run.config and vm.run.status == "running"
        is_kept_down = call.cluster.faults.is_agent_kept_down(vm.vmid)
        can_be_up = has_channel and not is_kept_down
        if can_be_up and (yield from call.cluster.with_guest(guest, guest.is_agent_up)):
            return
        if env.now >= limit:
            raise Failed("QEMU guest agent is not running")
        yield env.timeout(min(LOOK_EVERY_S, max(limit - env.now, 0.001)))


def _power_off(call: Call) -> Steps[None]:
    yield call.cluster.wait("shutdown")
    vm = call.cluster.vms.get(call.vmid)
    if vm is not None and vm.run is not None and vm.guest is not None:
        guest = vm.guest
        yield from call.cluster.with_guest(guest, lambda: guest.stop(is_saved=False))
        vm.run = None
