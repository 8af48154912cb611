"""What fails only in a task, what fails at once, and what UPIDs and lists of tasks look like."""

import json
import re

import pytest


def test_a_linked_clone_is_a_machine_of_its_own(api):
    assert api.clone(100, name="ada", full=0) == "OK"

    old, new = api.config(9000), api.config(100)
    assert new["scsi0"] == "local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2,size=8G"
    assert new["ide2"] == "local:100/vm-100-cloudinit.qcow2,media=cdrom,size=4M"
    assert new["name"] == "ada"
    assert "template" not in new and "lock" not in new
    for key in ("net0", "smbios1", "vmgenid", "digest"):
        assert new[key] != old[key]
    assert re.fullmatch(r"virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=vmbr0", new["net0"])


def test_a_full_clone_has_a_disk_without_a_base(api):
    assert api.clone(100, full=1) == "OK"

    assert api.config(100)["scsi0"] == "local:100/vm-100-disk-0.qcow2,size=8G"
    assert api.config(100)["name"] == "Copy-of-VM-template-9000"


def test_a_upid_says_who_and_when_and_a_running_task_has_no_exit_status(api):
    upid = api.start("POST", "qemu/9000/clone", newid=100)

    kind = r"UPID:pve1:[0-9A-F]{8}:[0-9A-F]{8}:[0-9A-F]{8}:qmclone:9000:root@pam!simulator:"
    assert re.fullmatch(kind, upid)
    running = api.status(upid)
    assert running["status"] == "running" and "exitstatus" not in running
    assert (running["user"], running["tokenid"]) == ("root@pam", "simulator")
    assert f"{running['pid']:08X}" == upid.split(":")[2]
    assert f"{running['starttime']:08X}" == upid.split(":")[4]
    assert api.wait(upid) == "OK"


@pytest.mark.parametrize(
    "method, path, params, exit_status",
    [
        ("POST", "qemu/555/status/start", {}, "Configuration file 'nodes/pve1/qemu-server/555.conf'"
         " does not exist"),
        ("POST", "qemu/9000/status/start", {}, "you can't start a vm if it's a template"),
        ("POST", "qemu/100/status/start", {}, "VM 100 already running"),
        ("PUT", "qemu/100/resize", {"disk": "scsi9", "size": "+1G"}, "disk 'scsi9' does not exist"),
        ("PUT", "qemu/100/resize", {"disk": "scsi0", "size": "1G"},
         "shrinking disks is not supported"),
        ("POST", "qemu/100/snapshot", {"snapname": "taken"}, "snapshot name 'taken' already used"),
        ("POST", "qemu/100/snapshot/nope/rollback", {}, "snapshot 'nope' does not exist"),
        ("DELETE", "qemu/9000", {},
         "base volume 'local:9000/base-9000-disk-0.qcow2' is still in use by linked cloned"),
        ("POST", "qemu/101/status/stop", {}, "OK"),
        ("POST", "qemu/101/status/shutdown", {}, "OK"),
    ],
)  # fmt: skip
def test_failures_hide_in_the_task(api, method, path, params, exit_status):
    api.clone(100)
    api.clone(101)
    api.task("POST", "qemu/100/snapshot", snapname="taken")
    api.up(100)

    assert api.task(method, path, **params) == exit_status


@pytest.mark.parametrize(
    "method, path, params, reason",
    [
        ("DELETE", "qemu/100", {}, "VM 100 is running - destroy failed"),
        ("DELETE", "qemu/555", {},
         "Configuration file 'nodes/pve1/qemu-server/555.conf' does not exist"),
        ("GET", "qemu/555/config", {},
         "Configuration file 'nodes/pve1/qemu-server/555.conf' does not exist"),
        ("GET", "/nodes/pve2/qemu/100/config", {},
         "Configuration file 'nodes/pve2/qemu-server/100.conf' does not exist"),
        ("POST", "qemu/9000/clone", {"newid": 100},
         "unable to create VM 100: config file already exists"),
        ("POST", "qemu/555/clone", {"newid": 600},
         "unable to find configuration file for VM 555 on node 'pve1'"),
        ("POST", "qemu/9000/clone", {"newid": 600, "target": "nope"},
         "no such cluster node 'nope'"),
        ("POST", "qemu/9000/clone", {"newid": 600, "storage": "nope", "full": 1},
         "storage 'nope' does not exist"),
        ("POST", "qemu/100/clone", {"newid": 600, "full": 0},
         "Linked clone feature is not supported for"
         " 'local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2' (scsi0)"),
        ("POST", "qemu/9000/clone", {"newid": 600, "storage": "local"},
         "parameter 'storage' not allowed for linked clones"),
        ("POST", "qemu/9000/clone", {"newid": 600, "target": "pve2"},
         "can't clone VM to node 'pve2' (VM uses local storage)"),
        ("GET", "/nodes/nope/qemu", {},
         "hostname lookup 'nope' failed - failed to get address info for: nope:"
         " Temporary failure in name resolution"),
        ("GET", "/cluster/ha/resources/100", {}, "no such resource 'vm:100'"),
    ],
)  # fmt: skip
def test_refusals_at_once_are_in_the_reason_and_the_message(api, method, path, params, reason):
    api.clone(100)
    api.up(100)

    answer = api.call(method, path, **params)

    assert (answer.status, answer.reason) == (500, reason)
    assert json.loads(answer.body) == {"data": None, "message": f"{reason}\n"}


