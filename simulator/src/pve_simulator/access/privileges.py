"""The privileges of a version, and the roles that every installation has.

Version 9 dropped VM.Monitor and brought VM.GuestAgent.* and VM.Replicate.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Group:
    """The privileges of one subject, by how much they allow."""

    root: str = ""
    admin: str = ""
    user: str = ""
    audit: str = ""


_VM_ADMIN = """VM.Config.Disk VM.Config.CPU VM.Config.Memory VM.Config.Network VM.Config.HWType
    VM.Config.Options VM.Allocate VM.Clone VM.Migrate VM.Snapshot VM.Snapshot.Rollback"""
_VM_USER = "VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.Backup VM.PowerMgmt"

_VM = {
    8: Group(admin=f"{_VM_ADMIN} VM.Monitor", user=_VM_USER, audit="VM.Audit"),
    9: Group(
        admin=f"{_VM_ADMIN} VM.GuestAgent.Unrestricted VM.Replicate",
        user=f"{_VM_USER} VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt"
        " VM.GuestAgent.FileWrite",
        audit="VM.Audit VM.GuestAgent.Audit",
    ),
}

_OTHERS = {
    "Sys": Group(
        root="Sys.PowerMgmt Sys.Modify Sys.Incoming Sys.AccessNetwork",
        admin="Sys.Console Sys.Syslog",
        audit="Sys.Audit",
    ),
    "Datastore": Group(
        admin="Datastore.Allocate Datastore.AllocateTemplate",
        user="Datastore.AllocateSpace",
        audit="Datastore.Audit",
    ),
    "SDN": Group(admin="SDN.Allocate SDN.Audit", user="SDN.Use", audit="SDN.Audit"),
    "User": Group(root="Realm.Allocate", admin="User.Modify Group.Allocate Realm.AllocateUser"),
    "Pool": Group(admin="Pool.Allocate", user="Pool.Audit", audit="Pool.Audit"),
    "Mapping": Group(admin="Mapping.Modify", user="Mapping.Use", audit="Mapping.Audit"),
}


@cache
def all_privileges(major: int) -> frozenset[str]:
    return special_roles(major)["Administrator"]


@cache
def special_roles(major: int) -> dict[str, frozenset[str]]:
    """The roles that nobody can change, with their privileges."""
    everything, pve_admin, auditor = {"Permissions.Modify"}, set[str](), set[str]()
    roles: dict[str, frozenset[str]] = {"NoAccess": frozenset()}
    for name, group in {"VM": _VM[8 if major < 9 else 9], **_OTHERS}.items():
        root, admin = group.root.split(), group.admin.split()
        user, audit = group.user.split(), group.audit.split()
        everything |= {*root, *admin, *user, *audit}
        pve_admin |= {*admin, *user, *audit}
        auditor |= {*audit}
        roles[f"PVE{name}Admin"] = frozenset([*admin, *user, *audit])
        if user:
            roles[f"PVE{name}User"] = frozenset([*user, *audit])
    roles["PVEAdmin"] = frozenset(pve_admin - {"Mapping.Modify"})
    roles["PVEAuditor"] = frozenset(auditor)
    roles["PVETemplateUser"] = frozenset({"VM.Clone", "VM.Audit"})
    roles["Administrator"] = frozenset(everything)
    return roles
