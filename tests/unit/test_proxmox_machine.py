"""What a machine's configuration says, above all whose a machine without a mark is."""

import json
from typing import Any

import pytest

from daas.providers.base import Size, Spec, Tag
from daas.providers.proxmox import machine, terraform_state
from daas.providers.proxmox.machine import Image, Place
from daas.providers.proxmox.terraform_state import StateBox

NAME, NUMBER, TEMPLATE = "desktop-abc234", 20001, 9000
BORN = "creation-qemu=9.2.0,ctime=1700009000"
STATE = {"vmid": NUMBER, "template": TEMPLATE, "born": BORN}
LINKED = f"local:{TEMPLATE}/base-{TEMPLATE}-disk-0.qcow2/{NUMBER}/vm-{NUMBER}-disk-0.qcow2,size=8G"
CLONE = {"name": NAME, "scsi0": LINKED, "meta": BORN, "tags": "daas;daas_here_image"}
SPEC = Spec("pve1", "tmpl-x-1", Size(2, 2048, 8), Tag("here", NAME, "n"), number=NUMBER)
IMAGE = Image("tmpl-x-1", TEMPLATE, "pve1", ("local",), 8.0, "qcow2", BORN)


@pytest.mark.parametrize(
    "config",
    [
        CLONE,
        {"name": NAME, "lock": "clone", "meta": BORN},  # no disk is copied yet
        {**CLONE, "tags": ""},  # a template that we did not make
        {**CLONE, "tags": " "},  # as the older provider leaves it
        {**CLONE, "scsi0": f"local-lvm:vm-{NUMBER}-disk-0,size=8G"},  # whose names say nothing
        {**CLONE, "ide2": f"local:{NUMBER}/vm-{NUMBER}-cloudinit.qcow2,media=cdrom"},
        {**CLONE, "ide2": "local:iso/debian.iso,media=cdrom"},
    ],
)
def test_a_clone_of_our_image_at_our_number_with_our_name_is_half_made(
    config: dict[str, Any],
) -> None:
    assert machine.is_half_made(config, NUMBER, NAME, "here", STATE)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "desktop-abc235"},
        {"name": ""},
        {"template": 1},
        {"tags": f"daas;daas_there_{NAME}_n_5"},
        {"tags": f"daas;daas_here_{NAME}_n_5"},  # it has a mark: that is to be compared instead
        {"tags": "daas;daas_there_image"},
        {"meta": "creation-qemu=9.2.0,ctime=1600000000"},
        {"scsi0": f"local:9001/base-9001-disk-0.qcow2/{NUMBER}/vm-{NUMBER}-disk-0.qcow2,size=8G"},
        {"scsi0": "local:20002/vm-20002-disk-0.qcow2,size=8G"},
        {"scsi1": "nfs:500/vm-500-disk-0.raw,size=8G"},
    ],
)
def test_whatever_differs_makes_it_a_strangers(changed: dict[str, Any]) -> None:
    assert not machine.is_half_made({**CLONE, **changed}, NUMBER, NAME, "here", STATE)


def test_without_our_number_only_our_images_mark_makes_it_ours() -> None:
    assert machine.is_half_made(CLONE, NUMBER, NAME, "here", {})
    assert not machine.is_half_made({**CLONE, "tags": ""}, NUMBER, NAME, "here", {})
    assert not machine.is_half_made({**CLONE, "tags": ""}, NUMBER, NAME, "here", {"vmid": 20002})


@pytest.mark.parametrize(
    ("changed", "is_complete"),
    [
        ({}, True),
        ({"lock": "suspended"}, True),
        ({"lock": "clone"}, False),
        ({"cores": 1}, False),
        ({"memory": "256"}, False),
        ({"scsi0": LINKED.replace("8G", "2G")}, False),
        ({"scsi0": LINKED.replace("8G", "8192M")}, True),
        ({"scsi0": "none"}, False),
        ({"ipconfig0": "ip=10.0.0.51/24,gw=10.0.0.1"}, False),
    ],
)
def test_a_machine_is_complete_when_all_is_as_asked(
    changed: dict[str, Any], is_complete: bool
) -> None:
    spec = Spec(**{**vars(SPEC), "address": "10.0.0.50/24", "gateway": "10.0.0.1"})
    whole = {**CLONE, "cores": 2, "memory": "2048", "ipconfig0": "ip=10.0.0.50/24,gw=10.0.0.1"}

    assert machine.is_complete({**whole, **changed}, spec) is is_complete


def test_a_module_is_told_what_the_machine_is_to_be() -> None:
    place = Place(storage="fast", bridge="vmbr1", vlan=7, pool="desks")

    told = machine.variables(NAME, NUMBER, SPEC, IMAGE, place, 1_700_000_000)

    assert told["vm_name"] == NAME and told["vmid"] == NUMBER and told["template_vmid"] == TEMPLATE
    assert (told["cores"], told["memory_mib"], told["disk_gib"]) == (2, 2048, 0)
    assert told["storage"] == "local", "a linked clone's disk is where its template's is"
    assert (told["bridge"], told["vlan"], told["pool"]) == ("vmbr1", 7, "desks")
    assert told["address"] == told["gateway"] == ""
    assert told["tags"][1] == f"daas_here_{NAME}_n_1700000000" and NAME in told["description"]


def test_a_full_clone_goes_to_the_storage_that_was_chosen() -> None:
    larger = Spec(**{**vars(SPEC), "size": Size(2, 2048, 20)})
    place = Place(storage="fast", is_full_clone=True)

    told = machine.variables(NAME, NUMBER, larger, IMAGE, place, 5)

    assert told["full_clone"] and told["storage"] == "fast" and told["disk_gib"] == 20


def _state(*resources: dict[str, Any]) -> str:
    return json.dumps({"version": 4, "serial": 3, "lineage": "x", "resources": [*resources]})


VM = {
    "mode": "managed",
    "type": "proxmox_virtual_environment_vm",
    "name": "desktop",
    "instances": [{"attributes": {"vm_id": NUMBER}}],
}
DNS = {"mode": "managed", "type": "dns_a_record_set", "name": "d", "instances": [{}]}


def test_a_machine_is_taken_out_of_the_state_that_makes_it_anew() -> None:
    assert terraform_state.without_machine(_state(VM)) is None
    left = json.loads(terraform_state.without_machine(_state(VM, DNS)) or "{}")
    assert [one["type"] for one in left["resources"]] == ["dns_a_record_set"]
    assert left["lineage"] == "x" and left["serial"] == 3


def test_a_state_is_used_only_for_the_machine_it_is_about() -> None:
    assert terraform_state.is_about(_state(VM, DNS), NUMBER)
    assert not terraform_state.is_about(_state(VM), NUMBER + 1)
    assert not terraform_state.is_about(_state(DNS), NUMBER)


@pytest.mark.parametrize("sealed", ["", "{", "[]", "null", '{"resources": 1}', '{"resources": []}'])
def test_a_state_that_cannot_be_read_is_none(sealed: str) -> None:
    box = StateBox(str, str)

    assert box.of({"name": NAME, "terraform": sealed}) is None