def test_protection_refuses_the_destroy_at_once(api):
    api.clone(100)
    api.call("PUT", "qemu/100/config", protection=1)

    reason = api.refused("DELETE", "qemu/100")

    assert reason == "can't remove VM 100 - protection mode enabled"


def test_what_is_not_there_is_501_without_a_newline(api):
    answer = api.call("GET", "/nope")

    assert (answer.status, answer.reason) == (501, "Method 'GET /nope' not implemented")
    assert json.loads(answer.body)["message"] == "Method 'GET /nope' not implemented"


def test_of_three_clones_to_one_id_one_wins_and_two_lose_in_two_ways(sim, api):
    asked = []

    def clone(after_s):
        yield sim.env.timeout(after_s)
        params = {"newid": 100}
        asked.append((yield from sim.asking("POST", "/nodes/pve1/qemu/9000/clone", params)))

    # Two see the id free before either task has written the file; the third comes later.
    for after_s in (0, 0.004, 0.1):
        sim.spawn(clone(after_s))
    api.wait_s(0.3)

    answers = [answer.reason for answer in asked]
    assert answers.count("unable to create VM 100: config file already exists") == 1
    upids = [answer.data for answer in asked if answer.status == 200]
    ends = sorted(api.wait(upid) for upid in upids)
    assert ends == [
        "OK",
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
    ] or (ends == ["OK", "unable to create VM 100: config file already exists"])
    assert api.config(100)["name"] == "Copy-of-VM-template-9000"


def test_unknown_upids_are_parameter_errors(api):
    made_up = "UPID:pve1:00000001:00000001:00000001:qmstart:1:root@pam:"

    unknown = api.call("GET", f"tasks/{made_up}/status")
    no_upid = api.call("GET", "tasks/None/status")

    assert (unknown.status, json.loads(unknown.body)["errors"]) == (400, {"upid": "no such task"})
    assert json.loads(no_upid.body)["errors"] == {"upid": "unable to parse worker upid"}


def test_lists_of_tasks_leave_out_what_runs_unless_asked(api):
    api.clone(100)
    running = api.start("POST", "qemu/100/status/start")

    ended = api.get("tasks")
    active = api.get("tasks", source="active")

    assert [row["type"] for row in ended] == ["qmclone"]
    assert (ended[0]["status"], ended[0]["id"]) == ("OK", "9000")
    assert [(row["upid"], row["status"]) for row in active] == [(running, "RUNNING")]
    assert [row["type"] for row in api.get("/cluster/tasks")] == ["qmstart", "qmclone"]
    assert api.get("tasks", vmid=100) == []


def test_a_log_ends_with_how_the_task_ended(api):
    upid = api.start("POST", "qemu/9000/status/start")
    api.wait(upid)

    lines = api.get(f"tasks/{upid}/log")

    assert lines[-1]["t"] == "TASK ERROR: you can't start a vm if it's a template"


def test_a_task_can_be_killed(sim, api):
    sim.faults.hang_task("qmstart")
    api.clone(100)
    upid = api.start("POST", "qemu/100/status/start")
    api.wait_s(1)

    api.call("DELETE", f"tasks/{upid}")

    assert api.wait(upid) == "received interrupt"
    assert api.task("POST", "qemu/100/status/start") == "OK"


def test_nextid_is_the_lowest_free_one_and_reserves_nothing(api):
    first, second = api.get("/cluster/nextid"), api.get("/cluster/nextid")
    taken = api.call("GET", "/cluster/nextid", vmid=9000)

    assert (first, second) == ("100", "100")
    assert api.get("/cluster/nextid", vmid=777) == "777"
    assert taken.status == 400
    assert json.loads(taken.body)["errors"] == {"vmid": "VM 9000 already exists"}
