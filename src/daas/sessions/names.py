"""Names of people inside a desktop. Pure."""

import re

LOCAL_USER = r"^[a-z_][a-z0-9_-]{0,31}$"
SYSTEM = frozenset(
    [
        "root",
        "daemon",
        "bin",
        "sys",
        "sync",
        "games",
        "man",
        "lp",
        "mail",
        "news",
        "uucp",
        "proxy",
        "www-data",
        "backup",
        "list",
        "irc",
        "gnats",
        "nobody",
        "_apt",
        "messagebus",
        "sshd",
        "xrdp",
        "avahi",
        "polkitd",
        "dnsmasq",
        "rtkit",
        "colord",
        "pulse",
        "lightdm",
        "saned",
        "tss",
        "statd",
        "sssd",
        "ntp",
        "adm",
        "sudo",
        "shadow",
        "ssh-keys",
    ]
)
ANYBODY = "user"


def is_system(name: str) -> bool:
    """Is `name` an account that the guest has for itself?"""
    return name in SYSTEM or name.startswith("systemd-")


def local_user_of(owner: str) -> str:
    """The account that `owner` gets in a desktop where no directory names one: `PROTO\\Tom.D` and
    `Tom.D@proto.lan` are both `tom-d`. Always a valid name, never a system account's."""
    person = owner.rpartition("\\")[2].partition("@")[0]
    name = re.sub(r"[^a-z0-9_-]", "-", person.lower()).strip("-")
    if not name:
        return ANYBODY
    if not re.match(r"[a-z_]", name) or is_system(name):
        name = f"u-{name}"
    return name[:32]
