"""In real time: HTTPS, proxmoxer unchanged, the control API over HTTP, ports and certificates."""

import hashlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks

from lab import two_nodes
from pve_simulator import Simulator
from pve_simulator.control import names

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def sim():
    with Simulator(two_nodes(), latencies="fast") as simulator:
        yield simulator


def proxmox(sim, node="pve1", **more) -> ProxmoxAPI:
    user, _, name = sim.token_id.partition("!")
    login = {"user": user, "token_name": name, "token_value": sim.token_secret}
    address = sim.url_of(node).removeprefix("https://")
    return ProxmoxAPI(address, **login, verify_ssl=sim.ca_file, **more)


def control(sim, name, **options):
    url = f"{sim.url}/control/{name}"
    answer = requests.post(url, json=options, verify=sim.ca_file, timeout=10)
    return answer.status_code, answer.json()


def test_proxmoxer_clones_starts_asks_and_destroys(sim):
    api = proxmox(sim)
    vms = api.nodes("pve1").qemu

    def done(upid):
        return Tasks.blocking_status(api, upid, timeout=10, polling_interval=0.02)["exitstatus"]

    assert done(vms(9000).clone.post(newid=100, name="ada", full=0)) == "OK"
    assert done(vms(100).status.start.post()) == "OK"
    assert vms(100).agent("network-get-interfaces").get()["result"][1]["name"] == "eth0"
    pid = vms(100).agent.exec.post(command=["echo", "hello"])["pid"]
    assert vms(100).agent("exec-status").get(pid=pid)["exitcode"] == 0
    assert sim.cluster.vms[100].guest.executed == [["echo", "hello"]]
    with pytest.raises(ResourceException) as refused:
        vms(100).delete()
    assert refused.value.status_code == 500
    assert refused.value.content == "VM 100 is running - destroy failed"
    assert done(vms(100).status.stop.post()) == "OK"
    assert done(vms(100).delete(purge=1)) == "OK"


def test_a_file_is_uploaded_for_import(sim, tmp_path):
    image = tmp_path / "tiny.qcow2"
    image.write_bytes(b"QFI\xfb" + bytes(20) + (3 << 30).to_bytes(8, "big") + bytes(100))
    api = proxmox(sim)

    def upload(checksum):
        told = {"checksum": checksum, "checksum-algorithm": "sha256", "content": "import"}
        with image.open("rb") as file:
            upid = api.nodes("pve1").storage("local").upload.post(filename=file, **told)
        return Tasks.blocking_status(api, upid, 10, 0.02)["exitstatus"]

    assert upload("0" * 64).startswith("checksum mismatch: got")
    assert upload(hashlib.sha256(image.read_bytes()).hexdigest()) == "OK"
    rows = api.nodes("pve1").storage("local").content.get(content="import")
    assert [(row["volid"], row["size"]) for row in rows] == [("local:import/tiny.qcow2", 3 << 30)]


def test_refusals_look_on_the_wire_as_those_of_proxmox_ve(sim):
    url = f"{sim.url}/api2/json/nodes"
    refused = requests.get(url, verify=sim.ca_file, timeout=10)
    sim.faults.kill_node("pve2")
    login = {"Authorization": f"PVEAPIToken={sim.token_id}={sim.token_secret}"}
    dead = requests.get(f"{url}/pve2/status", headers=login, verify=sim.ca_file, timeout=10)

    assert (refused.status_code, refused.reason, refused.content) == (401, "No ticket", b"")
    assert "Content-Type" not in refused.headers
    assert (dead.status_code, dead.reason, dead.content) == (595, "Connection refused", b"")


def test_the_port_of_a_dead_node_refuses_and_is_the_same_when_it_is_back(sim):
    second = proxmox(sim, "pve2")
    assert second.version.get()["release"] == "8.4"

    sim.faults.kill_node("pve2")
    with pytest.raises(requests.ConnectionError):
        second.version.get()
    sim.faults.revive_node("pve2")

    assert proxmox(sim, "pve2").version.get()["release"] == "8.4"
    assert proxmox(sim).version.get()


