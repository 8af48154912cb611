"""What goes wrong on a cluster of Proxmox VE, and what comes of it: nothing of anybody else's is
touched, nothing of ours is left, and whoever waits is told for what."""

import time
from collections.abc import Iterator

import pytest

from contract.labs import new_name, nothing
from contract.proxmox_lab import (
    AWAITING,
    AWAITING_IMAGE,
    TEMPLATE,
    ProxmoxLab,
    eventually,
    held_ensure,
)
from daas.errors import (
    Congested,
    NotOurs,
    NotYet,
    NumberTaken,
    Refused,
    StepFailed,
    TemplateMissing,
)
from daas.providers.base import State
from daas.providers.proxmox import tasks
from daas.providers.proxmox.errors import Locked

CLONE = r"/clone$"


@pytest.fixture
def spare(pve: ProxmoxLab) -> Iterator[str]:
    """A template that a test may break."""
    order = {"vmid": 9200, "name": "tmpl-spare", "memory": 256, "cores": 1, "agent": 1}
    disks = {"scsi0": "shared:1", "boot": "order=scsi0", "net0": "virtio,bridge=vmbr0"}
    tasks.post(pve.client, "nodes/pve1/qemu", {**order, **disks})
    tasks.post(pve.client, "nodes/pve1/qemu/9200/template")
    time.sleep(0.4)
    yield "tmpl-spare"
    if 9200 in pve.sim.cluster.vms:
        pve.sim.faults.vanish_vm(9200)


# -- the clone ------------------------------------------------------------------------------------


def test_a_clone_that_was_accepted_and_failed_is_a_reason_and_leaves_nothing(
    pve: ProxmoxLab,
) -> None:
    pve.sim.faults.fail_task("qmclone", text="clone failed: the disk is odd")
    name = new_name()
    spec, saved = pve.spec(name), [State()]

    with pytest.raises(Refused, match="the disk is odd"):
        pve.ours.ensure(name, spec, {}, saved.append)
    pve.ours.destroy(name, saved[-1])

    assert pve.names() == set() and pve.volumes() == set()


def test_a_clone_that_failed_only_at_its_end_is_made_anew(pve: ProxmoxLab) -> None:
    pve.sim.faults.fail_task("qmclone", text="clone failed: got lock timeout", late=True)
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    with pytest.raises(Congested):
        pve.ours.ensure(name, spec, {}, saved.append)

    pve.ours.ensure(name, spec, saved[-1], saved.append)

    assert pve.names() == {name} and pve.is_on(name)


@pytest.mark.parametrize(
    "said",
    [
        "can't lock file '/var/lock/qemu-server/lock-20001.conf' - got timeout",
        "clone failed: cfs-lock 'storage-shared' error: got lock request timeout",
    ],
)
def test_a_lock_that_was_not_to_be_had_is_congestion(pve: ProxmoxLab, said: str) -> None:
    pve.sim.faults.fail_task("qmclone", text=said)
    name = new_name()

    with pytest.raises(Congested):
        pve.ours.ensure(name, pve.spec(name), {}, nothing)


def test_a_start_that_fails_says_why_and_is_tried_again(pve: ProxmoxLab) -> None:
    pve.sim.faults.fail_task("qmstart", text="start failed: QEMU exited with code 1")
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    with pytest.raises(Refused, match="QEMU exited with code 1"):
        pve.ours.ensure(name, spec, {}, saved.append)

    pve.ours.ensure(name, spec, saved[-1], saved.append)

    assert pve.names() == {name} and pve.is_on(name)


