"""What the machine that an image is baked in is told at its first boot: a CD for cloud-init. Ours,
not Proxmox's own drive: only so can it bring a host key that we know, and the guest agent, without
which nobody would learn what address DHCP gave it."""

import io
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import Any

import pycdlib
import yaml

LABEL = "cidata"  # cloud-init looks for it
# cloud-init's name of a file, and the one that plain ISO 9660 allows.
FILES = {"user-data": "/USERDATA.;1", "meta-data": "/METADATA.;1", "network-config": "/NETWORK.;1"}


@dataclass(frozen=True)
class Seed:
    """`address` and `gateway` (with its prefix) where DHCP is not to give one."""

    name: str
    mac: str
    login_key: str  # who may log in as root
    host_key: bytes = field(repr=False)
    host_public_key: str
    address: str | None = None
    gateway: str | None = None
    resolvers: tuple[str, ...] = ()
    mirror: str | None = None

    def iso(self) -> bytes:
        """Return the CD."""
        made, out = pycdlib.PyCdlib(), io.BytesIO()
        made.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
        for name, content in self.files().items():
            made.add_fp(
                io.BytesIO(content),
                len(content),
                FILES[name],
                rr_name=name,
                joliet_path=f"/{name}",
            )
        made.write_fp(out)
        made.close()
        return out.getvalue()

    def files(self) -> dict[str, bytes]:
        """Return the files on it, by cloud-init's names."""
        # Another instance than any clone will be, so that these do all of it again.
        about = {"instance-id": f"{self.name}-{self.mac}", "local-hostname": "builder"}
        return {
            "user-data": b"#cloud-config\n" + _yaml(self._user_data()),
            "meta-data": _yaml(about),
            "network-config": _yaml({"version": 2, "ethernets": {"card": self._card()}}),
        }

    def _user_data(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "users": [],  # no cloud user: the image has none but root
            "disable_root": False,
            "ssh_authorized_keys": [self.login_key],
            "ssh_deletekeys": True,
            "ssh_keys": {
                "ed25519_private": self.host_key.decode(),
                "ed25519_public": self.host_public_key,
            },
            "package_update": True,
            "package_upgrade": True,  # a template has its day's fixes
            "packages": ["qemu-guest-agent"],
            "runcmd": [["systemctl", "start", "qemu-guest-agent"]],
        }
        if self.mirror:
            source = [{"arches": ["default"], "uri": self.mirror}]
            wanted["apt"] = {"primary": source}
        return wanted

    def _card(self) -> dict[str, Any]:
        card: dict[str, Any] = {"match": {"macaddress": self.mac.lower()}}
        if not self.address or not self.gateway:
            return {**card, "dhcp4": True}
        within = IPv4Interface(self.gateway)
        return {
            **card,
            "addresses": [f"{self.address}/{within.network.prefixlen}"],
            "routes": [{"to": "0.0.0.0/0", "via": str(within.ip)}],
            "nameservers": {"addresses": list(self.resolvers) or [str(within.ip)]},
        }


def _yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, sort_keys=False).encode()
