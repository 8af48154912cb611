"""Rights that depend on what is asked: each refusal names the path and the privilege."""

import pytest

from lab import two_nodes
from pve_simulator import VirtualSimulator

TOKEN = ("ada@pve!tool", "1")


@pytest.fixture
def sim():
    world = two_nodes()
    world.access = {
        "users": [{"id": "root@pam"}, {"id": "ada@pve"}],
        "tokens": [{"id": TOKEN[0], "secret": TOKEN[1], "privsep": 0}],
        "roles": [{"id": "Few", "privs": ["VM.Audit", "VM.Clone", "VM.Allocate"]}],
        "acl": [{"path": "/vms", "users": ["ada@pve"], "roles": ["Few"]}],
    }
    with VirtualSimulator(world) as simulator:
        yield simulator


def grant(sim, path, privileges):
    name = f"role{len(sim.calls)}"
    sim.call("POST", "/access/roles", {"roleid": name, "privs": privileges})
    answer = sim.call("PUT", "/access/acl", {"path": path, "users": "ada@pve", "roles": name})
    assert answer.status == 200, answer.reason


def said(sim, method, path, **params):
    answer = sim.call(method, path, params, token=TOKEN)
    return "OK" if answer.status == 200 else f"{answer.status} {answer.reason}"


def test_a_clone_needs_space_on_the_storage_and_the_bridge(sim):
    clone = "/nodes/pve1/qemu/9000/clone"

    no_space = said(sim, "POST", clone, newid=100)
    grant(sim, "/storage/local", "Datastore.AllocateSpace")
    no_bridge = said(sim, "POST", clone, newid=100)
    grant(sim, "/sdn/zones/localnetwork/vmbr0", "SDN.Use")

    failed = "403 Permission check failed"
    assert no_space == f"{failed} (/storage/local, Datastore.AllocateSpace)"
    assert no_bridge == f"{failed} (/sdn/zones/localnetwork/vmbr0, SDN.Use)"
    assert said(sim, "POST", clone, newid=100) == "OK"


@pytest.mark.parametrize(
    "params, privilege",
    [
        ({"cores": 2}, "VM.Config.CPU"),
        ({"memory": 512}, "VM.Config.Memory"),
        ({"scsihw": "virtio-scsi-pci"}, "VM.Config.HWType"),
        ({"description": "x"}, "VM.Config.Options"),
        ({"tags": "x"}, "VM.Config.Options"),
        ({"net0": "virtio,bridge=vmbr0"}, "VM.Config.Network"),
        ({"ciuser": "x"}, "VM.Config.Cloudinit|VM.Config.Network"),
        ({"scsi1": "local:1"}, "VM.Config.Disk"),
        ({"delete": "scsi0"}, "VM.Config.Disk"),
        ({"ide2": "none,media=cdrom"}, "VM.Config.CDROM"),
        ({"boot": "order=net0"}, "VM.Config.Disk"),
    ],
)
def test_each_kind_of_change_needs_its_privilege(sim, params, privilege):
    # One privilege of the kind is asked of everybody; so this one has another.
    other = "VM.Config.CPU" if privilege == "VM.Config.Options" else "VM.Config.Options"
    grant(sim, "/vms", other)

    refused = said(sim, "PUT", "/nodes/pve1/qemu/9100/config", **params)

    assert refused == f"403 Permission check failed (/vms/9100, {privilege})"


def test_a_tagged_card_needs_its_vlan(sim):
    grant(sim, "/vms", "VM.Config.Network")
    grant(sim, "/sdn/zones/localnetwork/vmbr0/7", "SDN.Use")
    path = "/nodes/pve1/qemu/9100/config"

    assert said(sim, "PUT", path, net0="virtio,bridge=vmbr0,tag=7") == "OK"
    assert said(sim, "PUT", path, net0="virtio,bridge=vmbr0,tag=8") == (
        "403 Permission check failed (/sdn/zones/localnetwork/vmbr0/8, SDN.Use)"
    )


def test_a_pool_lends_its_rights_to_a_vm_that_is_made_in_it(sim):
    sim.call("POST", "/pools", {"poolid": "desks"})
    grant(sim, "/pool/desks", "VM.Allocate,VM.Config.CPU,VM.Config.Memory,Pool.Audit")

    made = said(sim, "POST", "/nodes/pve1/qemu", vmid=200, cores=1, memory=64, pool="desks")

    assert made == "OK"
    assert "403" in said(sim, "POST", "/nodes/pve1/qemu", vmid=201, cores=1)
