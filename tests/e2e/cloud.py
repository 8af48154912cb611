"""The product on a Proxmox VE that is simulated: real `daas`, real Terraform with its real
provider, real HTTPS; only hypervisor and guests are not. Each installation has its own cluster."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from proxmoxer import ProxmoxAPI
from pve_simulator import Simulator
from pve_simulator.engine.vm import Vm
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

from daas.providers.base import Tag
from daas.providers.proxmox import marks
from e2e import tiny
from e2e.product import Product, kill, until

ROOT = Path(__file__).resolve().parents[2]
MIRROR = ROOT / "build/tf-mirror"
TOFU = ROOT / "build/tools/tofu"
GUESTS = "support.guests:RdpGuest"
IMAGE, TEMPLATE = "tmpl-tiny-1", 9000
RANGE = "20000-20999"
GIB = 1024


def world(nodes: int, is_shared: bool, instance: str, latencies: Any) -> World:
    """A cluster whose template each node can clone: one on a storage of all, or one for each."""
    names = [f"pve{n + 1}" for n in range(nodes)]
    storage = StorageSpec("shared", "nfs", ["images"], shared=True, size_gib=4000)
    local = StorageSpec("local", "dir", ["images"], size_gib=2000)
    owners = names[:1] if is_shared else names
    return World(
        cluster="lab" if nodes > 1 else None,
        nodes=[NodeSpec(name, cpus=32, memory_mib=256 * GIB) for name in names],
        storages=[storage if is_shared else local],
        vms=[
            _template(TEMPLATE + n, node, storage if is_shared else local, instance)
            for n, node in enumerate(owners)
        ],
        latencies=latencies if isinstance(latencies, dict) else {"profile": latencies},
    )


def _template(vmid: int, node: str, storage: StorageSpec, instance: str) -> VmSpec:
    config = {
        "name": IMAGE,
        "template": 1,
        "tags": ";".join(marks.image_words(instance)),
        "agent": "1",
        "cores": 1,
        "memory": "256",
        "scsihw": "virtio-scsi-pci",
        "boot": "order=scsi0",
        "scsi0": f"{storage.id}:{vmid}/base-{vmid}-disk-0.qcow2,size=2G",
        "net0": f"virtio=BC:24:11:00:00:{vmid % 100:02X},bridge=vmbr0",
    }
    return VmSpec(vmid, node, config)


class Cloud:
    """An installation and its cluster; `worker` and `web` apart, so that one can die alone."""

    def __init__(self, product: Product, sim: Simulator):
        self.product, self.sim = product, sim
        self.worker: Any = None

    def work(self) -> None:
        """A worker is at work."""
        if self.worker is None or self.worker.poll() is not None:
            self.worker = self.product.spawn(sys.executable, "-m", "daas.cli", "worker")

    def kill_worker(self) -> None:
        """As `kill -9`: the worker and nobody else."""
        self.worker.kill()
        self.worker.wait()

    def terraforms(self) -> list[int]:
        """The processes of Terraform and its provider that run for this installation."""
        return [pid for pid in _pids() if _works_in(pid, self.product.data_dir / "terraform/runs")]

    def request(self) -> str:
        return str(self.product.call("POST", "/api/v1/sessions", {"template": "tiny"})["id"])

    def machines(self) -> list[str]:
        """Of sessions; the templates are not among them."""
        return [
            str(vm.config.get("name"))
            for vm in self.sim.cluster.vms.values()
            if not vm.config.get("template")
        ]

    def volumes(self) -> set[str]:
        """Of machines and templates, on all storages of all nodes."""
        storages, nodes = self.sim.cluster.storages, self.sim.cluster.nodes
        return {
            f"{node}/{volume.id}"
            for node in nodes
            for storage in storages
            for volume in storages.volumes(storage.id, node)
        }

    def tasks(self) -> list[Any]:
        """All of the cluster, the newest last."""
        return list(self.sim.cluster.tasks)

    def api(self) -> ProxmoxAPI:
        """The cluster as whoever asks it by hand sees it."""
        user, _, token = self.sim.token_id.partition("!")
        login = {"user": user, "token_name": token, "token_value": self.sim.token_secret}
        host = self.sim.url.removeprefix("https://")
        return ProxmoxAPI(host, verify_ssl=self.sim.ca_file, timeout=30, **login)

    def variables(self) -> dict[str, Any]:
        """What the module must be told of every machine on this cluster."""
        return {
            "api_url": self.sim.url,
            "token_id": self.sim.token_id,
            "token_secret": self.sim.token_secret,
            "template_vmid": TEMPLATE,
            "template_node": "pve1",
            "storage": next(iter(self.sim.cluster.storages)).id,
            "memory_mib": 256,
            "cores": 1,
        }

    def populate(self, names: Iterable[str]) -> None:
        """There are machines of these sessions, as if they had been made."""
        instance = (self.product.data_dir / "secrets/instance").read_text()
        nodes = cycle(self.sim.cluster.nodes)
        for number, name in enumerate(names, 21000):
            tags = ";".join(marks.words(Tag(instance, name, "seeded"), 1))
            config = {"name": name, "tags": tags, "cores": 1, "memory": "256"}
            self.sim.cluster.vms[number] = Vm(number, next(nodes), config)

    def close(self) -> None:
        if self.worker:
            kill(self.worker)
        self.product.stop()


@contextmanager
def cloud(
    folder: Path,
    nodes: int = 1,
    is_shared: bool = False,
    latencies: str | dict[str, Any] = "fast",
    module: str = "ephemeral-bpg",
    **settings: str,
) -> Iterator[Cloud]:
    """An installation whose web and worker run, with a template that can be cloned."""
    product = Product(folder / "data", **settings)
    product.environment["DAAS_PROVIDER"] = "simulated"  # until there is a cluster to name
    product.init()
    instance = (product.data_dir / "secrets/instance").read_text()
    guests = {"kind": GUESTS, "awaiting": list(range(TEMPLATE, TEMPLATE + nodes))}
    with Simulator(world(nodes, is_shared, instance, latencies), guests=guests) as sim:
        product.environment |= {**_settings(sim, module), **settings}
        product.run("init")
        made = Cloud(product, sim)
        try:
            product.start(parts=("web",))
            tiny.offer(product, IMAGE)
            made.work()
            until(lambda: {"worker", "nodes"} <= product.well(), 30.0, product.tail)
            yield made
        finally:
            made.close()


def _settings(sim: Simulator, module: str) -> dict[str, str]:
    return {
        "DAAS_PROVIDER": "proxmox",
        "PROXMOX_URL": sim.url,
        "TERRAFORM_DIR": str(ROOT / "terraform" / module),
        "DAAS_PROXMOX_CA_FILE": sim.ca_file,
        "DAAS_PROXMOX_TOKEN_ID": sim.token_id,
        "DAAS_PROXMOX_TOKEN_SECRET": sim.token_secret,
        "DAAS_PROXMOX_VMIDS": RANGE,
        "DAAS_TF_MIRROR": str(MIRROR),
        "MAX_CONCURRENT_SESSIONS": "1000",
    }


def _pids() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve().is_relative_to(folder.resolve())
    except OSError:
        return False
