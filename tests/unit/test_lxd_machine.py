"""What we ask LXD for: one request with everything in it, for containers and virtual machines."""

from typing import Any

import pytest

from daas.providers.base import Size, Spec, Tag
from daas.providers.lxd import machine
from daas.providers.lxd.machine import Place, copy_request

TAG = Tag("here", "desktop-abc234", "n1")
RANGE = ("10.88.0.2", "10.88.0.238")
PLACE = Place("daas", "daasbr0")


def spec(**options: Any) -> Spec:
    return Spec(
        "vm",
        "tmpl-xfce-1",
        Size(2, 2048, 20),
        TAG,
        "10.88.0.50/24",
        "10.88.0.1",
        {"hostname": b"desktop-abc234"},
        options,
    )


def order(place: Place = PLACE, **options: Any) -> dict[str, Any]:
    return copy_request("desktop-abc234", spec(**options), place, RANGE, "/srv/personal/x", 1e9)


def test_a_container_is_asked_for_whole() -> None:
    asked = order()

    assert asked["source"] == {"type": "copy", "source": "tmpl-xfce-1", "instance_only": True}
    assert asked["profiles"] == [] and asked["type"] == "container"
    assert asked["config"] == {
        "user.daas.instance": "here",
        "user.daas.session": "desktop-abc234",
        "user.daas.nonce": "n1",
        "user.daas.created": "1000000000.000",
        "user.daas.image": "tmpl-xfce-1",
        "limits.cpu": "2",
        "limits.memory": "2048MiB",
        "raw.lxc": "lxc.net.0.ipv4.address=10.88.0.50/24\nlxc.net.0.ipv4.gateway=10.88.0.1",
    }
    devices = asked["devices"]
    assert devices["root"] == {"type": "disk", "path": "/", "pool": "daas", "size": "20GiB"}
    assert devices["personal"]["readonly"] == "true"
    assert devices["personal"]["path"] == "/var/lib/daas/personal"


def test_a_virtual_machine_is_asked_for_by_the_same_code_without_what_only_lxc_knows() -> None:
    asked = order(type="virtual-machine")

    assert asked["type"] == "virtual-machine"
    assert "raw.lxc" not in asked["config"] and asked["config"]["limits.memory"] == "2048MiB"
    assert asked["devices"]["eth0"]["ipv4.address"] == "10.88.0.50"
    assert set(asked["devices"]) == {"root", "eth0"}


def test_the_same_address_always_has_the_same_card() -> None:
    cards = {order()["devices"]["eth0"]["hwaddr"], order()["devices"]["eth0"]["hwaddr"]}

    assert cards == {"02:da:a5:58:00:32"}
    assert machine.hardware_address("10.88.0.51/24") not in cards


def test_a_container_without_a_proxied_port_costs_no_lease() -> None:
    assert "ipv4.address" not in order()["devices"]["eth0"]
    assert "rdp" not in order()["devices"]


def test_a_proxied_port_is_the_addresss_place_in_the_range() -> None:
    asked = order(Place("daas", "daasbr0", proxy_listen="192.0.2.7", proxy_port_base=20000))

    assert asked["devices"]["rdp"] == {
        "type": "proxy",
        "listen": "tcp:192.0.2.7:20048",
        "connect": "tcp:10.88.0.50:3389",
        "nat": "true",
    }
    assert asked["devices"]["eth0"]["ipv4.address"] == "10.88.0.50"


def test_the_loopback_cannot_be_forwarded_by_the_kernel() -> None:
    asked = order(Place("daas", "daasbr0", proxy_listen="127.0.0.1"))

    assert "nat" not in asked["devices"]["rdp"]


BRIDGE = {"ipv4.address": "10.88.0.1/24", "ipv4.dhcp": "true"}


@pytest.mark.parametrize(
    "network, free",
    [
        ({"ipv4.dhcp.ranges": "10.88.0.239-10.88.0.254"}, ("10.88.0.2", "10.88.0.238")),
        ({"ipv4.dhcp.ranges": "10.88.0.2-10.88.0.99"}, ("10.88.0.100", "10.88.0.254")),
        (
            {"ipv4.dhcp.ranges": "10.88.0.2-10.88.0.9,10.88.0.200-10.88.0.254"},
            ("10.88.0.10", "10.88.0.199"),
        ),
        ({"ipv4.dhcp": "false"}, ("10.88.0.2", "10.88.0.254")),
        ({"ipv4.address": "10.88.0.254/24", "ipv4.dhcp": "false"}, ("10.88.0.1", "10.88.0.253")),
        ({"ipv4.dhcp.ranges": ""}, None),
        ({"ipv4.address": "none"}, None),
    ],
)
def test_we_give_out_what_dhcp_and_the_bridge_leave(
    network: dict[str, str], free: tuple[str, str] | None
) -> None:
    assert machine.free_range({**BRIDGE, **network}) == free


def test_every_machine_on_the_bridge_has_its_address_taken_ours_or_not() -> None:
    ours = {"config": {"raw.lxc": order()["config"]["raw.lxc"]}, "devices": {}}
    theirs = {"config": {}, "devices": {"eth0": {"type": "nic", "ipv4.address": "10.88.0.9"}}}
    dhcp = {"config": {}, "devices": {"eth0": {"type": "nic"}}}

    found = {one for each in (ours, theirs, dhcp) for one in machine.addresses_of(each)}

    assert found == {"10.88.0.50", "10.88.0.9"}
    assert machine.within({*found, "10.99.0.1", "fd00::9"}, RANGE) == found


def test_the_guests_root_is_found_in_the_map_of_user_ids() -> None:
    shifted = '[{"Isuid":true,"Isgid":false,"Hostid":100000,"Nsid":0,"Maprange":65536}]'

    assert machine.root_on_host({"config": {"volatile.idmap.next": shifted}}) == 100000
    assert machine.root_on_host({"config": {}}) == 0


def test_only_a_sealed_machine_of_ours_without_a_session_is_an_image() -> None:
    image = {"user.daas.instance": "here", "user.daas.sealed": "true"}

    assert machine.is_image({"config": image}, "here")
    assert not machine.is_image({"config": {**image, "user.daas.session": "desktop-a"}}, "here")
    assert not machine.is_image({"config": {"user.daas.instance": "here"}}, "here")
    assert not machine.is_image({"config": image}, "elsewhere")


@pytest.mark.parametrize(
    "last_used, was", [("1970-01-01T00:00:00Z", False), ("2026-11-23T05:00:00Z", True)]
)
def test_lxd_says_1970_of_a_machine_that_was_never_started(last_used: str, was: bool) -> None:
    assert machine.was_started({"last_used_at": last_used}) is was
