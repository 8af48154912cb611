"""Locks: who waits for whom, for how long, and what the storage lock makes of a burst."""

import pytest

from lab import Api, template, two_nodes
from pve_simulator import VirtualSimulator
from pve_simulator.world import StorageSpec

MEASURED = {"profile": "measured", "spread": 0.0}
NO_STORAGE = "can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout"


def burst(sim: VirtualSimulator, count: int, source: int = 9000, **params) -> list[str]:
    """Clone so many at once; how each ended."""
    ended: dict[int, str] = {}

    def one(number):
        wanted = {"newid": 100 + number, **params}
        answer = yield from sim.asking("POST", f"/nodes/pve1/qemu/{source}/clone", wanted)
        if answer.status != 200:
            ended[number] = answer.reason
            return
        while number not in ended:
            path = f"/nodes/pve1/tasks/{answer.data}/status"
            status = (yield from sim.asking("GET", path)).data
            if status["status"] == "stopped":
                ended[number] = status["exitstatus"]
            else:
                yield sim.env.timeout(0.5)

    for number in range(count):
        sim.spawn(one(number))
    while len(ended) < count:
        sim.run(sim.now_s + 1)
    return [ended[number] for number in range(count)]


@pytest.fixture
def measured():
    world = two_nodes()
    world.latencies = MEASURED
    with VirtualSimulator(world) as sim:
        yield sim


def test_clones_of_a_stopped_template_run_side_by_side_and_queue_at_the_storage(measured):
    began = measured.now_s

    ends = burst(measured, 5)

    # Each takes the storage's lock twice: 0.9 s for the disk and 0.4 s for the cloud-init drive.
    assert ends == ["OK"] * 5
    assert 5 * 1.3 <= measured.now_s - began < 5 * 1.3 + 2


def test_a_burst_without_admission_times_out_at_the_storage_lock(measured):
    ends = burst(measured, 30)

    lost = [end for end in ends if end != "OK"]
    assert set(lost) == {f"clone failed: {NO_STORAGE}"}
    assert 15 <= len(lost) < 30
    left = {v for v in Api(measured).volumes() if "/vm-1" in v}
    assert len(left) == 2 * ends.count("OK"), "who failed cleaned up its disks"


def test_shared_storage_is_locked_by_the_whole_cluster_and_asked_once_a_second(measured):
    ends = burst(measured, 30, source=9100)

    lost = {end for end in ends if end != "OK"}
    assert lost == {"clone failed: cfs-lock 'storage-shared' error: got lock request timeout"}


def test_a_local_storage_is_locked_per_node():
    world = two_nodes()
    world.latencies = MEASURED
    world.vms.append(template(9200, "pve2", "local"))
    with VirtualSimulator(world) as sim:
        api, began = Api(sim), sim.now_s
        first = api.start("POST", "qemu/9000/clone", newid=100)
        second = api.start("POST", "/nodes/pve2/qemu/9200/clone", newid=101)

        assert (api.wait(first), api.wait(second)) == ("OK", "OK")
        assert sim.now_s - began < 2 * 1.3


def test_what_holds_a_shared_storage_for_a_minute_is_aborted(sim, api):
    sim.faults.set_latency("clone.linked", 70)

    end = api.clone(100, 9100)

    assert end == (
        "clone failed: cfs-lock 'storage-shared' error: got lock timeout - aborting command"
    )
    assert api.refused("GET", "qemu/100/config").endswith("does not exist")


def test_during_a_clone_the_new_configuration_is_locked_and_a_start_waits(sim, api):
    sim.faults.set_latency("clone.linked", 3)
    clone = api.start("POST", "qemu/9000/clone", newid=100)
    api.wait_s(0.5)

    assert api.config(100)["lock"] == "clone"
    assert api.get("qemu/100/status/current")["lock"] == "clone"
    start = api.start("POST", "qemu/100/status/start")
    assert api.status(start)["status"] == "running"
    assert (api.wait(clone), api.wait(start)) == ("OK", "OK")
    assert api.get("qemu/100/status/current")["status"] == "running"


def test_who_waits_ten_seconds_for_a_configuration_gives_up(sim, api):
    api.clone(100)
    sim.faults.hang_task("qmstart")
    api.start("POST", "qemu/100/status/start")
    began = sim.now_s

    end = api.task("DELETE", "qemu/100")

    assert end == "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    assert 10 <= sim.now_s - began < 11
    put = api.call("PUT", "qemu/100/config", name="x")
    assert put.reason == "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"


def test_a_lock_left_behind_blocks_start_stop_and_changes(sim, api):
    api.clone(100)
    api.clone(101)
    api.up(101)
    for vmid in (100, 101):
        sim.cluster.vms[vmid].config["lock"] = "snapshot"

    assert api.task("POST", "qemu/100/status/start") == "VM is locked (snapshot)"
    assert api.task("POST", "qemu/101/status/stop") == "VM is locked (snapshot)"
    assert api.task("DELETE", "qemu/100") == "VM is locked (snapshot)"
    assert api.refused("PUT", "qemu/100/config", name="x") == "VM is locked (snapshot)"


def test_a_running_source_is_locked_for_one_clone_alone(sim, api):
    api.clone(100, full=1)
    api.up(100)

    first = api.start("POST", "qemu/100/clone", newid=101, full=1)
    second = api.start("POST", "qemu/100/clone", newid=102, full=1)

    assert api.wait(first) == "OK"
    assert api.wait(second) == "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"


def test_three_blocked_agent_calls_keep_a_fourth_call_waiting(sim, api):
    """pvedaemon has three workers; what blocks in one is not there for others."""
    for vmid in (100, 101, 102):
        api.clone(vmid)
        api.task("POST", f"qemu/{vmid}/status/start")
    for vmid in (100, 101, 102):
        path = f"/nodes/pve1/qemu/{vmid}/agent/network-get-interfaces"
        sim.spawn(sim.asking("GET", path))
    api.wait_s(0.1)
    began = sim.now_s

    api.get("qemu/9000/status/current")

    assert sim.now_s - began > 2
    assert api.get("/version")


def test_a_storage_without_linked_clones_says_so():
    world = two_nodes()
    world.storages.append(StorageSpec("thick", type="lvm", content=["images"]))
    spec = template(9300, "pve1", "thick")
    spec.config["scsi0"] = "thick:base-9300-disk-0,size=8G"
    spec.config["ide2"] = "thick:vm-9300-cloudinit,media=cdrom"
    world.vms.append(spec)
    with VirtualSimulator(world) as sim:
        api = Api(sim)
        reason = api.refused("POST", "qemu/9300/clone", newid=100)

        assert (
            reason == "Linked clone feature is not supported for 'thick:base-9300-disk-0' (scsi0)"
        )
        assert api.clone(100, 9300, full=1) == "OK"
        assert api.config(100)["scsi0"] == "thick:vm-100-disk-0,size=8G"
