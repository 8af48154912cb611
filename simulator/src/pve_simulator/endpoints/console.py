"""The way to a VM's screen or terminal: a port, a ticket and a password. Nothing listens there."""

from typing import Any

from pve_simulator.api import Failed, Steps
from pve_simulator.dispatch import Call
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Vm
from pve_simulator.router import endpoint

Row = dict[str, Any]
VM = "/nodes/{node}/qemu/{vmid}"
FIRST_PORT = 5900
TIMEOUT_S = 10
PRINTABLE = (33, 127)  # of ASCII, as a VNC password has


@endpoint("POST", f"{VM}/vncproxy", protected=True, latency="fork")
def vncproxy(call: Call) -> Row:
    """The password is a part of the ticket, too: old clients have only that."""
    vm = call.vm()
    password = _password(call)
    is_terminal = _is_serial(vm, str(vm.config.get("vga", "")))
    has_password = (
        not is_terminal or call.params.get("websocket") or call.params.get("generate-password")
    )
    ticket = call.cluster.access.login.console_ticket(call.identity.name)
    row = {
        "user": call.identity.name,
        "ticket": f"{password}:{ticket}" if has_password else ticket,
        "cert": CERTIFICATE,
        "port": str(FIRST_PORT),
        "upid": call.start("vncproxy", vm.vmid, lambda task: _wait_for_client(call, task)),
    }
    return row | ({"password": password} if has_password else {})


@endpoint("POST", f"{VM}/termproxy", protected=True, latency="fork")
def termproxy(call: Call) -> Row:
    vm = call.vm()
    wanted = str(call.params.get("serial") or "")
    if wanted and wanted not in vm.config:
        raise Failed(f"unable to find serial interface '{wanted}'")
    if not wanted and not any(key.startswith("serial") for key in vm.config):
        raise Failed("unable to find a serial interface")
    return {
        "user": call.identity.name,
        "ticket": call.cluster.access.login.console_ticket(call.identity.name),
        "port": str(FIRST_PORT),
        "upid": call.start("vncproxy", vm.vmid, lambda task: _wait_for_client(call, task)),
    }


def _wait_for_client(call: Call, task: Task) -> Steps[None]:
    yield call.cluster.env.timeout(TIMEOUT_S)
    raise Failed("connection timed out")


def _is_serial(vm: Vm, vga: str) -> bool:
    return vga.split(",")[0].removeprefix("type=").startswith("serial")


def _password(call: Call) -> str:
    return "".join(chr(call.cluster.dice.randrange(*PRINTABLE)) for _ in range(8))


CERTIFICATE = "-----BEGIN CERTIFICATE-----\n(simulated)\n-----END CERTIFICATE-----\n"
