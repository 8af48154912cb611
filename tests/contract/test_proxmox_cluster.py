"""A cluster that loses a node, its quorum or its temper: what waits, and what works on."""

import time

import pytest

from contract.labs import new_name, nothing
from contract.proxmox_lab import ProxmoxLab, eventually, held_ensure
from daas.errors import NotYet, Refused, Unreachable

CLONE = r"/clone$"


def test_a_dead_node_is_waited_for_by_name_and_the_other_works_on(pve: ProxmoxLab) -> None:
    pve.sim.faults.kill_node("pve2")
    time.sleep(0.3)
    name = new_name()

    with pytest.raises(Unreachable, match="pve2"):
        pve.ours.ensure(name, pve.spec(name, node="pve2"), {}, nothing)
    pve.made(pve.ours)

    found = {node.name: node for node in pve.ours.nodes()}
    assert found["pve1"].is_online and not found["pve2"].is_online and found["pve2"].why


def test_a_node_that_dies_during_the_clone_is_waited_for_and_nothing_is_left(
    pve: ProxmoxLab,
) -> None:
    name = new_name()
    spec = pve.spec(name, node="pve2")

    failed, saved = held_ensure(
        pve, spec, name, "after", lambda: pve.sim.faults.kill_node("pve2"), path=CLONE
    )
    assert failed and isinstance(failed[0], NotYet), failed
    pve.sim.faults.revive_node("pve2")
    time.sleep(0.3)
    eventually(lambda: pve.ours.ensure(name, spec, saved[-1], saved.append))

    assert pve.names() == {name} and pve.is_on(name)


def test_a_machine_on_a_dead_node_waits_to_be_destroyed_until_it_is_back(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, node="pve2")
    pve.sim.faults.kill_node("pve2")
    time.sleep(0.3)
    with pytest.raises(Unreachable, match="pve2"):
        pve.ours.destroy(name, state)
    assert [one.is_on for one in pve.ours.owned()] == [True], "nobody knows: not taken for off"
    pve.sim.faults.revive_node("pve2")
    time.sleep(0.3)

    pve.ours.destroy(name, state)

    assert pve.names() == set() and pve.volumes() == set()


def test_without_quorum_all_that_writes_waits(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.lose_quorum()

    other = new_name()
    for call in (
        lambda: pve.ours.destroy(name, state),
        lambda: pve.ours.ensure(other, pve.spec(other), {}, nothing),
    ):
        with pytest.raises(Unreachable, match="quorum"):
            call()
    assert pve.names() == {name}
    pve.sim.faults.regain_quorum()
    pve.ours.destroy(name, state)
    assert pve.names() == set()


def test_a_storm_of_500_is_sat_out_by_what_only_looks(pve: ProxmoxLab) -> None:
    name, _ = pve.made(pve.ours)
    pve.sim.faults.storm(times=3, method="GET")

    assert [one.name for one in pve.ours.owned()] == [name]


def test_what_changes_something_is_not_done_twice_blindly(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours)
    pve.sim.faults.storm(times=1, method="POST", path="/snapshot$")

    with pytest.raises(Refused, match="simulated storm"):
        pve.ours.snapshot(state, "one")
