"""World files: the one of the README has every key and loads; a wrong one says what is wrong."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from pve_simulator import VirtualSimulator, world
from pve_simulator.access.sections import BadSection

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLE = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture
def load(tmp_path):
    def write_and_load(text):
        path = tmp_path / "world.yaml"
        path.write_text(text)
        return world.load(path)

    return write_and_load


def test_the_readmes_example_has_every_key():
    example = yaml.safe_load(EXAMPLE)

    assert set(world.KEYS) == set(example)
    for section, spec in (("nodes", world.NodeSpec), ("storages", world.StorageSpec)):
        named = {key for row in example[section] if isinstance(row, dict) for key in row}
        fields = {field.name for field in dataclasses.fields(spec)}
        assert {f for f in fields if not f.endswith(("_mib", "_gib"))} <= named | {"options"}


def test_the_readmes_example_is_what_it_says(load):
    with VirtualSimulator(load(EXAMPLE)) as sim:
        vm = sim.call("GET", "/nodes/pve1/qemu/101/status/current").data
        config = sim.call("GET", "/nodes/pve1/qemu/9000/config").data
        pools = sim.call("GET", "/pools").data
        pending = sim.call("GET", "/nodes/pve1/qemu/101/pending").data
        snapshots = sim.call("GET", "/nodes/pve1/qemu/101/snapshot").data
        tasks = sim.call("GET", "/nodes/pve1/tasks").data
        status = sim.call("GET", "/cluster/status").data

    assert (vm["status"], vm["ha"]["managed"], vm["uptime"]) == ("running", 1, 3600)
    assert (config["cores"], config["memory"], config["agent"]) == (2, "2048", "1")
    assert [pool["poolid"] for pool in pools] == ["desks", "desks/lab"]
    assert {"key": "memory", "value": "2048", "pending": "4096"} in pending
    assert [row["name"] for row in snapshots] == ["clean", "current"]
    assert tasks[0]["id"] == "101"
    assert (status[0]["name"], status[0]["nodes"], status[0]["version"]) == ("lab", 2, 2)


def test_events_happen(load):
    text = "nodes: [pve1, pve2]\nevents: [{at_s: 60, node: pve2, is: dead}]"
    with VirtualSimulator(load(text)) as sim:
        before = sim.call("GET", "/nodes/pve2/status").status
        sim.run(61)
        dead = sim.call("GET", "/nodes/pve2/status")
        sim.run(70)
        nodes = {row["node"]: row["status"] for row in sim.call("GET", "/nodes").data}

    assert before == 200
    assert (dead.status, dead.reason) == (595, "Connection refused")
    assert nodes == {"pve1": "online", "pve2": "offline"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nods: []", "no such key: nods"),
        ("nodes: [{name: pve1, memry: 1}]", "nodes: no such key: memry"),
        ("nodes: [{cpus: 1}]", "an entry has no name"),
        ("nodes: [{name: a, memory: lots}]", "'lots' is no size"),
        ("vms: [{id: 100, node: pve7}]", "there is no node 'pve7'"),
        ("vms: [{id: 100, node: pve1, status: up}]", "status is running or stopped"),
        ("vms: [{id: 100, node: pve1, pool: x}]", "there is no pool 'x'"),
        (
            'vms: [{id: 100, node: pve1, config: {scsi0: "ssd:vm-100-disk-0"}}]',
            "there is no storage 'ssd'",
        ),
        ("snapshots: [{vmid: 7, name: s}]", "there is no VM 7"),
    ],
)
def test_a_wrong_world_says_what_is_wrong(load, text, complaint):
    with pytest.raises(world.BadWorld, match=re.escape(complaint)):
        load(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('tokens: [{id: "eve@pve!t"}]', "not USER@REALM!NAME of a user"),
        ("acl: [{path: /vms, users: root@pam, roles: Chef}]", "no role 'Chef'"),
        ("acl: [{path: /moon, users: root@pam, roles: PVEAdmin}]", "'/moon' is no path"),
        ("users: [{id: ada@pve, pasword: x}]", "no such key: pasword"),
    ],
)
def test_wrong_people_are_refused_when_the_world_is_built(load, text, complaint):
    with pytest.raises(BadSection, match=re.escape(complaint)):
        world.build(load(text))


def test_an_empty_machine_and_its_clones_hear_nothing(load):
    text = EXAMPLE.replace("    template: true ", "    agent: false\n    template: true ")
    with VirtualSimulator(load(text)) as sim:
        sim.call("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 200})
        sim.run(5)
        sim.call("POST", "/nodes/pve1/qemu/200/status/start")
        sim.run(50)
        agent = sim.call("POST", "/nodes/pve1/qemu/200/agent/ping")
        upid = sim.call("POST", "/nodes/pve1/qemu/200/status/shutdown", {"timeout": 5}).data
        sim.run(60)
        end = sim.call("GET", f"/nodes/pve1/tasks/{upid}/status").data["exitstatus"]

    assert agent.reason == "QEMU guest agent is not running"
    assert end == "VM quit/powerdown failed - got timeout"
