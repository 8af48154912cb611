"""The configuration of a virtual machine."""

from typing import Any

from pve_simulator.dispatch import Call
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/nodes/{node}/qemu/{vmid}/config")
def read(call: Call) -> Row:
    vm = call.vm()
    return vm.config | {"digest": vm.digest}
