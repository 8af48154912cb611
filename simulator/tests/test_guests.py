"""Guests are plug-ins: a test brings its own, the plain one does as its table says."""

import time

import pytest
from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Tasks

from lab import Api, two_nodes
from pve_simulator import Simulator, VirtualSimulator
from pve_simulator.guests import Execution, Guests
from pve_simulator.guests.plain import PlainGuest

MADE: list["Own"] = []


class Own(PlainGuest):
    """Somebody's own guest: its agent is up at once, and it keeps a diary."""

    def __init__(self, cluster, vm, options):
        super().__init__(cluster, vm, options)
        self.diary = [f"made for {vm.vmid} with {options['colour']}"]
        MADE.append(self)

    def start(self, *, is_resumed):
        self.diary.append("resumed" if is_resumed else "started")

    def stop(self, *, is_saved):
        self.diary.append("saved" if is_saved else "stopped")

    def destroy(self):
        self.diary.append("destroyed")

    def is_agent_up(self):
        return True


class Slow(PlainGuest):
    """One that blocks, as whoever talks to the real world does."""

    is_slow = True

    def is_agent_up(self):
        return True

    def execute(self, args, stdin):
        time.sleep(0.5)
        return Execution(7, stdin.decode())


class Broken(PlainGuest):
    def start(self, *, is_resumed):
        raise RuntimeError("no such machine")


def test_a_guest_of_ones_own_lives_as_long_as_its_vm():
    MADE.clear()
    world = two_nodes()
    world.guests = {"kind": "test_guests:Own", "colour": "blue"}
    with VirtualSimulator(world) as sim:
        api = Api(sim)
        api.clone(100)
        api.task("POST", "qemu/100/status/start")
        assert api.call("POST", "qemu/100/agent/ping").status == 200
        api.task("POST", "qemu/100/status/suspend", todisk=1)
        api.task("POST", "qemu/100/status/start")
        api.task("POST", "qemu/100/status/stop")
        api.task("DELETE", "qemu/100")

    assert [guest.diary for guest in MADE] == [
        ["made for 100 with blue", "started", "saved", "resumed", "stopped", "destroyed"]
    ]


def test_a_guest_that_blocks_does_not_stop_the_others():
    with Simulator(two_nodes(), latencies="fast", guests="test_guests:Slow") as sim:
        user, _, name = sim.token_id.partition("!")
        login = {"user": user, "token_name": name, "token_value": sim.token_secret}
        api = ProxmoxAPI(sim.url.removeprefix("https://"), **login, verify_ssl=sim.ca_file)
        vms = api.nodes("pve1").qemu
        Tasks.blocking_status(api, vms(9000).clone.post(newid=100), 10, 0.05)
        Tasks.blocking_status(api, vms(100).status.start.post(), 10, 0.05)
        began = time.monotonic()
        pid = vms(100).agent.exec.post(command=["x"], **{"input-data": "hi"})["pid"]
        answered_s = time.monotonic() - began
        running = vms(100).agent("exec-status").get(pid=pid)
        time.sleep(0.7)
        ended = vms(100).agent("exec-status").get(pid=pid)

    assert answered_s < 0.4
    assert running == {"exited": 0}
    assert ended == {"exited": 1, "exitcode": 7, "out-data": "hi"}


def test_a_guest_that_breaks_is_a_fault_of_the_simulation():
    sim = VirtualSimulator(two_nodes(), guests="test_guests:Broken")
    sim.call("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 100})
    sim.run(5)
    sim.call("POST", "/nodes/pve1/qemu/100/status/start")

    with pytest.raises(Exception, match="no such machine"):
        sim.run(20)


def test_an_unknown_kind_of_guest_is_named():
    with pytest.raises(ValueError, match="nope"):
        Guests("nope")


def test_addresses_of_the_dhcp_range_are_given_once():
    world = two_nodes()
    world.guests = {"dhcp": "10.5.0.10-10.5.0.14/16"}
    with VirtualSimulator(world) as sim:
        api = Api(sim)
        found = set()
        for vmid in range(100, 105):
            api.clone(vmid)
            api.up(vmid)
            cards = api.get(f"qemu/{vmid}/agent/network-get-interfaces")["result"]
            found.add(cards[1]["ip-addresses"][0]["ip-address"])

    assert found == {f"10.5.0.{last}" for last in range(10, 15)}


def test_files_of_a_guest_are_as_they_were_after_a_rollback():
    with VirtualSimulator(two_nodes()) as sim:
        api = Api(sim)
        api.clone(100)
        api.up(100)
        api.call("POST", "qemu/100/agent/file-write", file="/x", content="old")
        api.task("POST", "qemu/100/snapshot", snapname="before", vmstate=1)
        api.call("POST", "qemu/100/agent/file-write", file="/x", content="new")
        api.task("POST", "qemu/100/snapshot/before/rollback")

        assert api.get("qemu/100/agent/file-read", file="/x")["content"] == "old"
