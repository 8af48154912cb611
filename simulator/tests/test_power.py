"""Power, the guest agent, hibernation and what lists know of it all, late or at once."""

import pytest

from lab import Api, two_nodes
from pve_simulator import VirtualSimulator

AGENT = "qemu/100/agent/network-get-interfaces"


@pytest.fixture
def vm(api):
    api.clone(100, name="ada")
    return api


def test_lists_are_as_old_as_the_last_tick_and_a_new_vm_is_unknown(sim, api):
    api.wait_s(20 - sim.now_s % 10 + 0.1)  # the ticks of both nodes are in the same ten seconds
    before = {row["vmid"]: row for row in api.get("/cluster/resources", type="vm")}
    api.clone(100, name="ada")

    fresh = {row["vmid"]: row for row in api.get("/cluster/resources", type="vm")}
    assert 100 not in before
    if fresh[100]["status"] == "unknown":
        assert "name" not in fresh[100]
    api.task("POST", "qemu/100/status/start")
    api.wait_s(10.1)
    seen = {row["vmid"]: row for row in api.get("/cluster/resources", type="vm")}
    assert (seen[100]["status"], seen[100]["name"]) == ("running", "ada")
    api.task("POST", "qemu/100/status/stop")
    assert api.get("qemu/100/status/current")["status"] == "stopped", "asked from the process"


def test_a_new_vm_has_neither_name_nor_status_until_pvestatd_looked(sim, api):
    sim.faults.set_latency("statd", 10)
    unseen = []
    for vmid in range(100, 110):
        api.clone(vmid, name=f"vm-{vmid}")
        rows = api.get("/cluster/resources", type="vm")
        row = next(row for row in rows if row["vmid"] == vmid)
        unseen.append(row["status"] == "unknown" and "name" not in row)
        api.wait_s(1)

    assert unseen.count(True) >= 8


def test_current_status_is_what_the_process_says(vm):
    stopped = vm.get("qemu/100/status/current")
    vm.up(100)
    running = vm.get("qemu/100/status/current")

    assert (stopped["status"], stopped["qmpstatus"], stopped["uptime"]) == ("stopped", "stopped", 0)
    assert "pid" not in stopped and "nics" not in stopped
    assert (running["status"], running["agent"], running["cpus"]) == ("running", 1, 2)
    assert running["uptime"] >= 12
    assert list(running["nics"]) == ["tap100i0"]


def test_without_an_agent_a_call_blocks_three_seconds(sim, vm):
    off = vm.refused("GET", AGENT)
    began = sim.now_s
    assert off == "VM 100 is not running"
    vm.task("POST", "qemu/100/status/start")

    began = sim.now_s
    reason = vm.refused("GET", AGENT)

    assert reason == "QEMU guest agent is not running"
    assert 3 <= sim.now_s - began < 3.1


def test_an_agent_that_comes_up_meanwhile_is_heard_at_once(sim, vm):
    vm.task("POST", "qemu/100/status/start")
    started_at = sim.cluster.vms[100].run.started_at
    vm.wait_s(started_at + 7.5 - sim.now_s)

    began = sim.now_s
    vm.get(AGENT)

    assert 1.3 < sim.now_s - began < 1.8


def test_without_an_agent_in_the_configuration_there_is_no_wait(sim, vm):
    vm.call("PUT", "qemu/100/config", delete="agent")
    vm.up(100)
    began = sim.now_s

    assert vm.refused("GET", AGENT) == "No QEMU guest agent configured"
    assert sim.now_s - began < 0.1


def test_interfaces_have_the_mac_of_the_card_and_one_address_each(vm):
    vm.clone(101, name="ben")
    vm.call("PUT", "qemu/101/config", ipconfig0="ip=10.9.8.7/16,gw=10.9.0.1")
    vm.up(100)
    vm.up(101)

    ada, ben = (
        vm.get(f"qemu/{vmid}/agent/network-get-interfaces")["result"] for vmid in (100, 101)
    )

    assert [nic["name"] for nic in ada] == ["lo", "eth0"]
    mac = vm.config(100)["net0"].split("=")[1].split(",")[0]
    assert ada[1]["hardware-address"] == mac.lower()
    assert ada[1]["ip-addresses"][0]["ip-address"].startswith("10.10.10.")
    assert ben[1]["ip-addresses"] == [
        {"ip-address": "10.9.8.7", "ip-address-type": "ipv4", "prefix": 16}
    ]


