"""The four errors of version 1.0's troubleshooting chapter. Three of them show in what sessions
and builds said; the first also in the PATH of the service."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daas.cli.doctor.finding import Finding, fail, ok

UNIT = "orchestrator-daas.service"
NO_TERRAFORM = re.compile(
    r"No such file or directory: '?terraform|terraform \(not found|terraform: (command )?not found"
)
NO_HOST = re.compile(r"ansible_host'? (is )?(not defined|undefined)", re.I)
NO_JOIN = re.compile(
    r"realm join failed|realm: Couldn'?t join|realm: No such realm|Failed to join the domain", re.I
)
NO_MOUNT = re.compile(
    r"pam_mount.*mount failed|pam_mount.*mount of .* failed|mount error\(\d+\)", re.I
)
PATH_LINE = re.compile(r'^\s*Environment=(?:"|\')?(?:[^"\'\n]*\s)?PATH=([^"\'\s]+)', re.M)


@dataclass(frozen=True)
class Trace:
    """Something that a session, a build or a log line said."""

    subject: str  # "session/desktop-k3x9qa"
    text: str


def look(
    traces: Sequence[Trace],
    path: str,
    needs_terraform: bool,
    which: Callable[[str, str], str | None],
) -> list[Finding]:
    return [
        terraform(traces, path, needs_terraform, which),
        ansible_host(traces),
        realm_join(traces),
        pam_mount(traces),
    ]


def terraform(
    traces: Sequence[Trace],
    path: str,
    is_needed: bool,
    which: Callable[[str, str], str | None],
) -> Finding:
    """`FileNotFoundError: 'terraform'`: it is not on the PATH of the service."""
    id_, where = "v1.terraform", which("terraform", path)
    if where and is_needed:
        return ok(id_, f"terraform is at {where}.")
    if is_needed or (_said(traces, NO_TERRAFORM) and not where):
        remedy = (
            f"Install terraform, then add its folder to Environment=PATH= of {UNIT}: systemctl "
            f"edit {UNIT}; systemctl daemon-reload; systemctl restart {UNIT}"
        )
        return fail(id_, f"terraform is not on the service's PATH ({path}).", remedy)
    return ok(id_, "terraform is not needed: no session is made through it.")


def ansible_host(traces: Sequence[Trace]) -> Finding:
    """`ansible_host not defined`: the machine had no address when Ansible began."""
    if not (where := _said(traces, NO_HOST)):
        return ok("v1.ansible_host", "No machine lacked its address when Ansible began.")
    said = f"Ansible began before the machine had an address ({where})."
    remedy = (
        "Try again in 30 s, when DHCP and cloud-init are through; if it stays so: does the bridge "
        "give out addresses (daas doctor: lxd.bridge), is qemu-guest-agent in the template?"
    )
    return fail("v1.ansible_host", said, remedy)


def realm_join(traces: Sequence[Trace]) -> Finding:
    """`realm join failed`: as a rule the desktop's DNS does not know the domain."""
    if not (where := _said(traces, NO_JOIN)):
        return ok("v1.realm_join", "No desktop failed to join its domain.")
    said = f"A desktop could not join its domain ({where})."
    remedy = (
        "Its DNS must be the domain controller: look inside with `resolvectl query _ldap._tcp."
        "YOUR.DOMAIN`, set DNS= in /etc/systemd/resolved.conf of the template; then check the "
        "joining account's password and the clock (5 min at most)."
    )
    return fail("v1.realm_join", said, remedy)


def pam_mount(traces: Sequence[Trace]) -> Finding:
    """`pam_mount: mount failed`: wrong credentials, or the share is not reachable."""
    if not (where := _said(traces, NO_MOUNT)):
        return ok("v1.pam_mount", "No share failed to mount.")
    said = f"A share could not be mounted ({where})."
    remedy = (
        "Try it by hand in the desktop: mount -t cifs //SERVER/SHARE /mnt -o username=YOU,"
        "domain=DOMAIN; error 13: the password or the rights, 2: the share's name, 113 or 115: "
        "the network to the file server (port 445)."
    )
    return fail("v1.pam_mount", said, remedy)


def path_of_unit(text: str) -> str | None:
    """PATH as a unit file sets it; the last line counts."""
    found = PATH_LINE.findall(text)
    return str(found[-1]) if found else None


def _said(traces: Sequence[Trace], pattern: re.Pattern[str]) -> str:
    """Who said it last; empty if nobody did."""
    return next((t.subject for t in reversed(traces) if pattern.search(t.text)), "")
