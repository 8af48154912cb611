"""Parameters: the complaints of the real checker, word for word."""

import pytest

from pve_simulator import endpoints, router, schema
from pve_simulator.api import Invalid

VM = "/nodes/{node}/qemu/{vmid}"


def complaints(method, template, **params):
    try:
        schema.validate(method, template, {"node": "pve1", "vmid": "101", **params})
    except Invalid as error:
        return error.errors
    return {}


def test_it_is_the_whole_schema():
    assert len(schema.methods()) == 606


def test_every_endpoint_is_one_of_the_official_schema():
    assert endpoints.__all__
    served = {(one.method, one.template) for one in router.all_endpoints()}

    assert served - set(schema.methods()) == set()
    assert len(served) > 120


@pytest.mark.parametrize(
    ("template", "params", "expected"),
    [
        ("clone", {}, {"newid": "property is missing and it is not optional"}),
        ("clone", {"newid": "abc"}, {"newid": "type check ('integer') failed - got 'abc'"}),
        (
            "clone",
            {"newid": "50"},
            {"newid": "invalid format - value does not look like a valid VM ID\n"},
        ),
        (
            "clone",
            {"newid": "600", "bogus": "1"},
            {
                "bogus": "property is not defined in schema "
                "and the schema does not allow additional properties"
            },
        ),
        (
            "clone",
            {"newid": "600", "name": "bad name!", "full": "yes"},
            {
                "name": "invalid format - value does not look like a valid DNS name\n",
                "full": "type check ('boolean') failed - got 'yes'",
            },
        ),
        (
            "clone",
            {"newid": "600", "format": "vdi"},
            {"format": "value 'vdi' does not have a value in the enumeration 'raw, qcow2, vmdk'"},
        ),
        (
            "config",
            {"memory": "lots"},
            {
                "memory": "invalid format - format error\n"
                "memory.current: type check ('integer') failed - got 'lots'\n"
            },
        ),
        (
            "config",
            {"net0": "virtio,bridge=vmbr0,tag=9999"},
            {
                "net0": "invalid format - format error\n"
                "net0.tag: value must have a maximum value of 4094\n"
            },
        ),
        (
            "config",
            {"net0": "virtio,colour=red"},
            {"net0": "invalid format - invalid key in comma-separated list property: colour\n"},
        ),
        ("config", {"cores": "0"}, {"cores": "value must have a minimum value of 1"}),
        (
            "config",
            {"force": "1"},
            {"delete": "missing property - 'force' requires this property"},
        ),
        (
            "config",
            {"boot": "order=scsi0;floppy"},
            {
                "boot": "invalid format - format error\n"
                "boot.order: invalid format - invalid boot device 'floppy'\n\n"
            },
        ),
        ("config", {"tags": "a;b c!"}, {"tags": "invalid format - invalid characters in tag\n"}),
        (
            "config",
            {"ipconfig0": "ip=10.0.0.1"},
            {
                "ipconfig0": "invalid format - format error\nipconfig0.ip: invalid format - "
                "value does not look like a valid ipv4 network configuration\n\n"
            },
        ),
        (
            "config",
            {"cpu": "i386"},
            {
                "cpu": "invalid format - Built-in cputype 'i386' is not defined "
                "(missing 'custom-' prefix?)\n"
            },
        ),
        (
            "config",
            {"net32": "virtio"},
            {
                "net32": "property is not defined in schema "
                "and the schema does not allow additional properties"
            },
        ),
    ],
)
def test_a_wrong_parameter_gets_the_real_complaint(template, params, expected):
    method = "POST" if template == "clone" else "PUT"

    assert complaints(method, f"{VM}/{template}", **params) == expected


def test_what_the_providers_send_passes():
    sent = {
        "agent": "enabled=1,fstrim_cloned_disks=0,type=virtio",
        "cicustom": "",
        "ide2": "file=local:cloudinit,",
        "net0": "model=virtio,bridge=vmbr0,firewall=0",
        "scsi0": "local:9001/base-9001-disk-0.qcow2/400/vm-400-disk-0.qcow2,replicate=0",
        "tags": "",
        "delete": "net1,net2",
        "sshkeys": "ssh-ed25519%20AAAA",
    }

    assert complaints("PUT", f"{VM}/config", **sent) == {}


def test_whole_numbers_and_flags_come_out_as_numbers():
    params = schema.validate(
        "POST", f"{VM}/clone", {"node": "n", "vmid": "9000", "newid": "100", "full": "0"}
    )

    assert params == {"node": "n", "vmid": 9000, "newid": 100, "full": 0}
