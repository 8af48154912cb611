"""What every hypervisor must do: the promises of providers/base.py, each tried."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from contract.labs import OURS, SIZE, THEIRS, Killed, Lab, new_name, nothing
from daas import process
from daas.errors import NotOurs, NotYet, Refused, StepFailed, Stopped, TemplateMissing
from daas.providers.base import Provider, State

MOST_CALLS = 40  # a call that needs more is a fault of its own


def names_owned(provider: Provider) -> set[str]:
    return {machine.name for machine in provider.owned()}


def test_ensure_twice_makes_one_machine(lab: Lab) -> None:
    before, name = lab.names(), new_name()
    spec = lab.spec(name)

    first = lab.ours.ensure(name, spec, {}, nothing)
    second = lab.ours.ensure(name, spec, first, nothing)

    assert second == first
    assert lab.names() - before == {name} and lab.is_on(name)


def test_ensure_saves_its_state_before_anything_exists(lab: Lab) -> None:
    name, existed = new_name(), []

    lab.ours.ensure(name, lab.spec(name), {}, lambda state: existed.append(name in lab.names()))

    assert existed and existed[0] is False


def test_a_machine_has_the_size_and_the_tag_it_was_asked_for(lab: Lab) -> None:
    name = new_name()
    spec = lab.spec(name)

    lab.ours.ensure(name, spec, {}, nothing)

    assert lab.size(name) == SIZE
    assert [one.tag for one in lab.ours.owned() if one.name == name] == [spec.tag]
    assert next(one.created_at for one in lab.ours.owned() if one.name == name) > 1e9


def test_ensure_starts_a_machine_that_was_stopped(lab: Lab) -> None:
    name = new_name()
    spec = lab.spec(name)
    state = lab.ours.ensure(name, spec, {}, nothing)
    lab.ours.power(state, False)

    lab.ours.ensure(name, spec, state, nothing)

    assert lab.is_on(name)


def test_the_rdp_port_answers_at_the_address_that_was_given(lab: Lab) -> None:
    name = new_name()
    spec = lab.spec(name)

    reached = lab.ours.endpoints(lab.ours.ensure(name, spec, {}, nothing), 5.0, {})

    host = (spec.address or "127.0.0.1").split("/")[0]
    assert reached["rdp"] == f"{host}:3389" and reached["ssh"] == f"{host}:22"


def test_a_missing_image_says_to_build_the_template(lab: Lab) -> None:
    name = new_name()

    with pytest.raises(TemplateMissing, match="daas template build"):
        lab.ours.ensure(name, lab.spec(name, image="tmpl-was-never-built"), {}, nothing)

    assert name not in lab.names()


def test_destroy_needs_no_state_and_may_be_called_again(lab: Lab) -> None:
    name, state = lab.made(lab.ours)

    lab.ours.destroy(name, {})
    lab.ours.destroy(name, {})
    lab.ours.destroy(name, state)

    assert name not in lab.names()


def test_owned_lists_our_machines_and_no_others(lab: Lab) -> None:
    ours, _ = lab.made(lab.ours)
    theirs, _ = lab.made(lab.theirs, THEIRS, address=None)

    assert ours in names_owned(lab.ours) and theirs not in names_owned(lab.ours)
    assert theirs in names_owned(lab.theirs) and ours not in names_owned(lab.theirs)


HURTING: dict[str, Callable[[Provider, str, State], None]] = {
    "destroy": lambda provider, name, state: provider.destroy(name, state),
    "destroy without state": lambda provider, name, state: provider.destroy(name, {}),
    "power off": lambda provider, name, state: provider.power(state, False),
    "restore": lambda provider, name, state: provider.restore(state, "one"),
}


@pytest.mark.parametrize("call", HURTING)
def test_a_machine_of_another_orchestrator_is_left_alone(lab: Lab, call: str) -> None:
    name, state = lab.made(lab.theirs, THEIRS)

    with pytest.raises(NotOurs):
        HURTING[call](lab.ours, name, state)

    assert lab.is_on(name)


def test_ensure_does_not_take_over_a_strangers_machine(lab: Lab) -> None:
    name, _ = lab.made(lab.theirs, THEIRS)

    with pytest.raises(NotOurs):
        lab.ours.ensure(name, lab.spec(name), {}, nothing)

    assert name in names_owned(lab.theirs)


@pytest.mark.parametrize("call", HURTING)
def test_a_machine_retagged_by_hand_is_left_alone(lab: Lab, call: str) -> None:
    name = new_name()
    spec = lab.spec(name)
    state = lab.ours.ensure(name, spec, {}, nothing)
    lab.retag(name, replace(spec.tag, instance="contract-somebody"))

    with pytest.raises(NotOurs):
        HURTING[call](lab.ours, name, state)

    assert lab.is_on(name) and name not in names_owned(lab.ours)


def test_a_machine_with_another_nonce_is_not_the_one_we_made(lab: Lab) -> None:
    name = new_name()
    spec = lab.spec(name)
    state = lab.ours.ensure(name, spec, {}, nothing)
    lab.retag(name, replace(spec.tag, nonce="other"))

    with pytest.raises(NotOurs):
        lab.ours.destroy(name, state)

    assert lab.is_on(name)


def test_a_machine_renamed_by_hand_is_left_alone_and_listed(lab: Lab) -> None:
    name, state = lab.made(lab.ours)
    lab.rename(name, "contract-renamed")

    lab.ours.destroy(name, state)
    with pytest.raises(NotOurs):
        lab.ours.destroy("contract-renamed", {})

    assert "contract-renamed" in lab.names()
    listed = {one.name: one.tag.session for one in lab.ours.owned()}
    assert listed["contract-renamed"] == name


def test_a_machine_that_stops_is_told_to_whoever_watches(lab: Lab) -> None:
    told: list[str] = []
    name, _ = lab.made(lab.ours)
    lab.ours.watch(told.append)

    lab.shut_down(name)

    deadline = time.monotonic() + 3.0
    while name not in told and time.monotonic() < deadline:
        time.sleep(0.02)
    assert name in told
    assert [one.is_on for one in lab.ours.owned() if one.name == name] == [False]


def test_power_off_and_on_again_keeps_the_machine(lab: Lab) -> None:
    name, state = lab.made(lab.ours)

    lab.ours.power(state, False)
    lab.ours.power(state, False)
    was_on = lab.is_on(name)
    lab.ours.power(state, True)
    lab.ours.power(state, True)

    assert not was_on and lab.is_on(name)
    assert lab.ours.endpoints(state, 5.0, {})["rdp"]


def test_a_restored_snapshot_brings_back_what_was_there(lab: Lab) -> None:
    _, state = lab.made(lab.ours)
    lab.ours.put(state, "/root/note", b"before", 0o600)
    lab.ours.snapshot(state, "one")
    lab.ours.snapshot(state, "one")
    lab.ours.put(state, "/root/note", b"after", 0o600)

    lab.ours.restore(state, "one")

    assert lab.ours.run(state, ["cat", "/root/note"]) == "before"


def test_a_snapshot_that_is_gone_cannot_be_restored(lab: Lab) -> None:
    _, state = lab.made(lab.ours)
    lab.ours.snapshot(state, "one")

    lab.ours.delete_snapshot(state, "one")
    lab.ours.delete_snapshot(state, "one")

    with pytest.raises(Refused, match="no snapshot one"):
        lab.ours.restore(state, "one")


def test_a_machine_with_snapshots_can_be_destroyed(lab: Lab) -> None:
    name, state = lab.made(lab.ours)
    lab.ours.snapshot(state, "one")

    lab.ours.destroy(name, state)

    assert name not in lab.names()


def test_ensure_killed_at_any_call_is_completed_by_the_next(lab: Lab) -> None:
    before, points = lab.names(), []
    for number in range(1, MOST_CALLS):
        name = new_name()
        spec, saved = lab.spec(name), State()
        with lab.killed_at(number) as (provider, save, point):
            try:
                provider.ensure(name, spec, {}, save)
                break
            except Killed as killed:
                points.append(str(killed))
        assert point.was_hit, f"point {number} was not hit"

        state = lab.ours.ensure(name, spec, saved, nothing)

        assert lab.names() - before == {name} and lab.is_on(name), points
        assert lab.ours.endpoints(state, 5.0, {})["rdp"], points
        lab.ours.destroy(name, {})
        assert lab.names() == before, points
    assert points, "no call was ever interrupted"


def test_destroy_right_after_ensure_was_killed_leaves_nothing(lab: Lab) -> None:
    before, points = lab.names(), []
    for number in range(1, MOST_CALLS):
        name = new_name()
        with lab.killed_at(number) as (provider, save, point):
            try:
                provider.ensure(name, lab.spec(name), {}, save)
                break
            except Killed as killed:
                points.append(str(killed))
        assert point.was_hit, f"point {number} was not hit"

        lab.ours.destroy(name, {})

        assert lab.names() == before, points
    assert points, "no call was ever interrupted"


def test_what_needs_a_machine_that_is_gone_says_so(lab: Lab) -> None:
    name, state = lab.made(lab.ours)
    lab.ours.destroy(name, state)

    for call in (
        lambda: lab.ours.power(state, True),
        lambda: lab.ours.run(state, ["true"]),
        lambda: lab.ours.put(state, "/x", b"", 0o600),
        lambda: lab.ours.endpoints(state, 0.1, {}),
        lambda: lab.ours.snapshot(state, "one"),
    ):
        with pytest.raises((StepFailed, NotYet)):
            call()


def test_a_step_that_is_told_to_stop_does_not_wait_on(lab: Lab) -> None:
    _, state = lab.made(lab.ours)
    lab.ours.power(state, False)
    stop = threading.Event()
    stop.set()
    token = process.stop.set(stop)
    try:
        with pytest.raises((Stopped, StepFailed, NotYet)):
            lab.ours.endpoints(state, 30.0, {})
    finally:
        process.stop.reset(token)


def test_nodes_tell_capacity_and_addresses(lab: Lab) -> None:
    node = lab.ours.nodes()[0]

    assert node.is_online and node.cpus > 0 and node.memory_mib > 256
    assert node.addresses and node.subnet


def test_two_at_the_same_time_make_one_machine(lab: Lab) -> None:
    name = new_name()
    spec, failed = lab.spec(name), []

    def make() -> None:
        try:
            lab.ours.ensure(name, spec, {}, nothing)
        except (StepFailed, NotYet) as error:  # the loop tries again
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lab.ours.ensure(name, spec, {}, nothing)

    assert len(failed) < 2
    assert [one.name for one in lab.ours.owned()].count(name) == 1 and lab.is_on(name)
    assert next(one.tag.instance for one in lab.ours.owned() if one.name == name) == OURS
