"""Which rule a method has in a version: the schema is of version 8.4, these are 9's changes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pve_simulator import schema

Rule = Mapping[str, Any]

_AGENT = "/nodes/{node}/qemu/{vmid}/agent"
_AUDIT = """ping get-time info network-get-interfaces get-vcpus get-fsinfo get-memory-blocks
    get-memory-block-info get-host-name get-osinfo get-users get-timezone"""
_FILE_SYSTEMS = ["fsfreeze-freeze", "fsfreeze-thaw", "fstrim"]


def _any_of(*privileges: str) -> Rule:
    return {"check": ["perm", "/vms/{vmid}", list(privileges), "any", 1]}


@cache
def _of_version_9() -> dict[str, Rule]:
    unrestricted = "VM.GuestAgent.Unrestricted"
    audit = _any_of("VM.GuestAgent.Audit", unrestricted)
    file_systems = _any_of("VM.GuestAgent.FileSystemMgmt", unrestricted)
    return {
        **{f"{_AGENT}/{name}": audit for name in _AUDIT.split()},
        **{f"{_AGENT}/{name}": file_systems for name in _FILE_SYSTEMS},
        f"{_AGENT}/fsfreeze-status": _any_of(
            "VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt", unrestricted
        ),
        f"{_AGENT}/file-read": _any_of("VM.GuestAgent.FileRead", unrestricted),
        f"{_AGENT}/file-write": _any_of("VM.GuestAgent.FileWrite", unrestricted),
        **{
            f"{_AGENT}{name}": _any_of(unrestricted)
            for name in ("", "/exec", "/exec-status", "/set-user-password")
        },
        "/nodes/{node}/qemu/{vmid}/monitor": _any_of("Sys.Audit", "Sys.Modify"),
    }


def rule_of(method: str, template: str, major: int) -> Rule | None:
    """The permissions entry of a method: None means root@pam alone."""
    known = schema.find(method, template)
    if major >= 9 and (method, template) != ("GET", _AGENT):
        changed = _of_version_9().get(template)
        if changed is not None:
            return changed
    return known.check if known else {"user": "all"}
