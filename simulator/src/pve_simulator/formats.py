"""The named formats of Proxmox VE's parameters: a function that complains, or a property string.

`check` raises `BadFormat` with the text Proxmox VE has for it, newline included. A format that
nobody here asks for (of firewall, SDN, ACME, ...) is not known and passes.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any


class BadFormat(Exception):
    """The value is not of that format; the text says what is wrong."""


Check = Callable[[str], None]


def split_list(text: str) -> list[str]:
    """The entries of a list as users write them: separated by comma, semicolon, space or NUL."""
    if "\0" in text:
        return [part for part in text.split("\0") if part]
    return re.sub(r"[,;]", " ", text).split()


def parse_boolean(text: str) -> int | None:
    if re.fullmatch(r"1|on|yes|true", text, re.IGNORECASE):
        return 1
    if re.fullmatch(r"0|off|no|false", text, re.IGNORECASE):
        return 0
    return None


def _matches(pattern: str, text: str, flags: int = 0) -> Check:
    compiled = re.compile(rf"^(?:{pattern})$", flags | re.ASCII)

    def check(value: str) -> None:
        if not compiled.search(value):
            raise BadFormat(text.replace("{}", value) + "\n")

    return check


def _address(kinds: tuple[type, ...], text: str) -> Check:
    def check(value: str) -> None:
        for kind in kinds:
            try:
                kind(value)
                return
            except ValueError:
                continue
        raise BadFormat(text + "\n")

    return check


def _cidr(is_v4: bool, is_v6: bool, text: str, words: str = "") -> Check:
    def check(value: str) -> None:
        address, slash, bits = value.partition("/")
        if words and re.fullmatch(words, value):
            return
        limits = [(32, ipaddress.IPv4Address)] if is_v4 else []
        limits += [(128, ipaddress.IPv6Address)] if is_v6 else []  # type: ignore[list-item]
        for most, kind in limits:
            try:
                kind(address)
            except ValueError:
                continue
            if slash and bits.isdecimal() and 7 < int(bits) <= most:
                return
        raise BadFormat(text + "\n")

    return check


def _any_of(checks: list[Check], text: str) -> Check:
    def check(value: str) -> None:
        for one in checks:
            try:
                one(value)
                return
            except BadFormat:
                continue
        raise BadFormat(text.replace("{}", value) + "\n")

    return check


def check_user(value: str) -> None:
    if len(value) < 3:
        raise BadFormat(f"user name '{value}' is too short\n")
    if len(value) > 64:
        raise BadFormat(f"user name '{value}' is too long ({len(value)} > 64)\n")
    if not re.search(r"^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$", value):
        raise BadFormat(f"value '{value}' does not look like a valid user name\n")


def _check_pool(value: str) -> None:
    # Perl's split drops empty fields at the end.
    if len(value.rstrip("/").split("/")) > 3:
        raise BadFormat(f"pool name '{value}' nested too deeply (max levels = 3)\n")
    _matches(
        r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}",
        "pool name '{}' contains invalid characters",
    )(value)


def _check_startup(value: str) -> None:
    parts = [part for part in value.split(",") if part.strip()]
    known = r"^(?:(?:order=)?\d+|up=\d+|down=\d+)$"
    if value in ("", "0") or not all(re.search(known, part) for part in parts):
        raise BadFormat("unable to parse startup options\n")


def _check_cpuset(value: str) -> None:
    if not value or not all(re.search(r"^\d+(-\d+)?$", part) for part in value.split(",")):
        raise BadFormat("unable to parse cpuset option\n")


def _check_hotplug(value: str) -> None:
    if value in ("0", "1"):
        return
    for feature in split_list(value):
        if not re.search(r"^(network|disk|cpu|memory|usb|cloudinit)$", feature):
            raise BadFormat(f"invalid hotplug feature '{feature}'\n")


def _check_phys_bits(value: str) -> None:
    if value != "host" and not (re.search(r"^\d{1,2}$", value) and 8 <= int(value) <= 64):
        raise BadFormat("value must be an integer between 8 and 64 or 'host'\n")


def _is_numbered(value: str, names: dict[str, int]) -> bool:
    found = re.search(r"^([a-z]+)(0|[1-9]\d*)$", value)
    return bool(found and int(found[2]) < names.get(found[1], 0))


_DISKS = {"ide": 4, "sata": 6, "scsi": 31, "virtio": 16}
_BOOTABLE = _DISKS | {"net": 32, "usb": 14, "hostpci": 16}


def _check_bootdev(value: str) -> None:
    if not _is_numbered(value, _BOOTABLE):
        raise BadFormat(f"invalid boot device '{value}'\n")


def _check_bootdisk(value: str) -> None:
    if not _is_numbered(value, _DISKS | {"efidisk": 1, "tpmstate": 1}):
        raise BadFormat(f"invalid boot disk '{value}'\n")


def _check_pair(what: str) -> Check:
    def check(value: str) -> None:
        for part in [] if value == "1" else value.split(":", 1):
            try:
                CHECKS[what](part)
            except BadFormat as error:
                raise BadFormat(f"entry '{value}' contains invalid ID - {error}\n\n") from None

    return check


_volume_id = _matches(
    r"([a-z][a-z0-9\-_.]*[a-z0-9]):(.+)", "unable to parse volume ID '{}'", re.IGNORECASE
)
_dns_name = _matches(
    r"([a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?",
    "value does not look like a valid DNS name",
)
_ip = _address(
    (ipaddress.IPv4Address, ipaddress.IPv6Address), "value does not look like a valid IP address"
)
_storage_id = _matches(
    r"[a-z][a-z0-9\-_.]*[a-z0-9]", "storage ID '{}' contains illegal characters", re.IGNORECASE
)
_MAILBOX = r"[\w+\-~]+(\.[\w+\-~]+)*"
_EMAIL = rf"{_MAILBOX}@[a-zA-Z0-9\-]+(\.[a-zA-Z0-9\-]+)*"
_CONTENT = r"images|rootdir|vztmpl|iso|backup|snippets|none|import"
_absolute = _matches(r"/.*", "", re.DOTALL)

CHECKS: dict[str, Check] = {
    "string": lambda value: None,
    "urlencoded": _matches(r"[-%a-zA-Z0-9_.!~*'()]*", "invalid urlencoded string: {}"),
    "pve-configid": _matches(r"[a-z][a-z0-9_-]+", "invalid configuration ID '{}'", re.IGNORECASE),
    "pve-storage-id": _storage_id,
    "pve-bridge-id": _matches(r"[-_.\w\d]+", "invalid bridge ID '{}'"),
    "pve-vmid": _matches(r"[1-9][0-9]{2,8}", "value does not look like a valid VM ID"),
    "pve-node": _matches(
        r"[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?", "value does not look like a valid node name"
    ),
    "mac-addr": _matches(
        r"[a-f0-9][02468ace](?::[a-f0-9]{2}){5}",
        "value does not look like a valid unicast MAC address",
        re.IGNORECASE,
    ),
    "ipv4": _address((ipaddress.IPv4Address,), "value does not look like a valid IPv4 address"),
    "ipv6": _address((ipaddress.IPv6Address,), "value does not look like a valid IPv6 address"),
    "ip": _ip,
    "CIDR": _cidr(True, True, "value does not look like a valid CIDR network"),
    "CIDRv4": _cidr(True, False, "value does not look like a valid IPv4 CIDR network"),
    "CIDRv6": _cidr(False, True, "value does not look like a valid IPv6 CIDR network"),
    "pve-ipv4-config": _cidr(
        True, False, "value does not look like a valid ipv4 network configuration", "dhcp|manual"
    ),
    "pve-ipv6-config": _cidr(
        False,
        True,
        "value does not look like a valid ipv6 network configuration",
        "auto|dhcp|manual",
    ),
    "email": _matches(_EMAIL, "value does not look like a valid email address"),
    "email-or-username": _matches(
        rf"{_EMAIL}|{_MAILBOX}", "value does not look like a valid email address or user name"
    ),
    "dns-name": _dns_name,
    "address": _any_of([_ip, _dns_name], "value does not look like a valid address: {}"),
    "pve-iface": _matches(
        r"[a-z][a-z0-9_]{1,20}([:.]\d+)?", "invalid network interface name '{}'", re.IGNORECASE
    ),
    "disk-size": _matches(
        r"(\d+(\.\d+)?)([KMGT](?:iB)?)?", "value does not look like a valid disk size: {}"
    ),
    "pve-startup-order": _check_startup,
    "pve-tag": _matches(r"[a-z0-9_][a-z0-9_\-+.]*", "invalid characters in tag", re.IGNORECASE),
    "pve-task-status-type": _matches(
        r"ok|error|warning|unknown", "invalid status '{}'", re.IGNORECASE
    ),
    "storage-pair": _check_pair("pve-storage-id"),
    "bridge-pair": _check_pair("pve-bridge-id"),
    "pve-userid": check_user,
    "pve-realm": _matches(r"[A-Za-z][A-Za-z0-9.\-_]+", "value does not look like a valid realm"),
    "pve-tokenid": _matches(
        r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+",
        "value '{}' does not look like a valid token ID",
    ),
    "pve-groupid": _matches(r"[A-Za-z0-9.\-_]+", "group name '{}' contains invalid characters"),
    "pve-roleid": _matches(r"[A-Za-z0-9.\-_]+", "role name '{}' contains invalid characters"),
    "pve-poolid": _check_pool,
    "pve-cpuset": _check_cpuset,
    "pve-hotplug-features": _check_hotplug,
    "pve-phys-bits": _check_phys_bits,
    "pve-qm-bootdev": _check_bootdev,
    "pve-qm-bootdisk": _check_bootdisk,
    "pve-volume-id": _volume_id,
    "pve-volume-id-or-absolute-path": _any_of(
        [_absolute, _volume_id], "unable to parse volume ID '{}'"
    ),
    "pve-volume-id-or-qm-path": _any_of(
        [_matches("none|cdrom", ""), _absolute, _volume_id], "unable to parse volume ID '{}'"
    ),
    "pve-storage-path": _matches(
        r"/[^;()]+.*", "value does not look like a valid absolute path", re.DOTALL
    ),
    "pve-storage-server": _any_of(
        [_ip, _dns_name], "value does not look like a valid server name or IP address"
    ),
    "pve-storage-vgname": _matches(
        r"[a-z0-9][a-z0-9\-_.]*[a-z0-9]",
        "lvm name '{}' contains illegal characters",
        re.IGNORECASE,
    ),
    "pve-storage-content": _matches(_CONTENT, "invalid content type '{}'"),
    "pve-storage-format": _matches(r"raw|qcow2|vmdk|subvol", "invalid format '{}'"),
    "pve-storage-options": _matches(r"\S+", "invalid options '{}'"),
    "pve-ha-resource-id": _matches(
        r"[a-z]+:\S+", "value does not look like a valid ha resource id"
    ),
    "pve-ha-resource-or-vm-id": _matches(
        r"[a-z]+:\S+|\d+", "value does not look like a valid ha resource id"
    ),
}


def _text(**rules: Any) -> dict[str, Any]:
    return {"type": "string", "optional": 1, **rules}


def _number(**rules: Any) -> dict[str, Any]:
    return {"type": "integer", "optional": 1, **rules}


_FLAG = {"type": "boolean", "optional": 1}
_PCI_ID = _text(pattern="^0x[0-9a-fA-F]{4}$")
_BASE64 = _text(pattern="[A-Za-z0-9+/]+={0,2}")
_VOLUME = _text(format="pve-volume-id")
_PCI = r"(?:[a-f0-9]{4,}:)?[a-f0-9]{2}:[a-f0-9]{2}(?:\.[a-f0-9])?"
_CPU_FLAG = r"([+-])([a-zA-Z0-9\-_\.]+)"

# Property strings that the schema only names; the others it spells out.
PROPERTIES: dict[str, dict[str, dict[str, Any]]] = {
    "pve-vm-cpu-conf": {
        "cputype": _text(default_key=1),
        "reported-model": _text(),
        "hidden": _FLAG,
        "hv-vendor-id": _text(pattern="[a-zA-Z0-9]{1,12}"),
        "flags": _text(pattern=f"{_CPU_FLAG}(;{_CPU_FLAG})*"),
        "phys-bits": _text(format="pve-phys-bits"),
    },
    "pve-qemu-sev-fmt": {
        "type": {"type": "string", "default_key": 1, "enum": ["std", "es", "snp"], "maxLength": 3},
        **{name: _FLAG for name in ("no-debug", "no-key-sharing", "allow-smt", "kernel-hashes")},
    },
    "pve-qm-hostpci": {
        "host": _text(
            default_key=1,
            pattern=rf"{_PCI}(;{_PCI})*",
        ),
        "mapping": _text(format="pve-configid"),
        "romfile": _text(pattern="[^,;]+"),
        "mdev": _text(pattern=r"[^/\.:]+"),
        **{name: _FLAG for name in ("rombar", "pcie", "x-vga", "legacy-igd")},
        **{name: _PCI_ID for name in ("vendor-id", "device-id", "sub-vendor-id", "sub-device-id")},
    },
    "pve-qm-rng": {
        "source": {
            "type": "string",
            "default_key": 1,
            "enum": ["/dev/urandom", "/dev/random", "/dev/hwrng"],
        },
        "max_bytes": _number(),
        "period": _number(),
    },
    "pve-qm-watchdog": {
        "model": _text(default_key=1, enum=["i6300esb", "ib700"]),
        "action": _text(enum=["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
    },
    "pve-qm-cicustom": {name: _VOLUME for name in ("meta", "network", "user", "vendor")},
    "pve-qm-ipconfig": {
        "ip": _text(format="pve-ipv4-config"),
        "gw": _text(format="ipv4", requires="ip"),
        "ip6": _text(format="pve-ipv6-config"),
        "gw6": _text(format="ipv6", requires="ip6"),
    },
    "pve-qm-boot": {
        "legacy": _text(default_key=1, pattern="[acdn]{1,4}"),
        "order": _text(format="pve-qm-bootdev-list"),
    },
    "pve-qm-smbios1": {
        "uuid": _text(pattern="[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}"),
        "base64": _FLAG,
        **{
            name: _BASE64
            for name in ("version", "serial", "manufacturer", "product", "sku", "family")
        },
    },
    "prune-backups": {
        "keep-all": _FLAG,
        **{
            f"keep-{name}": _number()
            for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
        },
    },
}

_CPU_MODELS = """
    486 pentium pentium2 pentium3 coreduo core2duo Conroe Penryn Nehalem Nehalem-IBRS Westmere
    Westmere-IBRS SandyBridge SandyBridge-IBRS IvyBridge IvyBridge-IBRS Haswell Haswell-IBRS
    Haswell-noTSX Haswell-noTSX-IBRS Broadwell Broadwell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS
    Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Client-v4 Skylake-Server
    Skylake-Server-IBRS Skylake-Server-noTSX-IBRS Skylake-Server-v4 Skylake-Server-v5
    Cascadelake-Server Cascadelake-Server-v2 Cascadelake-Server-noTSX Cascadelake-Server-v4
    Cascadelake-Server-v5 Cooperlake Cooperlake-v2 KnightsMill Icelake-Client Icelake-Client-noTSX
    Icelake-Server Icelake-Server-noTSX Icelake-Server-v3 Icelake-Server-v4 Icelake-Server-v5
    Icelake-Server-v6 SapphireRapids SapphireRapids-v2 GraniteRapids athlon phenom Opteron_G1
    Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 EPYC EPYC-IBPB EPYC-v3 EPYC-v4 EPYC-Rome
    EPYC-Rome-v2 EPYC-Rome-v3 EPYC-Rome-v4 EPYC-Milan EPYC-Milan-v2 EPYC-Genoa host kvm32 kvm64
    qemu32 qemu64 max x86-64-v2 x86-64-v2-AES x86-64-v3 x86-64-v4"""
_CPU_FLAGS = """pcid spec-ctrl ibpb ssbd virt-ssbd amd-ssbd amd-no-ssb pdpe1gb md-clear
    hv-tlbflush hv-evmcs aes"""


def _check_cpu(parsed: dict[str, str]) -> None:
    model = parsed.get("cputype", "")
    if not model:
        raise BadFormat("CPU is missing cputype\n")
    if model not in _CPU_MODELS.split() and not model.startswith("custom-"):
        raise BadFormat(f"Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)\n")
    allowed = _CPU_FLAGS.split()
    flags = parsed.get("flags", "")
    if flags and any(flag[1:] not in allowed for flag in flags.split(";")):
        raise BadFormat(f"VM-specific CPU flags must be a subset of: {', '.join(allowed)}\n")
    if "reported-model" in parsed:
        raise BadFormat("Property 'reported-model' not allowed in VM-specific CPU config.\n")


# What a whole property string must fulfil, beyond each of its keys.
VALIDATORS: dict[str, Callable[[dict[str, str]], None]] = {"pve-vm-cpu-conf": _check_cpu}