def test_a_machine_that_vanishes_while_it_is_made_is_made_anew(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    number = spec.number or 0

    failed, saved = held_ensure(
        pve, spec, name, "before", lambda: pve.sim.faults.vanish_vm(number), path="/status/start$"
    )
    state = eventually(lambda: pve.ours.ensure(name, spec, saved[-1], nothing))

    assert len(failed) == 1 and isinstance(failed[0], NotYet | Refused)
    assert pve.is_on(name) and state["vmid"] == number


def test_a_template_that_goes_while_it_is_cloned_is_missing(pve: ProxmoxLab, spare: str) -> None:
    name = new_name()
    spec = pve.spec(name, image=spare)

    failed, _ = held_ensure(
        pve, spec, name, "before", lambda: pve.sim.faults.vanish_vm(9200), path=CLONE
    )

    assert isinstance(failed[0], TemplateMissing) and "daas template build" in str(failed[0])


def test_a_full_storage_says_what_to_do(pve: ProxmoxLab) -> None:
    pve.sim.faults.fill_storage("shared")
    name = new_name()

    with pytest.raises(Refused, match=r"storage is full.*DAAS_PROXMOX_STORAGE"):
        pve.ours.ensure(name, pve.spec(name), {}, nothing)

    assert pve.names() == set()


# -- strangers ------------------------------------------------------------------------------------


def test_a_number_that_is_somebody_elses_is_taken_and_theirs_stays(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    pve.stranger(spec.number or 0)

    with pytest.raises(NumberTaken, match="their-database"):
        pve.ours.ensure(name, spec, {}, nothing)

    assert pve.names() == {"their-database"}


def test_a_number_taken_between_lease_and_clone_is_left_to_its_owner(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    number = spec.number or 0

    failed, saved = held_ensure(
        pve, spec, name, "before", lambda: pve.stranger(number), path=CLONE, method="POST"
    )
    second = pve.spec(name, tag=spec.tag)
    pve.ours.ensure(name, second, saved[-1], saved.append)

    assert isinstance(failed[0], NumberTaken)
    assert pve.names() == {"their-database", name} and pve.number("their-database") == number
    pve.ours.destroy(name, saved[-1])
    assert pve.names() == {"their-database"}


def test_a_strangers_machine_under_a_stale_number_of_ours_is_never_deleted(
    pve: ProxmoxLab,
) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.vanish_vm(state["vmid"])
    pve.stranger(state["vmid"])
    before = pve.volumes()

    with pytest.raises(NotOurs):
        pve.ours.destroy(name, state)

    assert pve.names() == {"their-database"} and pve.volumes() == before


def test_the_next_try_does_not_replace_a_stranger_whose_number_terraform_remembers(
    pve: ProxmoxLab,
) -> None:
    """Terraform knows a machine by its number alone, and replaces one that it takes for broken."""
    pve.sim.faults.fail_task("qmstart", text="start failed: odd")
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    with pytest.raises(Refused):
        pve.ours.ensure(name, spec, {}, saved.append)
    assert "terraform" in saved[-1], "it left a state with the machine in it"
    pve.sim.faults.vanish_vm(spec.number or 0)
    pve.stranger(spec.number or 0)

    with pytest.raises(NumberTaken):
        pve.ours.ensure(name, spec, saved[-1], saved.append)
    pve.ours.ensure(name, pve.spec(name, tag=spec.tag), saved[-1], saved.append)

    assert pve.names() == {"their-database", name}


@pytest.mark.parametrize("changed", ["name", "tags"])
def test_what_only_looks_half_made_is_a_strangers(pve: ProxmoxLab, changed: str) -> None:
    name = new_name()
    spec = pve.spec(name)
    clone = {"newid": spec.number, "name": name, "full": 0}
    tasks.post(pve.client, f"nodes/pve1/qemu/{TEMPLATE}/clone", clone)
    values = {"name": "theirs"} if changed == "name" else {"tags": f"daas_x_{name}_n_5"}
    pve.client.put(f"nodes/pve1/qemu/{spec.number}/config", values)

    with pytest.raises((NumberTaken, NotOurs)):
        pve.ours.ensure(name, spec, {}, nothing)

    assert spec.number in pve.sim.cluster.vms


def test_a_clone_of_another_template_with_our_name_is_a_strangers(pve: ProxmoxLab) -> None:
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    pve.sim.faults.fail_task("qmclone", text="clone failed: once")
    with pytest.raises(Refused):
        pve.ours.ensure(name, spec, {}, saved.append)
    clone = {"newid": spec.number, "name": name, "full": 0}
    tasks.post(pve.client, f"nodes/pve1/qemu/{AWAITING}/clone", clone)

    with pytest.raises(NumberTaken):
        pve.ours.ensure(name, spec, saved[-1], nothing)

    assert spec.number in pve.sim.cluster.vms


def test_what_terraform_left_half_made_is_ours_and_made_anew(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    clone = {"newid": spec.number, "name": name, "full": 0}
    tasks.post(pve.client, f"nodes/pve1/qemu/{TEMPLATE}/clone", clone)

    pve.ours.ensure(name, spec, {}, nothing)

    assert pve.names() == {name} and pve.is_on(name) and pve.size(name) == spec.size


# -- Terraform's state ----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["lost", "corrupt", "sealed by another", "another machine's"])
def test_without_a_usable_state_all_goes_on(pve: ProxmoxLab, damage: str) -> None:
    name = new_name()
    spec = pve.spec(name)
    state = pve.ours.ensure(name, spec, {}, nothing)
    _, other = pve.made(pve.ours)
    state["terraform"] = {
        "lost": "",
        "corrupt": state["terraform"][: len(state["terraform"]) // 2],
        "sealed by another": "gAAAA",
        "another machine's": other["terraform"],
    }[damage]

    assert pve.ours.ensure(name, spec, state, nothing)["vmid"] == spec.number
    pve.ours.destroy(name, state)

    assert pve.names() == {other["name"]}


# -- the end of a machine -------------------------------------------------------------------------


def test_a_destroy_that_ends_with_warnings_and_leaves_a_disk_is_finished(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.leave_disk()

    pve.ours.destroy(name, state)

    assert pve.names() == set() and pve.volumes() == set()


def test_a_disk_that_an_earlier_destroy_left_is_found_by_the_next(pve: ProxmoxLab) -> None:
    """The first one died between the end of the task and its look at what is left."""
    name, state = pve.made(pve.ours)
    pve.sim.faults.leave_disk()
    tasks.post(pve.client, f"{pve.path(name)}/status/stop")
    tasks.delete(pve.client, pve.path(name), {"purge": 1})
    assert pve.volumes() != set()

    pve.ours.destroy(name, state)

    assert pve.volumes() == set()


def test_a_disk_of_whoever_has_the_number_now_is_not_a_leftover(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.vanish_vm(state["vmid"])
    order = {"vmid": state["vmid"], "name": "theirs", "memory": 128, "scsi0": "shared:1"}
    tasks.post(pve.client, "nodes/pve1/qemu", order)

    with pytest.raises(NotOurs):
        pve.ours.destroy(name, state)

    assert len(pve.volumes()) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_the_glitches_of_parallel_destroys_are_retried(pve: ProxmoxLab, times: int) -> None:
    name, _ = pve.made(pve.ours)
    pve.sim.faults.glitch_destroys(times)

    pve.ours.destroy(name, {})

    assert pve.names() == set()


def test_a_lock_that_nobody_holds_any_more_says_how_to_remove_it(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.config(name)["lock"] = "backup"

    with pytest.raises(NotYet, match=rf"qm unlock {state['vmid']}") as waits:
        pve.ours.destroy(name, {})

    assert not isinstance(waits.value, Locked) and pve.is_on(name)


def test_an_agent_that_never_comes_is_waited_for_and_named(pve: ProxmoxLab) -> None:
    pve.sim.faults.keep_agent_down()
    _, state = pve.made(pve.ours, image=AWAITING_IMAGE)
    began = time.monotonic()

    with pytest.raises(NotYet, match="guest agent"):
        pve.ours.endpoints(state, 1.0, {"tls.key": b"x\n"})

    assert 0.9 < time.monotonic() - began < 4.0


def test_a_machine_that_stopped_before_it_was_up_says_so(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, image=AWAITING_IMAGE)
    pve.shut_down(name)

    with pytest.raises(StepFailed, match="stopped before its desktop was up"):
        pve.ours.endpoints(state, 10.0, {"tls.key": b"x\n"})


def test_news_that_may_have_been_missed_is_said_to_be(pve: ProxmoxLab) -> None:
    told: list[str] = []
    pve.made(pve.ours)
    pve.ours.watch(told.append)
    pve.sim.faults.storm(seconds=4.0, method="GET", path="/cluster/resources")

    deadline = time.monotonic() + 12.0
    while "" not in told and time.monotonic() < deadline:
        time.sleep(0.1)

    assert "" in told


def test_a_machine_that_vanishes_is_told_to_whoever_watches(pve: ProxmoxLab) -> None:
    told: list[str] = []
    name, state = pve.made(pve.ours)
    pve.ours.watch(told.append)
    time.sleep(0.5)

    pve.sim.faults.vanish_vm(state["vmid"])

    deadline = time.monotonic() + 3.0
    while name not in told and time.monotonic() < deadline:
        time.sleep(0.05)
    assert name in told
