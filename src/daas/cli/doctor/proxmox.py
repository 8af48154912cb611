"""Proxmox VE: is there all that desktops need, and may we use it? `Cluster` says how it is asked;
each check stands alone, and the first ones decide whether the others can be asked at all."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import time
from typing import Any
from urllib.parse import urlsplit

from daas.cli.doctor import privileges
from daas.cli.doctor.finding import Finding, fail, ok, warn
from daas.errors import DaasError, NotYet, Refused

Ask = Callable[..., Any]  # a GET of the API: path, then parameters
Row = dict[str, Any]
CLOCK_S = 30.0
FULL_WARN, FULL_FAIL = 0.85, 0.97
BUILDS_SINCE = (8, 4)  # files of content type `import` by the API
OLDEST = (8, 0)


@dataclass(frozen=True)
class Wants:
    """What this installation's settings say."""

    token_id: str
    instance: str
    nodes: tuple[str, ...] = ()
    storage: str = ""
    bridge: str = "vmbr0"
    vlan: int | None = None
    pool: str = ""
    numbers: tuple[int, int] = (20000, 29999)
    is_insecure: bool = False
    is_full_clone: bool = False
    max_sessions: int = 10


@dataclass(frozen=True)
class Cluster:
    """`doors`: how each URL of PROXMOX_URL is asked. `why_no_storage` tells why a storage cannot
    hold templates ("" where it can), `choose_storage` which one is taken."""

    doors: Mapping[str, Ask]
    why_no_storage: Callable[[Row, bool], str]
    choose_storage: Callable[[list[Row], str, bool], Mapping[str, Any] | None]
    fingerprint: Callable[[str], str] = field(default=lambda url: "")


def look(cluster: Cluster, wants: Wants) -> Iterator[Finding]:
    """All checks; where nothing can be asked, only those that say why."""
    reached, version = None, ""
    for finding, ask, said in _doors(cluster):
        yield finding
        if ask and not reached:
            reached, version = ask, said
    if wants.is_insecure:
        yield warn(
            "proxmox.tls",
            "The certificate of Proxmox's API is not verified (DAAS_PROXMOX_TLS_INSECURE): whoever "
            "stands in between can read the token.",
            "Copy /etc/pve/pve-root-ca.pem of a node here, name it in DAAS_PROXMOX_CA_FILE, and "
            "unset DAAS_PROXMOX_TLS_INSECURE.",
        )
    if reached:
        yield from _of_cluster(reached, cluster, wants, version)


def images(ask: Ask) -> dict[str, str]:
    """Return what desktops could be made of, by name, and what is wrong with each: "said: what to
    do"."""
    found: dict[str, str] = {}
    for row in ask("cluster/resources", type="vm"):
        name, number = str(row.get("name")), row.get("vmid")
        if not row.get("template"):
            found.setdefault(
                name, f"is a machine, not a template: On its node: qm template {number}"
            )
            continue
        config: Row = {}
        with suppress(DaasError, NotYet):  # its node is away
            config = dict(ask(f"nodes/{row['node']}/qemu/{number}/config"))
        is_off = config and not str(config.get("agent", "0")).startswith(("1", "enabled=1"))
        wrong = f"has its guest agent switched off: On its node: qm set {number} --agent 1"
        found[name] = wrong if is_off else ""
    return found


def _doors(cluster: Cluster) -> Iterator[tuple[Finding, Ask | None, str]]:
    """Yield what is found at each URL: how to ask there, and the version that answers."""
    findings = [(url, ask, *_door(url, ask, cluster)) for url, ask in cluster.doors.items()]
    has_one = any(said for _, _, _, said in findings)
    for url, ask, finding, said in findings:
        if finding.result == "fail" and has_one and "answers" in finding.message:
            away = f"{finding.message} The others of PROXMOX_URL do."
            finding = warn(finding.id, away, f"Is the node up? If it is gone, leave out {url}.")
        yield finding, ask if said else None, said


def _door(url: str, ask: Ask, cluster: Cluster) -> tuple[Finding, str]:
    host = urlsplit(url).netloc
    id_ = f"proxmox.api.{host}"
    try:
        version = str(ask("version")["version"])
    except NotYet as error:
        remedy = (
            "Write it as https://NODE:8006. Is the node up, and does `curl -k` from this machine "
            f"reach it: curl -k {url}/ ?"
        )
        return fail(id_, f"Nobody answers at {url} ({error.why}).", remedy), ""
    except Refused as error:
        text = str(error)
        if "certificate" in text:
            return fail(id_, text.partition(". ")[0] + ".", _trust(url, cluster)), ""
        if "token" in text:
            return fail("proxmox.token", text.partition(": ")[0] + ".", _new_token()), ""
        return fail(id_, f"{url} refuses: {text}", "Is this a Proxmox VE node?"), ""
    except (KeyError, TypeError, ValueError):
        said = f"{url} answers, but is no Proxmox VE."
        return fail(id_, said, "Write PROXMOX_URL as https://NODE:8006."), ""
    if _numbers(version) < OLDEST:
        remedy = "Upgrade the node: https://pve.proxmox.com/wiki/Upgrade_from_7_to_8"
        return fail(id_, f"{host} has Proxmox VE {version}; 8 or 9 is needed.", remedy), ""
    return ok(id_, f"{host} answers: Proxmox VE {version}."), version