def test_a_certificate_of_somebody_else_is_not_trusted(sim):
    api = proxmox(sim)
    api.version.get()

    sim.faults.change_certificate()

    with pytest.raises(requests.exceptions.SSLError):
        proxmox(sim).version.get()
    with pytest.raises(requests.exceptions.SSLError):
        api.version.get()


def test_everything_can_be_armed_over_http(sim):
    assert control(sim, "fail-task", type="qmclone", text="no luck") == (200, {"ok": True})
    api = proxmox(sim)
    upid = api.nodes("pve1").qemu(9000).clone.post(newid=100)
    status = Tasks.blocking_status(api, upid, 10, 0.02)
    calls = requests.get(f"{sim.url}/control/calls", verify=sim.ca_file, timeout=10).json()

    assert status["exitstatus"] == "no luck"
    assert calls[0]["path"] == "/nodes/pve1/qemu/9000/clone"
    assert control(sim, "nope")[0] == 400
    assert control(sim, "storm", nope=1)[0] == 400
    assert {"fail-task", "kill-node", "stop-at", "release", "change-certificate"} <= set(names())


def test_a_caller_is_stopped_at_its_call_and_dies_there(sim):
    hold = sim.faults.stop_at(2, when="after", path="qemu")
    user, _, name = sim.token_id.partition("!")
    program = (
        "from proxmoxer import ProxmoxAPI\n"
        f"api = ProxmoxAPI({sim.url[8:]!r}, user={user!r}, token_name={name!r},\n"
        f"    token_value={sim.token_secret!r}, verify_ssl={sim.ca_file!r})\n"
        "for vmid in (100, 101, 102):\n"
        "    api.nodes('pve1').qemu(9000).clone.post(newid=vmid)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert hold.wait(20)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    sim.faults.release(hold)
    time.sleep(0.5)

    assert {100, 101} <= set(sim.cluster.vms)
    assert 102 not in sim.cluster.vms


def test_a_hold_is_armed_seen_and_released_over_http(sim):
    _, armed = control(sim, "stop-at", number=1, path="/version")
    asked = threading.Thread(target=proxmox(sim).version.get)
    asked.start()
    deadline = time.monotonic() + 10
    holds = f"{sim.url}/control/holds"
    while not requests.get(holds, verify=sim.ca_file, timeout=10).json()[0]["is_held"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert asked.is_alive()
    control(sim, "release", hold=armed["hold"])
    asked.join(10)
    assert not asked.is_alive()


def test_many_calls_at_once_are_answered(sim):
    errors = []

    def ask(vmid):
        try:
            proxmox(sim, timeout=20).nodes("pve1").qemu(9000).clone.post(newid=vmid)
        except Exception as error:
            errors.append(error)

    callers = [threading.Thread(target=ask, args=(vmid,)) for vmid in range(100, 120)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)

    assert not errors
    assert set(range(100, 120)) <= set(sim.cluster.vms)


def test_the_command_serves_a_world_until_it_is_told_to_stop():
    command = [sys.executable, "-m", "pve_simulator", "serve", "--port", "0", "--world"]
    with subprocess.Popen(
        [*command, EXAMPLES / "one-node.yaml"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            said = dict(server.stdout.readline().split(None, 1) for _ in range(3))
            token_id, _, secret = said["token"].strip().partition("=")
            answer = requests.get(
                f"{said['pve1'].strip()}/api2/json/nodes/pve1/qemu",
                headers={"Authorization": f"PVEAPIToken={token_id}={secret}"},
                verify=said["ca"].strip(),
                timeout=10,
            )
        finally:
            server.send_signal(signal.SIGTERM)

    assert [vm["vmid"] for vm in answer.json()["data"]] == [9000]
    assert server.returncode == 0


def test_nonsense_is_the_callers_fault_and_not_the_simulators(sim):
    headers = {"Content-Type": "application/json"}
    url = f"{sim.url}/api2/json/access/ticket"
    answer = requests.post(url, data="{no json", headers=headers, verify=sim.ca_file, timeout=10)

    assert answer.status_code == 400
    assert control(sim, "storm", path="(")[0] == 400
    assert control(sim, "fill-storage", storage="nope")[0] == 400
