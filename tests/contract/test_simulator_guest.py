"""A VM of the Proxmox VE simulator whose guest is a container: API, boot, agent, files, network."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks
from pve_simulator import Simulator, World
from pve_simulator.world import StorageSpec, VmSpec

from contract.lxd_lab import LxdLab
from daas.providers.lxd.errors import Absent

NAME = "contract-pve-100"


@pytest.fixture
def sim(lxd: LxdLab) -> Iterator[Simulator]:
    config = {
        "name": "template",
        "template": 1,
        "agent": "1",
        "scsi0": "local:9000/base-9000-disk-0.qcow2,size=1G",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        "ipconfig0": f"ip={lxd.address}/{lxd.prefix},gw={lxd.gateway}",
    }
    world = World(storages=[StorageSpec("local")], vms=[VmSpec(9000, "pve1", config)])
    guests = {
        "kind": "lxd",
        "socket": lxd.socket,
        "containers": {9000: lxd.image},
        "prefix": "contract-pve-",
        "network": lxd.place.bridge,
    }
    with Simulator(world, latencies="fast", guests=guests) as simulator:
        yield simulator
    lxd.remove(NAME)


def test_a_container_lives_and_dies_with_its_vm(lxd: LxdLab, sim: Simulator) -> None:
    user, _, name = sim.token_id.partition("!")
    login = {"user": user, "token_name": name, "token_value": sim.token_secret}
    api = ProxmoxAPI(sim.url.removeprefix("https://"), **login, verify_ssl=sim.ca_file, timeout=30)
    vms = api.nodes("pve1").qemu

    def done(upid: str) -> str:
        status = Tasks.blocking_status(api, upid, timeout=60, polling_interval=0.1)
        return str(status["exitstatus"])

    def run(*args: str, stdin: str = "") -> tuple[int, str]:
        pid = vms(100).agent.exec.post(command=list(args), **{"input-data": stdin})["pid"]
        while not (ended := vms(100).agent("exec-status").get(pid=pid))["exited"]:
            time.sleep(0.05)
        return ended["exitcode"], ended.get("out-data", "")

    assert done(vms(9000).clone.post(newid=100, name="ada", full=0)) == "OK"
    assert done(vms(100).status.start.post()) == "OK"
    deadline = time.monotonic() + 30
    while not _answers(lxd.address, 3389):
        assert time.monotonic() < deadline, "the guest never listened"
    cards = _until_up(vms(100))
    mac = vms(100).config.get()["net0"].split("=")[1].split(",")[0].lower()
    by_name = {card["name"]: card for card in cards}
    assert by_name["eth0"]["hardware-address"] == mac
    assert by_name["eth0"]["ip-addresses"][0]["ip-address"] == lxd.address
    assert run("cat", "/etc/passwd")[1].startswith("root:")
    assert run("cat", stdin="a secret") == (0, "a secret")
    assert run("false-command")[0] != 0
    vms(100).agent("file-write").post(file="/root/x", content="hello")
    assert vms(100).agent("file-read").get(file="/root/x")["content"] == "hello"
    assert done(vms(100).snapshot.post(snapname="before")) == "OK"
    vms(100).agent("file-write").post(file="/root/x", content="changed")
    assert done(vms(100).snapshot("before").rollback.post()) == "OK"
    assert done(vms(100).status.start.post()) == "OK"
    _until_up(vms(100))
    assert done(vms(100).status.suspend.post(todisk=1)) == "OK"
    assert lxd.found(NAME)["status"] == "Frozen"
    assert done(vms(100).status.start.post()) == "OK"
    assert run("cat", "/root/x") == (0, "hello")
    assert done(vms(100).status.stop.post()) == "OK"
    assert lxd.found(NAME)["status"] == "Stopped"
    assert done(vms(100).delete()) == "OK"
    with pytest.raises(Absent):
        lxd.found(NAME)


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        time.sleep(0.1)
        return False
    return True


def _until_up(vm: Any) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while True:
        try:
            return list(vm.agent("network-get-interfaces").get()["result"])
        except ResourceException:
            assert time.monotonic() < deadline, "the agent never answered"
