"""Snapshots with and without memory, what rollback brings back, and what cannot be had."""

import pytest

from lab import Api, two_nodes
from pve_simulator import VirtualSimulator


@pytest.fixture
def vm(api):
    api.clone(100, name="ada")
    return api


def names(api) -> list[str]:
    return [row["name"] for row in api.get("qemu/100/snapshot")]


def test_a_rollback_brings_the_old_configuration_back(vm):
    assert vm.task("POST", "qemu/100/snapshot", snapname="s1", description="first") == "OK"
    vm.call("PUT", "qemu/100/config", name="changed", cores=7)

    assert vm.task("POST", "qemu/100/snapshot/s1/rollback") == "OK"

    assert vm.config(100)["name"] == "ada"
    assert vm.config(100)["parent"] == "s1"
    rows = {row["name"]: row for row in vm.get("qemu/100/snapshot")}
    assert rows["s1"]["description"] == "first"
    assert rows["current"]["parent"] == "s1" and rows["current"]["running"] == 0


def test_a_rollback_without_memory_leaves_a_running_vm_stopped(vm):
    vm.task("POST", "qemu/100/snapshot", snapname="s1")
    vm.up(100)

    assert vm.task("POST", "qemu/100/snapshot/s1/rollback") == "OK"

    assert vm.get("qemu/100/status/current")["status"] == "stopped"


def test_with_memory_the_vm_goes_on_where_it_was(vm):
    vm.up(100)
    vm.task("POST", "qemu/100/snapshot", snapname="s1", vmstate=1)
    vm.task("POST", "qemu/100/status/stop")

    assert vm.task("POST", "qemu/100/snapshot/s1/rollback") == "OK"

    assert vm.get("qemu/100/status/current")["status"] == "running"
    assert vm.call("POST", "qemu/100/agent/ping").status == 200
    assert [row["vmstate"] for row in vm.get("qemu/100/snapshot") if row["name"] == "s1"] == [1]


def test_during_a_snapshot_the_vm_is_locked(vm):
    upid = vm.start("POST", "qemu/100/snapshot", snapname="s1")
    vm.wait_s(0.2)

    assert vm.get("qemu/100/status/current")["lock"] == "snapshot"
    assert vm.task("DELETE", "qemu/100/snapshot/s1") == "VM is locked (snapshot)"
    assert vm.wait(upid) == "OK"


def test_deleting_gives_children_to_the_parent_and_memory_back(vm):
    vm.up(100)
    for name in ("s1", "s2", "s3"):
        vm.task("POST", "qemu/100/snapshot", snapname=name, vmstate=1)
    before = len(vm.volumes())

    assert vm.task("DELETE", "qemu/100/snapshot/s2") == "OK"

    assert names(vm) == ["s1", "s3", "current"]
    parents = {row["name"]: row.get("parent") for row in vm.get("qemu/100/snapshot")}
    assert parents == {"s1": None, "s3": "s1", "current": "s3"}
    assert len(vm.volumes()) == before - 1


def test_a_clone_has_no_snapshots(vm):
    vm.task("POST", "qemu/100/snapshot", snapname="s1")

    assert vm.clone(101, 100, full=1) == "OK"

    assert [row["name"] for row in vm.get("qemu/101/snapshot")] == ["current"]
    assert "parent" not in vm.config(101)


def test_a_vm_with_snapshots_becomes_no_template(vm):
    vm.task("POST", "qemu/100/snapshot", snapname="s1")

    reason = vm.refused("POST", "qemu/100/template")

    assert reason == "unable to create template, because VM contains snapshots"


def test_templates_and_raw_files_cannot_be_snapshotted(api):
    api.task("POST", "qemu", vmid=200, scsi0="local:1,format=raw")

    assert api.task("POST", "qemu/9000/snapshot", snapname="s1") == (
        "you can't take a snapshot if it's a template"
    )
    assert api.task("POST", "qemu/200/snapshot", snapname="s1") == (
        "snapshot feature is not available"
    )


def test_qemu_as_it_comes_cannot_save_memory():
    world = two_nodes()
    world.stock_qemu = True
    with VirtualSimulator(world) as sim:
        api = Api(sim)
        api.clone(100)
        api.up(100)

        end = api.task("POST", "qemu/100/snapshot", snapname="s1")

        assert end.startswith("VM 100 qmp command 'savevm-start' failed")
        assert names(api) == ["current"]
        assert "lock" not in api.config(100)