def test_commands_and_files_go_through_the_agent():
    world = two_nodes()
    world.guests = {"exec": {"^slow": {"exit": 3, "out": "o", "err": "e", "seconds": 5}}}
    with VirtualSimulator(world) as sim:
        api = Api(sim)
        api.clone(100)
        api.up(100)
        pid = api.call("POST", "qemu/100/agent/exec", command=["slow", "work"]).data["pid"]
        early = api.get("qemu/100/agent/exec-status", pid=pid)
        api.wait_s(5)
        late = api.get("qemu/100/agent/exec-status", pid=pid)
        missing = api.refused("GET", "qemu/100/agent/file-read", file="/etc/x")
        api.call("POST", "qemu/100/agent/file-write", file="/etc/x", content="hello")

        assert early == {"exited": 0}
        assert late == {"exited": 1, "exitcode": 3, "out-data": "o", "err-data": "e"}
        assert api.call("GET", "qemu/100/agent/exec-status", pid=pid).status == 500
        assert missing.startswith("Agent error: failed to open file '/etc/x'")
        assert api.get("qemu/100/agent/file-read", file="/etc/x")["content"] == "hello"
        assert sim.cluster.vms[100].guest.executed == [["slow", "work"]]


def test_ping_and_os_info_answer(vm):
    vm.up(100)

    assert vm.call("POST", "qemu/100/agent/ping").data == {"result": {}}
    assert vm.get("qemu/100/agent/get-osinfo")["result"]["id"] == "debian"


def test_shutdown_asks_the_guest_and_gives_up_after_its_time(vm):
    vm.task("POST", "qemu/100/status/start")

    deaf = vm.task("POST", "qemu/100/status/shutdown", timeout=3)
    vm.wait_s(12)
    heard = vm.task("POST", "qemu/100/status/shutdown", timeout=30)

    assert deaf == "VM quit/powerdown failed - got timeout"
    assert heard == "OK"
    assert vm.get("qemu/100/status/current")["status"] == "stopped"


def test_a_stop_can_overrule_a_shutdown_that_waits(sim, vm):
    vm.task("POST", "qemu/100/status/start")
    shutdown = vm.start("POST", "qemu/100/status/shutdown", timeout=60)
    began = sim.now_s

    stop = vm.task("POST", "qemu/100/status/stop", **{"overrule__shutdown": 1})

    assert stop == "OK"
    assert sim.now_s - began < 3
    assert vm.wait(shutdown) != "OK"


def test_hibernation_keeps_the_memory_and_the_lock_until_the_next_start(sim, vm):
    vm.up(100)

    assert vm.task("POST", "qemu/100/status/suspend", todisk=1) == "OK"

    config = vm.config(100)
    assert config["lock"] == "suspended"
    assert config["vmstate"] in vm.volumes()
    assert vm.get("qemu/100/status/current")["status"] == "stopped"
    assert vm.refused("PUT", "qemu/100/config", name="x") == "VM is locked (suspended)"
    assert vm.task("POST", "qemu/100/status/start") == "OK"
    assert vm.get(AGENT)["result"], "no boot: the agent answers at once"
    assert "lock" not in vm.config(100) and "vmstate" not in vm.config(100)
    assert config["vmstate"] not in vm.volumes()


def test_a_hibernated_vm_can_be_destroyed(vm):
    vm.up(100)
    vm.task("POST", "qemu/100/status/suspend", todisk=1)

    assert vm.task("DELETE", "qemu/100") == "OK"
    assert not [volume for volume in vm.volumes() if "100" in volume]


def test_pause_and_resume_and_reboot(vm):
    vm.up(100)
    vm.task("POST", "qemu/100/status/suspend")
    paused = vm.get("qemu/100/status/current")["qmpstatus"]
    shutdown = vm.refused("POST", "qemu/100/status/shutdown")
    vm.task("POST", "qemu/100/status/resume")

    assert paused == "paused"
    assert shutdown == "VM is paused - cannot shutdown"
    assert vm.task("POST", "qemu/100/status/reboot") == "OK"
    assert vm.get("qemu/100/status/current")["uptime"] < 3


def test_a_bridge_that_is_missing_stops_the_start_in_its_task(vm):
    vm.call("PUT", "qemu/100/config", net0="virtio,bridge=nope")

    assert vm.task("POST", "qemu/100/status/start") == "start failed: QEMU exited with code 1"


def test_memory_is_not_counted_at_start(sim, api):
    for vmid in range(100, 104):
        api.clone(vmid)
        api.call("PUT", f"qemu/{vmid}/config", memory=60000)
        assert api.task("POST", f"qemu/{vmid}/status/start") == "OK"
