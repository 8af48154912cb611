"""A cluster in virtual time, and few words to talk to it."""

from dataclasses import dataclass
from typing import Any

from pve_simulator import VirtualSimulator, World
from pve_simulator.api import Response
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec

GIB = 1 << 30


@dataclass
class Api:
    """Calls on one node. `task` starts one and gives how it ended."""

    sim: VirtualSimulator
    node: str = "pve1"

    def on(self, node: str) -> "Api":
        return Api(self.sim, node)

    def call(self, method: str, path: str, /, **params: Any) -> Response:
        named = {key.replace("__", "-"): value for key, value in params.items()}
        path = path if path.startswith("/") else f"/nodes/{self.node}/{path}"
        return self.sim.call(method, path, named)

    def get(self, path: str, /, **params: Any) -> Any:
        answer = self.call("GET", path, **params)
        assert answer.status == 200, answer.reason
        return answer.data

    def refused(self, method: str, path: str, /, **params: Any) -> str:
        answer = self.call(method, path, **params)
        assert answer.status != 200, answer.body
        return answer.reason

    def start(self, method: str, path: str, /, **params: Any) -> str:
        answer = self.call(method, path, **params)
        assert answer.status == 200, answer.reason
        return str(answer.data)

    def status(self, upid: str) -> dict[str, Any]:
        node = upid.split(":")[1]
        return dict(self.get(f"/nodes/{node}/tasks/{upid}/status"))

    def wait(self, upid: str, limit_s: float = 600) -> str:
        until = self.sim.now_s + limit_s
        while self.sim.now_s < until:
            status = self.status(upid)
            if status["status"] == "stopped":
                return str(status["exitstatus"])
            self.sim.run(self.sim.now_s + 0.2)
        raise AssertionError(f"{upid} did not end in {limit_s} s")

    def task(self, method: str, path: str, /, **params: Any) -> str:
        return self.wait(self.start(method, path, **params))

    def clone(self, newid: int, source: int = 9000, **params: Any) -> str:
        return self.task("POST", f"qemu/{source}/clone", newid=newid, **params)

    def up(self, vmid: int) -> None:
        """The VM runs, and its agent answers."""
        assert self.task("POST", f"qemu/{vmid}/status/start") == "OK"
        self.sim.run(self.sim.now_s + 12)

    def config(self, vmid: int) -> dict[str, Any]:
        return dict(self.get(f"qemu/{vmid}/config"))

    def volumes(self, storage: str = "local") -> list[str]:
        return sorted(row["volid"] for row in self.get(f"storage/{storage}/content"))

    def wait_s(self, seconds: float) -> None:
        self.sim.run(self.sim.now_s + seconds)


def template(vmid: int, node: str, storage: str) -> VmSpec:
    return VmSpec(
        vmid,
        node,
        {
            "name": f"template-{vmid}",
            "template": 1,
            "agent": "1",
            "cores": 2,
            "memory": "1024",
            "scsihw": "virtio-scsi-pci",
            "boot": "order=scsi0;ide2;net0",
            "scsi0": f"{storage}:{vmid}/base-{vmid}-disk-0.qcow2,size=8G",
            "ide2": f"{storage}:{vmid}/vm-{vmid}-cloudinit.qcow2,media=cdrom,size=4M",
            "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "smbios1": "uuid=11111111-1111-4111-a111-111111111111",
            "vmgenid": "22222222-2222-4222-a222-222222222222",
        },
    )


def two_nodes() -> World:
    """A cluster of two, with a local and a shared storage, and a template on each."""
    return World(
        cluster="lab",
        nodes=[NodeSpec("pve1"), NodeSpec("pve2")],
        storages=[
            StorageSpec("local"),
            StorageSpec("shared", type="nfs", content=["images"], shared=True),
        ],
        vms=[template(9000, "pve1", "local"), template(9100, "pve1", "shared")],
        latencies={"profile": "real", "spread": 0.0},
    )
