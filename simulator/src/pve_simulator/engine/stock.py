"""What QEMU as its makers and Debian ship it refuses, and the one of Proxmox VE does not.

Proxmox VE's opens images without locks and can save the memory of a VM while it runs. A world with
`stock_qemu: true` has the other one, as a lab without Proxmox's packages of QEMU has.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pve_simulator.api import Failed
from pve_simulator.engine.properties import is_cdrom

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.vm import Vm
    from pve_simulator.engine.volumes import Volume


def refuse_open_images(cluster: "Cluster", volumes: "Iterable[Volume]") -> None:
    """To ask an image for its size is to open it, which fails while a running VM writes to it."""
    if not cluster.has_stock_qemu:
        return
    for volume in volumes:
        if volume.content == "images" and _is_written_to(cluster, volume):
            path = cluster.storages.path(cluster.storages.get(volume.storage), volume.id)
            raise Failed(
                f"qemu-img: Could not open '{path}': Failed to get shared \"write\" lock\n"
                f"Is another process using the image [{path}]?"
            )


def refuse_savevm(cluster: "Cluster", vm: "Vm") -> None:
    """Saving the memory is an addition of Proxmox VE's own."""
    if cluster.has_stock_qemu:
        raise Failed(
            f"VM {vm.vmid} qmp command 'savevm-start' failed - "
            "The command savevm-start has not been found"
        )


def _is_written_to(cluster: "Cluster", volume: "Volume") -> bool:
    for vm in cluster.vms.values():
        if vm.run is None:
            continue
        for drive in vm.drives(vm.run.config).values():
            if drive["file"] == volume.id and not is_cdrom(drive):
                return True
    return False
