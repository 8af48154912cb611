"""LXD: its socket, the storage pool, the bridge. `ask` is a GET of its API."""

from collections.abc import Callable
from typing import Any

from daas.cli.doctor.finding import Finding, fail, ok, warn
from daas.errors import NotYet, Refused

Ask = Callable[[str], Any]
COPY_ON_WRITE = ("btrfs", "zfs", "ceph", "lvm")
POOL_WARN, POOL_FAIL = 0.85, 0.97
UP = "Run deploy/lxd-up; it makes what is missing and changes nothing else."


def look(ask: Ask, pool: str, bridge: str) -> list[Finding]:
    """All checks; only the first one if nobody answers at the socket."""
    first = socket(ask)
    if first.result == "fail":
        return [first]
    return [first, storage_pool(ask, pool), network_bridge(ask, bridge)]


def socket(ask: Ask) -> Finding:
    try:
        about = ask("/1.0")
    except NotYet as error:
        return fail("lxd.socket", f"No answer from {error.why}.", UP)
    except Refused as error:
        return fail("lxd.socket", str(error), "Run as root or as a member of LXD's group.")
    if about.get("auth", "trusted") != "trusted":
        remedy = "Run as root, or add this user to LXD's group and log in again."
        return fail("lxd.socket", "LXD answers, but does not trust this user.", remedy)
    name = about.get("environment", {}).get("server_version", "")
    return ok("lxd.socket", f"LXD {name} answers.".replace("  ", " "))


def storage_pool(ask: Ask, pool: str) -> Finding:
    id_ = "lxd.pool"
    try:
        found = ask(f"/1.0/storage-pools/{pool}")
        space = ask(f"/1.0/storage-pools/{pool}/resources").get("space", {})
    except Refused:
        return fail(id_, f"There is no storage pool {pool}.", UP)
    except NotYet as error:
        return fail(id_, f"No answer from {error.why}.", UP)
    if found["driver"] not in COPY_ON_WRITE:
        remedy = f"Make one on btrfs or ZFS and name it in DAAS_LXD_POOL (now {pool})."
        said = f"The pool {pool} is of kind {found['driver']}: each desktop would be a full copy."
        return warn(id_, said, remedy)
    used, total = space.get("used", 0), space.get("total", 0)
    share = used / total if total else 0.0
    said = f"The pool {pool} ({found['driver']}) is {share:.0%} full."
    remedy = f"Delete desktops or old templates, or: lxc storage set {pool} size=…GiB"
    if share > POOL_FAIL:
        return fail(id_, said, remedy)
    return warn(id_, said, remedy) if share > POOL_WARN else ok(id_, said)


def network_bridge(ask: Ask, bridge: str) -> Finding:
    id_ = "lxd.bridge"
    try:
        found = ask(f"/1.0/networks/{bridge}")
    except Refused:
        return fail(id_, f"There is no bridge {bridge}.", UP)
    except NotYet as error:
        return fail(id_, f"No answer from {error.why}.", UP)
    address = (found.get("config") or {}).get("ipv4.address", "none")
    if found.get("managed") and address == "none":
        remedy = f"lxc network set {bridge} ipv4.address=10.88.0.1/24"
        return fail(id_, f"The bridge {bridge} has no IPv4 address.", remedy)
    if found.get("managed") and found.get("status", "Created") != "Created":
        return fail(id_, f"The bridge {bridge} is {found['status']}.", UP)
    return ok(id_, f"The bridge {bridge} is there ({address}).")
