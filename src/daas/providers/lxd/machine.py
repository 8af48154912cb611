"""What we ask LXD for, and what its answers say: the shape of a desktop's machine, our tag on it,
addresses on the bridge. Pure."""

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daas.providers.base import Spec, Tag

Json = dict[str, Any]
Range = tuple[str, str]

INSTANCE, SESSION, NONCE = "user.daas.instance", "user.daas.session", "user.daas.nonce"
CREATED, IMAGE = "user.daas.created", "user.daas.image"
TEMPLATE, SEALED = "user.daas.template", "user.daas.sealed"  # on images only; clones inherit them
PERSONAL = "/var/lib/daas/personal"
NEVER = "1970-01-01"  # what LXD says of a machine that was never started
RDP, SSH = 3389, 22


@dataclass(frozen=True)
class Place:
    """Where machines of this installation live on this LXD."""

    pool: str
    bridge: str
    addresses: Range | None = None  # those we give out; None: those the bridge leaves free
    proxy_listen: str | None = None  # the host's address whose ports lead to the desktops
    proxy_port_base: int = 13389


def tag_of(found: Json) -> Tag:
    """Return our tag as the machine bears it, empty strings where it bears none."""
    config = found["config"]
    return Tag(config.get(INSTANCE, ""), config.get(SESSION, ""), config.get(NONCE, ""))


def is_image(found: Json, instance: str) -> bool:
    config = found["config"]
    is_ours = config.get(INSTANCE) == instance and not config.get(SESSION)
    return is_ours and config.get(SEALED) == "true"


def was_started(found: Json) -> bool:
    return not str(found.get("last_used_at", NEVER)).startswith((NEVER, "0001"))


def copy_request(
    name: str, spec: Spec, place: Place, range_: Range | None, personal: str | None, now_s: float
) -> Json:
    """Return the one request that makes the machine with everything it has: nothing is added
    later, so that a machine that exists at all bears our tag."""
    is_vm = spec.options.get("type") == "virtual-machine"
    devices: Json = {
        "root": {
            "type": "disk",
            "path": "/",
            "pool": place.pool,
            "size": f"{spec.size.disk_gib}GiB",
        },
        "eth0": _card(spec, place, is_vm),
    }
    if personal and not is_vm:  # a VM gets them through its agent
        devices["personal"] = _disk(personal, PERSONAL)
    if place.proxy_listen and spec.address and range_:
        devices["rdp"] = _proxy(spec.address, place, range_)
    return {
        "name": name,
        "type": "virtual-machine" if is_vm else "container",
        "profiles": [],
        "config": _config(spec, is_vm, now_s),
        "devices": devices,
        "source": {"type": "copy", "source": spec.image, "instance_only": True},
    }


def _config(spec: Spec, is_vm: bool, now_s: float) -> dict[str, str]:
    config = {
        INSTANCE: spec.tag.instance,
        SESSION: spec.tag.session,
        NONCE: spec.tag.nonce,
        CREATED: f"{now_s:.3f}",
        IMAGE: spec.image,
        "limits.cpu": str(spec.size.cpus),
        "limits.memory": f"{spec.size.memory_mib}MiB",
    }
    if spec.address and not is_vm:
        # Set by LXC before the guest's first process: no DHCP, 0.5 s earlier.
        lines = [f"lxc.net.0.ipv4.address={spec.address}"]
        lines += [f"lxc.net.0.ipv4.gateway={spec.gateway}"] if spec.gateway else []
        config["raw.lxc"] = "\n".join(lines)
    return config


def _card(spec: Spec, place: Place, is_vm: bool) -> dict[str, str]:
    card = {"type": "nic", "network": place.bridge, "name": "eth0"}
    if spec.address:
        # The same card for the same address: with a new one, whoever has the last desktop's in
        # mind (the host itself, for one) would not reach this one for some seconds.
        card["hwaddr"] = hardware_address(spec.address)
    # A lease costs LXD a reload of dnsmasq; forwarded ports insist on one, VMs need it.
    if spec.address and (is_vm or is_forwarded(place.proxy_listen)):
        card["ipv4.address"] = bare(spec.address)
    return card


