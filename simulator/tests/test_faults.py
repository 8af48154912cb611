"""Faults on demand, in virtual time: each does what it says, as often as said, and no more."""

import pytest

from pve_simulator import SimulatorFault, VirtualSimulator


def test_a_task_fails_instead_of_its_work_or_after_it(sim, api):
    sim.faults.fail_task("qmclone", text="no luck")
    sim.faults.fail_task("qmclone", text="too late", late=True)

    first = api.clone(100)
    nothing = api.refused("GET", "qemu/100/config")
    second = api.clone(100)

    assert (first, second) == ("no luck", "too late")
    assert nothing.endswith("does not exist")
    assert api.config(100)["name"], "the work was done all the same"
    assert api.clone(101) == "OK"


def test_a_fault_of_one_vm_spares_the_others(sim, api):
    api.clone(100)
    api.clone(101)
    sim.faults.fail_task("qmstart", vmid=101, text="no", times=2)

    ends = [api.task("POST", f"qemu/{vmid}/status/start") for vmid in (100, 101, 101, 101)]

    assert ends == ["OK", "no", "no", "OK"]


def test_a_hanging_task_holds_the_lock_until_it_is_let_go(sim, api):
    api.clone(100)
    sim.faults.hang_task("qmstart", vmid=100)
    upid = api.start("POST", "qemu/100/status/start")
    api.wait_s(500)

    assert api.status(upid)["status"] == "running"
    assert "got timeout" in api.task("DELETE", "qemu/100")
    sim.faults.unhang_tasks()
    assert api.wait(upid) == "OK"


def test_a_destroy_with_warnings_leaves_its_disks(sim, api):
    api.clone(100)
    sim.faults.leave_disk(vmid=100)

    end = api.task("DELETE", "qemu/100", purge=1)

    assert end == "WARNINGS: 1"
    assert "does not exist" in api.refused("GET", "qemu/100/config")
    assert len([volume for volume in api.volumes() if "100" in volume]) == 1


def test_a_warning_alone_is_a_success(sim, api):
    sim.faults.warn_task("qmclone")

    assert api.clone(100) == "WARNINGS: 1"
    assert api.config(100)["name"]


def test_parallel_destroys_glitch_in_two_ways(sim, api):
    for vmid in (100, 101):
        api.clone(vmid)
    sim.faults.glitch_destroys(times=2)

    refused = api.refused("DELETE", "qemu/100")
    failed = api.task("DELETE", "qemu/100")

    assert refused == "got no worker upid - start worker failed"
    assert failed == "unable to open file - No such file or directory"
    assert api.task("DELETE", "qemu/100") == "OK"


def test_a_storm_is_over_after_so_many_calls_or_seconds(sim, api):
    sim.faults.storm(times=2, path="/config$")
    sim.faults.storm(seconds=5, path="^/version", status=596, text="Broken pipe")

    reasons = [api.call("GET", "qemu/9000/config").reason for _ in range(3)]
    broken = api.call("GET", "/version")
    api.wait_s(6)

    assert reasons == ["simulated storm", "simulated storm", "OK"]
    assert (broken.status, broken.reason, broken.body) == (596, "Broken pipe", "")
    assert api.call("GET", "/version").status == 200


def test_a_vm_vanishes_without_a_task(sim, api):
    api.clone(100)
    api.up(100)
    tasks = len(api.get("/cluster/tasks"))

    sim.faults.vanish_vm(100)

    assert "does not exist" in api.refused("GET", "qemu/100/status/current")
    assert len(api.get("/cluster/tasks")) == tasks
    assert not [volume for volume in api.volumes() if "100" in volume]


def test_an_agent_never_comes(sim, api):
    api.clone(100)
    sim.faults.keep_agent_down(100)
    api.up(100)
    api.wait_s(60)

    down = api.refused("POST", "qemu/100/agent/ping")
    sim.faults.let_agents_up()

    assert down == "QEMU guest agent is not running"
    assert api.call("POST", "qemu/100/agent/ping").status == 200


def test_an_expired_token_is_401_with_an_empty_body(sim):
    sim.faults.expire_token(sim.token_id)

    answer = sim.call("GET", "/nodes")

    assert (answer.status, answer.body) == (401, "")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("drop", [False, True])
def test_a_call_is_held_before_or_after_its_effect(sim, api, when, drop):
    hold = sim.faults.stop_at(2, when=when, path="/clone$")
    asked = [
        sim.spawn(sim.asking("POST", "/nodes/pve1/qemu/9000/clone", {"newid": vmid}))
        for vmid in (100, 101)
    ]
    api.wait_s(5)

    there = {vmid for vmid in (100, 101) if vmid in sim.cluster.vms}
    assert hold.is_held
    assert [process.triggered for process in asked] == [True, False]
    assert there == ({100} if when == "before" else {100, 101})
    sim.faults.release(hold, drop=drop)
    api.wait_s(5)
    assert asked[1].triggered
    assert (101 in sim.cluster.vms) == (when == "after" or not drop)


def test_every_call_is_logged_with_its_answer(sim, api):
    api.get("/version")
    api.refused("GET", "qemu/555/config")

    calls = [(c.request.method, c.request.path, c.response.status) for c in sim.calls]

    assert calls == [("GET", "/version", 200), ("GET", "/nodes/pve1/qemu/555/config", 500)]


def test_clear_disarms_everything(sim, api):
    sim.faults.fail_task("qmclone")
    sim.faults.storm(times=5)
    sim.faults.fill_storage("local")
    sim.faults.lose_quorum()

    sim.faults.clear()

    assert api.clone(100) == "OK"


def test_a_fault_of_the_simulator_itself_fails_the_test_that_embeds_it(world):
    sim = VirtualSimulator(world)
    sim.cluster.stats.vm_now = None  # what no handler expects

    with pytest.raises(SimulatorFault, match="TypeError"):
        sim.call("GET", "/nodes/pve1/qemu")
    with pytest.raises(SimulatorFault):
        sim.close()


def test_the_same_seed_is_the_same_day(world):
    world.latencies["spread"] = 0.2

    def day(seed):
        with VirtualSimulator(world, seed=seed) as sim:
            sim.call("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 100})
            sim.run(5)
            return sim.cluster.vms[100].config["net0"], sim.calls[0].response.body[:60]

    assert day(7) == day(7)
    assert day(7)[0] != day(8)[0]
