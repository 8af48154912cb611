"""More than one node: dead ones, quorum, clones and moves across."""

from lab import Api, two_nodes
from pve_simulator import VirtualSimulator
from pve_simulator.world import NodeSpec


def three_nodes():
    world = two_nodes()
    world.nodes.append(NodeSpec("pve3"))
    return VirtualSimulator(world)


def online(api) -> dict[str, str]:
    return {row["node"]: row["status"] for row in api.get("/nodes")}


def test_a_dead_node_answers_595_at_once_and_is_offline_seconds_later():
    with three_nodes() as sim:
        api = Api(sim)
        sim.faults.kill_node("pve2")

        early = online(api)
        answer = api.call("GET", "/nodes/pve2/status")
        api.wait_s(4)

        assert early["pve2"] == "online"
        assert (answer.status, answer.reason) == (595, "Connection refused")
        assert (answer.body, answer.content_type) == ("", None)
        assert online(api) == {"pve1": "online", "pve2": "offline", "pve3": "online"}
        row = next(row for row in api.get("/nodes") if row["node"] == "pve2")
        assert "mem" not in row and "uptime" not in row and row["maxmem"]


def test_vms_of_a_dead_node_stay_listed_and_are_stopped_when_it_is_back():
    with three_nodes() as sim:
        api = Api(sim)
        api.clone(100, 9100, target="pve2")
        api.clone(101, 9100, target="pve2")
        there = api.on("pve2")
        there.call("PUT", "qemu/101/config", onboot=1)
        for vmid in (100, 101):
            there.up(vmid)
        sim.faults.kill_node("pve2")
        api.wait_s(5)

        listed = {row["vmid"] for row in api.get("/cluster/resources", type="vm")}
        sim.faults.revive_node("pve2")
        api.wait_s(10)

        assert {100, 101} <= listed
        assert online(api)["pve2"] == "online"
        assert there.get("qemu/100/status/current")["status"] == "stopped"
        assert there.get("qemu/101/status/current")["status"] == "running", "it has onboot"


def test_a_node_that_dies_during_a_clone_leaves_it_half_done():
    with three_nodes() as sim:
        sim.faults.set_latency("clone.linked", 5)
        api = Api(sim)
        upid = sim.call("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 100}, node="pve2").data
        api.wait_s(1)
        sim.faults.kill_node("pve1")
        api.wait_s(1)
        sim.faults.revive_node("pve1")
        api.wait_s(5)

        assert api.wait(upid) == "node died"
        assert api.config(100)["lock"] == "clone"


def test_without_quorum_writes_fail_and_reads_do_not(sim, api):
    api.clone(100)
    sim.faults.lose_quorum()

    assert api.refused("POST", "qemu/9000/clone", newid=101) == "cluster not ready - no quorum?"
    assert api.refused("POST", "qemu/100/status/start") == "cluster not ready - no quorum?"
    put = api.refused("PUT", "qemu/100/config", name="x")
    assert put.startswith("unable to open file '/etc/pve/nodes/pve1/qemu-server/100.conf.tmp.")
    assert put.endswith("' - Permission denied")
    assert api.config(100)["name"] == "Copy-of-VM-template-9000"
    assert api.get("/cluster/nextid") == "101"
    assert api.get("/cluster/status")[0]["quorate"] == 0
    sim.faults.regain_quorum()
    assert api.call("PUT", "qemu/100/config", name="x").status == 200


def test_one_of_two_is_no_quorum(sim, api):
    sim.faults.kill_node("pve2")
    api.wait_s(4)

    assert api.refused("POST", "qemu/9000/clone", newid=101) == "cluster not ready - no quorum?"


def test_from_shared_storage_a_clone_goes_to_another_node(api):
    assert api.clone(100, 9100, target="pve2", full=0) == "OK"

    there = api.on("pve2")
    assert there.config(100)["scsi0"].startswith("shared:9100/base-9100-disk-0.qcow2/100/")
    assert there.task("POST", "qemu/100/status/start") == "OK"
    assert "does not exist" in api.refused("GET", "qemu/100/config")


def test_a_stopped_vm_on_shared_storage_moves(api):
    api.clone(100, 9100)
    api.clone(101, 9000)

    moved = api.task("POST", "qemu/100/migrate", target="pve2")
    stuck = api.task("POST", "qemu/101/migrate", target="pve2")

    assert moved == "OK"
    assert api.on("pve2").config(100)["name"]
    assert stuck == "migration aborted", "a linked clone cannot leave its base"
    assert "lock" not in api.config(101)


def test_a_move_to_a_dead_node_is_aborted():
    with three_nodes() as sim:
        api = Api(sim)
        api.clone(100, 9100)
        sim.faults.kill_node("pve2")

        assert api.task("POST", "qemu/100/migrate", target="pve2") == "migration aborted"
        assert api.config(100)["name"]


def test_any_node_passes_a_call_on(sim, api):
    api.clone(100)

    there = sim.call("GET", "/nodes/pve1/qemu/100/config", node="pve2")

    assert there.data["name"] == "Copy-of-VM-template-9000"


def test_the_status_of_a_node_is_asked_from_the_node(api):
    status = api.get("/nodes/pve2/status")

    assert status["memory"]["total"] == 65536 << 20
    assert status["cpuinfo"]["cpus"] == 8
    assert api.get("/nodes/pve2/network", type="bridge")[0]["iface"] == "vmbr0"
    assert api.get("/nodes/pve2/version")["release"] == "8.4"


def test_a_call_that_a_dying_node_was_at_work_on_gets_no_answer():
    with three_nodes() as sim:
        api = Api(sim)
        api.clone(100, 9100, target="pve2")
        api.on("pve2").task("POST", "qemu/100/status/start")
        asked = sim.spawn(sim.asking("POST", "/nodes/pve2/qemu/100/agent/ping"))
        api.wait_s(1)
        sim.faults.kill_node("pve2")
        api.wait_s(5)

        assert (asked.value.status, asked.value.reason) == (596, "Connection reset by peer")
        assert asked.value.body == ""