def hardware_address(address: str) -> str:
    """Return a locally administered one that holds the last three bytes of the IPv4 address."""
    last = (int(part) for part in bare(address).split(".")[1:])
    return "02:da:a5:" + ":".join(f"{part:02x}" for part in last)


def _disk(source: str, path: str) -> dict[str, str]:
    return {"type": "disk", "source": source, "path": path, "readonly": "true"}


def _proxy(address: str, place: Place, range_: Range) -> dict[str, str]:
    port = proxied_port(address, range_, place.proxy_port_base)
    device = {
        "type": "proxy",
        "listen": f"tcp:{place.proxy_listen}:{port}",
        "connect": f"tcp:{bare(address)}:{RDP}",
    }
    # By the kernel's packet filter: the other way is a process for each desktop, and 1 s at start.
    return {**device, "nat": "true"} if is_forwarded(place.proxy_listen) else device


def is_forwarded(listen: str | None) -> bool:
    """The kernel can forward from any address but the loopback."""
    return bool(listen) and not str(listen).startswith("127.")


def proxied_port(address: str, range_: Range, base: int) -> int:
    """Return the host's port for a desktop: its place in the range, so that no table is needed."""
    return base + _number(bare(address)) - _number(range_[0])


def bare(address: str) -> str:
    return address.split("/")[0]


def root_on_host(found: Json) -> int:
    """Return the host's user id that is root inside; 0 where ids are not shifted."""
    for part in json.loads(found["config"].get("volatile.idmap.next") or "[]"):
        if part["Isuid"] and part["Nsid"] == 0:
            return int(part["Hostid"])
    return 0


def free_range(network: Mapping[str, str]) -> Range | None:
    """Return the longest run of addresses of the bridge that neither DHCP nor the bridge uses;
    None where DHCP may give any."""
    if not _is_address(network.get("ipv4.address", "none")):
        return None
    bridge = ipaddress.ip_interface(network["ipv4.address"])
    used = [(int(bridge.ip), int(bridge.ip)), *_dhcp(network, bridge)]
    first, last = int(bridge.network.network_address) + 1, int(bridge.network.broadcast_address) - 1
    runs, start = [], first
    for low, high in sorted(used):
        runs.append((start, low - 1))
        start = max(start, high + 1)
    low, high = max([*runs, (start, last)], key=lambda run: run[1] - run[0])
    return (_text(low), _text(high)) if low <= high else None


def _dhcp(network: Mapping[str, str], bridge: Any) -> Iterator[tuple[int, int]]:
    if network.get("ipv4.dhcp", "true") == "false":
        return
    ranges = network.get("ipv4.dhcp.ranges")
    if not ranges:
        yield int(bridge.network.network_address), int(bridge.network.broadcast_address)
    for part in (ranges or "").split(","):
        low, _, high = part.strip().partition("-")
        if high:
            yield _number(low), _number(high)


def addresses_of(found: Json) -> Iterator[str]:
    """Yield the static addresses of a machine, ours or not."""
    config = found.get("expanded_config") or found["config"]
    yield from re.findall(r"ipv4\.address\s*=\s*([\d.]+)", config.get("raw.lxc", ""))
    for device in (found.get("expanded_devices") or found["devices"]).values():
        if _is_address(device.get("ipv4.address", "none")):
            yield device["ipv4.address"]


def within(addresses: Iterable[str], range_: Range) -> frozenset[str]:
    low, high = _number(range_[0]), _number(range_[1])
    return frozenset(one for one in addresses if _is_ipv4(one) and low <= _number(one) <= high)


def _is_address(text: str) -> bool:
    return text not in ("none", "auto", "")


def _is_ipv4(text: str) -> bool:
    return re.fullmatch(r"[\d.]+", text) is not None


def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


def _text(number: int) -> str:
    return str(ipaddress.IPv4Address(number))
