"""What an API token must be allowed to do, for this version of Proxmox VE, and the commands that
allow it. The one place that says so; docs/howto/connect-proxmox.md is checked against it."""

from collections.abc import Mapping
from dataclasses import dataclass

from daas.cli.doctor.finding import Finding, fail, ok, warn

ROLE = "DaaS"
# Of desktops: clone, set up, power, snapshot, and their removal.
MACHINES = (
    "VM.Allocate",
    "VM.Audit",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
)
# Commands and files in the guest: what makes a desktop its owner's.
AGENT = {8: ("VM.Monitor",), 9: ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted")}
STORAGE = ("Datastore.AllocateSpace", "Datastore.Audit")
NODES = ("Sys.Audit",)
NETWORK = ("SDN.Use",)
POOL = ("Pool.Allocate", "Pool.Audit")
# Template builds: to bring a cloud image, and to take away what a build brought.
BUILDS = ("Datastore.Allocate", "Datastore.AllocateTemplate", "Sys.AccessNetwork")


@dataclass(frozen=True)
class Need:
    """Privileges on one path of Proxmox's tree."""

    path: str
    privileges: tuple[str, ...]
    is_for_builds: bool = False


def agent(major: int) -> tuple[str, ...]:
    return AGENT[9] if major >= 9 else AGENT[8]


def role(major: int, has_pool: bool = False) -> list[str]:
    """Return all that one role for everything holds."""
    pool = POOL if has_pool else ()
    return sorted({*MACHINES, *agent(major), *STORAGE, *NODES, *NETWORK, *pool, *BUILDS})


def needs(
    major: int, number: int, storage: str, imports: str, node: str, network: str, pool: str
) -> list[Need]:
    """Return what must hold where. With a pool its members' rights come from there."""
    machines = f"/pool/{pool}" if pool else f"/vms/{number}"
    found = [
        Need(machines, (*MACHINES, *agent(major), *(POOL if pool else ()))),
        Need("/", NODES),
        Need(f"/nodes/{node}", NODES),
        Need(f"/sdn/zones/localnetwork/{network}", NETWORK),
    ]
    if storage:
        found.append(Need(f"/storage/{storage}", STORAGE))
    if imports:
        allowed = tuple(one for one in BUILDS if one.startswith("Datastore."))
        found.append(Need(f"/storage/{imports}", allowed, is_for_builds=True))
    found.append(Need(f"/nodes/{node}", ("Sys.AccessNetwork",), is_for_builds=True))
    return found


def check(
    wanted: list[Need], held: Mapping[str, set[str]], token_id: str, roles: set[str]
) -> list[Finding]:
    """`held` says what the token may do on each path."""
    found = []
    for id_, for_builds, what in (
        ("proxmox.privileges", False, "what desktops need"),
        ("proxmox.privileges.builds", True, "what template builds need"),
    ):
        missing = {
            need: [one for one in need.privileges if one not in held.get(need.path, set())]
            for need in wanted
            if need.is_for_builds == for_builds
        }
        lacks = [f"{', '.join(names)} on {need.path}" for need, names in missing.items() if names]
        if not lacks:
            found.append(ok(id_, f"The token may do {what}."))
            continue
        names = sorted({name for names in missing.values() for name in names})
        say = warn if for_builds else fail
        said = f"The token {token_id} lacks {'; '.join(lacks)}."
        found.append(say(id_, said, commands(names, token_id, ROLE in roles)))
    return found


def commands(names: list[str], token_id: str, has_role: bool) -> str:
    """Return what gives these privileges. To the user and the token: one whose privileges are
    separated has only what both of them have."""
    verb = f"modify {ROLE} --append 1" if has_role else f"add {ROLE}"
    user = token_id.partition("!")[0]
    return (
        f"On a node: pveum role {verb} --privs '{' '.join(names)}' && "
        f"pveum acl modify / --roles {ROLE} --users {user} --tokens '{token_id}'"
    )