def _trust(url: str, cluster: Cluster) -> str:
    host = urlsplit(url).hostname
    shown = cluster.fingerprint(url)
    compare = f" The one it shows has the SHA-256 fingerprint {shown}; `pvenode cert info` on the "
    return (
        f"scp root@{host}:/etc/pve/pve-root-ca.pem /etc/daas/ and set "
        "DAAS_PROXMOX_CA_FILE=/etc/daas/pve-root-ca.pem; and use a name or address in PROXMOX_URL "
        "that is in the certificate." + (f"{compare}node must say the same." if shown else "")
    )


def _new_token() -> str:
    return (
        "Make one on a node: pveum user token add daas@pve orchestrator --privsep 0; put its "
        "value into a file of mode 600 and name that in DAAS_PROXMOX_TOKEN_SECRET_FILE. Its id is "
        "USER@REALM!NAME."
    )


def _of_cluster(ask: Ask, cluster: Cluster, wants: Wants, version: str) -> Iterator[Finding]:
    nodes = _nodes(ask)
    online = [name for name, row in nodes.items() if row.get("status") == "online"]
    used = [one for one in wants.nodes or tuple(nodes) if one in online]
    rows = {node: _rows(ask, f"nodes/{node}/storage") for node in used}
    yield from _versions(version)
    yield from _privileges(ask, cluster, wants, version, used, rows)
    yield from _quorum(ask, wants, nodes)
    for node in used[:1]:
        yield from _clock(ask, node)
    yield from _storages(cluster, wants, rows)
    yield from _bridges(ask, wants, used)
    yield from _numbers_free(ask, wants)
    if wants.pool:
        yield _pool(ask, wants.pool)


def _versions(version: str) -> Iterator[Finding]:
    if _numbers(version) < BUILDS_SINCE:
        yield warn(
            "proxmox.version",
            f"Proxmox VE {version} takes no cloud images by its API; 8.4 does.",
            "Upgrade, or make a template by hand and name it: provider.proxmox.template",
        )


def _privileges(
    ask: Ask,
    cluster: Cluster,
    wants: Wants,
    version: str,
    nodes: list[str],
    rows: Mapping[str, list[Row]],
) -> Iterator[Finding]:
    node = nodes[0] if nodes else "NODE"
    chosen = cluster.choose_storage(rows.get(node, []), wants.storage, not wants.is_full_clone)
    imports = [one for one in rows.get(node, []) if "import" in _contents(one)]
    network = f"{wants.bridge}/{wants.vlan}" if wants.vlan else wants.bridge
    wanted = privileges.needs(
        _numbers(version)[0],
        wants.numbers[0],
        str(chosen["storage"]) if chosen else wants.storage,
        str(imports[0]["storage"]) if imports else "",
        node,
        network,
        wants.pool,
    )
    held = {path: _held(ask, path) for path in {need.path for need in wanted}}
    roles = {str(one.get("roleid")) for one in _rows(ask, "access/roles")}
    yield from privileges.check(wanted, held, wants.token_id, roles)


def _held(ask: Ask, path: str) -> set[str]:
    with suppress(DaasError, NotYet):
        return set(dict(ask("access/permissions", path=path)).get(path) or {})
    return set()


def _quorum(ask: Ask, wants: Wants, nodes: Mapping[str, Row]) -> Iterator[Finding]:
    id_ = "proxmox.nodes"
    unknown = [one for one in wants.nodes if one not in nodes]
    if unknown:
        said = f"There is no node {', '.join(unknown)} (DAAS_PROXMOX_NODES)."
        yield fail(id_, said, f"It has: {', '.join(sorted(nodes)) or 'none that we may see'}.")
    for row in _rows(ask, "cluster/status"):
        if row.get("type") == "cluster" and not row.get("quorate"):
            remedy = "Bring nodes back, or on one of them: pvecm expected 1 (read about it first)"
            yield fail("proxmox.quorum", "The cluster has no quorum: nothing can be made.", remedy)
    away = [one for one, row in nodes.items() if row.get("status") != "online"]
    if away:
        remedy = "Start it; its desktops show `unreachable` meanwhile. For planned work: daas node"
        yield warn(id_, f"{len(away)} of {len(nodes)} nodes are away: {', '.join(away)}.", remedy)
    elif not unknown:
        yield ok(id_, f"All nodes are online: {', '.join(sorted(nodes))}.")


def _clock(ask: Ask, node: str) -> Iterator[Finding]:
    before = time()
    with suppress(DaasError, NotYet, KeyError, TypeError):
        ahead_s = float(ask(f"nodes/{node}/time")["time"]) - (before + time()) / 2
        if abs(ahead_s) > CLOCK_S:
            way = "ahead of" if ahead_s > 0 else "behind"
            said = f"The clock of {node} is {abs(ahead_s):.0f} s {way} this machine's."
            yield warn("proxmox.clock", said, "Have both follow NTP: tokens and tickets expire.")
        else:
            yield ok("proxmox.clock", f"The clock of {node} agrees with this machine's.")


