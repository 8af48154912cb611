"""The simulator from outside: in virtual time by `call`, in real time by proxmoxer over HTTPS."""

from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI

from pve_simulator import Simulator, VirtualSimulator

WORLD = Path(__file__).parents[1] / "examples" / "one-node.yaml"


@pytest.fixture
def sim():
    with VirtualSimulator(WORLD) as simulator:
        yield simulator


def finish(sim: VirtualSimulator, upid: str, node: str = "pve1") -> str:
    while True:
        task = sim.call("GET", f"/nodes/{node}/tasks/{upid}/status").data
        if task["status"] == "stopped":
            return str(task["exitstatus"])
        sim.run(sim.now_s + 0.5)


def test_a_linked_clone_starts_and_is_destroyed(sim):
    clone = sim.call(
        "POST", "/nodes/pve1/qemu/9000/clone", {"newid": 100, "name": "ada", "full": 0}
    )

    assert finish(sim, clone.data) == "OK"
    config = sim.call("GET", "/nodes/pve1/qemu/100/config").data
    assert config["scsi0"] == ("local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2,size=8G")
    assert config["net0"].startswith("virtio=BC:24:11:")
    assert config["net0"] != "virtio=BC:24:11:00:00:01,bridge=vmbr0"
    assert finish(sim, sim.call("POST", "/nodes/pve1/qemu/100/status/start").data) == "OK"
    assert sim.call("GET", "/nodes/pve1/qemu/100/status/current").data["status"] == "running"
    refused = sim.call("DELETE", "/nodes/pve1/qemu/100")
    assert (refused.status, refused.reason) == (500, "VM 100 is running - destroy failed")
    assert finish(sim, sim.call("POST", "/nodes/pve1/qemu/100/status/stop").data) == "OK"
    assert finish(sim, sim.call("DELETE", "/nodes/pve1/qemu/100").data) == "OK"
    gone = sim.call("GET", "/nodes/pve1/qemu/100/config")
    assert gone.reason == "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"


def test_proxmoxer_talks_to_it_over_verified_https():
    with Simulator(WORLD, latencies="fast") as sim:
        user, _, name = sim.token_id.partition("!")
        api = ProxmoxAPI(
            sim.url.removeprefix("https://"),
            user=user,
            token_name=name,
            token_value=sim.token_secret,
            verify_ssl=sim.ca_file,
        )

        nodes = api.nodes.get()

        assert [node["node"] for node in nodes] == ["pve1"]
        assert api.version.get()["release"] == "8.4"
