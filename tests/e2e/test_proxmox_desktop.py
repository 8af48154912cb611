"""A desktop on Proxmox VE, all the way: our API, Terraform with the real provider, the simulator, a
guest that boots (a container of LXD, from the template that the other tests use), and RDP."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pve_simulator import Simulator, World
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec

from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.errors import Absent
from daas.providers.lxd.machine import SEALED, TEMPLATE, free_range
from e2e.conftest import TEMPLATE as DESKTOP
from e2e.product import BUILD, Product, folder
from e2e.rdp import connected, has_panel

SOURCE = "pvesim-template"
AWAIT = "/var/lib/daas/await"
ROOT = Path(__file__).resolve().parents[2]
PANEL_S = 60.0

Json = dict[str, Any]


@pytest.fixture(scope="module")
def lxd_api() -> Iterator[LxdClient]:
    client = LxdClient()
    yield client
    client.close()


@pytest.fixture(scope="module")
def awaiting(product: Product, lxd_api: LxdClient) -> Iterator[str]:
    """The template as it is built for Proxmox: it waits for its files by the agent."""
    for one in lxd_api.request("GET", "/1.0/instances?recursion=1"):
        if one["name"].startswith("pvesim-"):  # of a run that was killed
            _remove(lxd_api, one["name"])
    built = next(
        one
        for one in lxd_api.request("GET", "/1.0/instances?recursion=1")
        if one["config"].get(TEMPLATE) == DESKTOP and one["config"].get(SEALED) == "true"
    )
    source = {"type": "copy", "source": built["name"], "instance_only": True}
    order = {"name": SOURCE, "profiles": [], "devices": built["devices"], "source": source}
    lxd_api.do("POST", "/1.0/instances", order)
    lxd_api.put_file(SOURCE, AWAIT, b"", 0o644)
    yield SOURCE
    _remove(lxd_api, SOURCE)


@pytest.fixture(scope="module")
def sim(awaiting: str, lxd: dict[str, str], lxd_api: LxdClient) -> Iterator[Simulator]:
    config = {
        "name": "desktop",
        "template": 1,
        "agent": "1",
        "boot": "order=scsi0",
        "memory": "2048",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        "scsi0": "local:9000/base-9000-disk-0.qcow2,size=6G",
    }
    world = World(
        nodes=[NodeSpec("pve1", memory_mib=16384)],
        storages=[StorageSpec("local")],
        vms=[VmSpec(9000, "pve1", config)],
    )
    guests = {
        "kind": "lxd",
        "containers": {9000: awaiting},
        "prefix": "pvesim-",
        "network": lxd.get("DAAS_LXD_BRIDGE", "daasbr0"),
    }
    with Simulator(world, latencies="fast", guests=guests) as simulator:
        yield simulator
        left = [vmid for vmid in simulator.cluster.vms if vmid != 9000]
    for vmid in left:
        _remove(lxd_api, f"pvesim-{vmid}")


@pytest.fixture(scope="module")
def installation(sim: Simulator, lxd: dict[str, str], lxd_api: LxdClient) -> Iterator[Product]:
    """`daas serve` on Proxmox, which knows the template as one of its administrator's."""
    subprocess.run([ROOT / "deploy/terraform-tools"], check=True, timeout=900)
    network = lxd_api.request("GET", f"/1.0/networks/{lxd.get('DAAS_LXD_BRIDGE', 'daasbr0')}")
    found = free_range(network["config"])
    assert found, network
    shutil.rmtree(folder("proxmox"), ignore_errors=True)  # of a cluster that is gone
    made = Product(
        folder("proxmox"),
        DAAS_PROVIDER="proxmox",
        PROXMOX_URL=sim.url,
        DAAS_PROXMOX_TOKEN_ID=sim.token_id,
        DAAS_PROXMOX_TOKEN_SECRET=sim.token_secret,
        DAAS_PROXMOX_CA_FILE=sim.ca_file,
        DAAS_PROXMOX_ADDRESSES=f"{found[1].rsplit('.', 1)[0]}.{_last(found[1]) - 9}-{found[1]}",
        DAAS_PROXMOX_GATEWAY=network["config"]["ipv4.address"],
        DAAS_TF_MIRROR=str(ROOT / "build/tf-mirror"),
    )
    made.init()
    try:
        made.start()
        document = yaml.safe_load((ROOT / f"templates/{DESKTOP}.yaml").read_text())
        document["name"] = "pve-desktop"
        document["provider"]["proxmox"] = {"template": "desktop"}
        made.call("POST", "/api/v1/templates", document)
        made.build("pve-desktop")
        yield made
        made.clear()
    finally:
        made.stop()


def test_a_desktop_on_proxmox_is_seen_by_rdp_and_leaves_nothing(
    installation: Product, sim: Simulator, lxd_api: LxdClient
) -> None:
    began = time.monotonic()
    made = installation.create(owner="ada", template="pve-desktop", wait_s=120)
    assert made["status"] == "ready", made
    ready_s = time.monotonic() - began
    number = next(vm.vmid for vm in sim.cluster.vms.values() if vm.config["name"] == made["id"])

    _, password = installation.credential(made["id"])
    where = f"{made['rdp']['host']}:{made['rdp']['port']}"
    certificate = str(made["certificate"]["sha256"])
    with connected(where, made["local_user"], password, certificate) as client:
        client.wait_for_panel(PANEL_S)
        time.sleep(2)
        client.screen.save(BUILD / "e2e/proxmox-desktop.png")
        seen = has_panel(client.screen.picture())
    installation.delete(made["id"])
    installation.wait_for(made["id"], "deleted", timeout_s=60.0)

    assert seen
    assert ready_s < 60
    assert number not in sim.cluster.vms
    with pytest.raises(Absent):
        lxd_api.request("GET", f"/1.0/instances/pvesim-{number}")


def _last(address: str) -> int:
    return int(address.rpartition(".")[2])


def _remove(client: LxdClient, name: str) -> None:
    with contextlib.suppress(Absent):
        found = client.request("GET", f"/1.0/instances/{name}")
        if found["status"] != "Stopped":
            order = {"action": "stop", "force": True, "timeout": 30}
            client.do("PUT", f"/1.0/instances/{name}/state", order)
        client.do("DELETE", f"/1.0/instances/{name}")