def _storages(cluster: Cluster, wants: Wants, rows: Mapping[str, list[Row]]) -> Iterator[Finding]:
    id_, needs_link = "proxmox.storage", not wants.is_full_clone
    for node, found in rows.items():
        chosen = cluster.choose_storage(found, wants.storage, needs_link)
        named = [one for one in found if wants.storage in ("", one["storage"])]
        if chosen is None:
            whys = [f"{one['storage']}: {cluster.why_no_storage(one, needs_link)}" for one in named]
            said = "; ".join(whys) or f"there is no {wants.storage or 'storage that we may see'}"
            remedy = (
                "Allow images where there is room: pvesm set STORAGE --content images,… ; name it "
                "in DAAS_PROXMOX_STORAGE; lvm (not thin) can do DAAS_PROXMOX_FULL_CLONE=true only."
            )
            yield fail(
                id_, f"{node} has no storage that desktops can be cloned on ({said}).", remedy
            )
            continue
        yield _room(node, chosen)
    if rows and not any("import" in _contents(one) for found in rows.values() for one in found):
        yield warn(
            "proxmox.storage.import",
            "No storage takes cloud images (content type import): templates cannot be built.",
            "On a node: pvesm set local --content iso,vztmpl,backup,import",
        )


def _room(node: str, storage: Mapping[str, Any]) -> Finding:
    total, left = int(storage.get("total") or 0), int(storage.get("avail") or 0)
    share = 1 - left / total if total else 0.0
    said = f"{storage['storage']} on {node} ({storage.get('type')}) is {share:.0%} full."
    remedy = (
        "Remove machines or volumes that nobody needs, or name another in DAAS_PROXMOX_STORAGE."
    )
    if share > FULL_FAIL:
        return fail("proxmox.storage", said, remedy)
    return (
        warn("proxmox.storage", said, remedy) if share > FULL_WARN else ok("proxmox.storage", said)
    )


def _bridges(ask: Ask, wants: Wants, nodes: list[str]) -> Iterator[Finding]:
    id_, without = "proxmox.bridge", []
    has: set[str] = set()
    for node in nodes:
        rows = _rows(ask, f"nodes/{node}/network", type="any_bridge")
        names = {str(one.get("iface")) for one in rows}
        has |= names
        if wants.bridge not in names:
            without.append(node)
    if without:
        remedy = f"Name one of {', '.join(sorted(has)) or 'the nodes'} in DAAS_PROXMOX_BRIDGE."
        if len(without) < len(nodes):
            remedy += f" Or keep desktops off {', '.join(without)}: DAAS_PROXMOX_NODES"
        yield fail(id_, f"{', '.join(without)} has no bridge {wants.bridge}.", remedy)
    elif nodes:
        yield ok(id_, f"The bridge {wants.bridge} is on every node.")


def _numbers_free(ask: Ask, wants: Wants) -> Iterator[Finding]:
    id_, (first, last) = "proxmox.vmids", wants.numbers
    size = last - first + 1
    mark = f"daas_{wants.instance}_"
    within = [
        row
        for row in _rows(ask, "cluster/resources", type="vm")
        if first <= int(row.get("vmid") or 0) <= last
    ]
    strangers = [row for row in within if mark not in str(row.get("tags") or "")]
    free = size - len(strangers)
    said = f"Of the {size} VMIDs {first}-{last}, {len(strangers)} are others'."
    remedy = "Choose a range that nobody else uses, and a larger one: DAAS_PROXMOX_VMIDS"
    if free <= 0:
        yield fail(id_, said, remedy)
    elif free < wants.max_sessions or len(strangers) > size / 2:
        yield warn(id_, said, remedy)
    else:
        yield ok(id_, said)


def _pool(ask: Ask, pool: str) -> Finding:
    id_ = "proxmox.pool"
    try:
        ask(f"pools/{pool}")
    except DaasError as error:
        remedy = f"On a node: pveum pool add {pool}; and let the token see it (Pool.Audit)."
        return fail(id_, f"The pool {pool} cannot be used: {error}", remedy)
    except NotYet as error:
        return fail(id_, f"No answer from {error.why}.", "Try again.")
    return ok(id_, f"The pool {pool} is there.")


def _nodes(ask: Ask) -> dict[str, Row]:
    return {str(row["node"]): row for row in _rows(ask, "nodes")}


def _rows(ask: Ask, path: str, **params: Any) -> list[Row]:
    """Return a list; nothing where we may not ask, which the check of privileges says."""
    with suppress(DaasError, NotYet):
        return list(ask(path, **params) or [])
    return []


def _contents(storage: Row) -> list[str]:
    return str(storage.get("content") or "").split(",")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.partition("-")[0].partition("~")[0].split(".")
    return tuple(int(part) for part in parts[:2] if part.isdigit()) or (0,)
