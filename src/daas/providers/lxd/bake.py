"""Make a template's image: a stopped container whose copies start as desktops. All work is done on
a builder under another name and renamed last, so an image that exists is whole."""

import ipaddress
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from daas.errors import NotOurs, NotYet, Refused, Stopped, Unsupported
from daas.providers import playbook
from daas.providers.base import Baking, Progress
from daas.providers.images import image_name, variables
from daas.providers.lxd import machine, rootfs, shared_usr
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.errors import Absent
from daas.providers.lxd.machine import Json, Place
from daas.providers.playbook import Host

GUEST = "/usr/local/lib/daas/guest"
READY_S, SEAL_S = 60.0, 120.0
# Lets us in by SSH with the key on stdin; prints the host key that we accept.
LET_US_IN = """
umask 077
mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys
key=/etc/ssh/ssh_host_ed25519_key
[ -s $key ] || ssh-keygen -q -t ed25519 -N '' -f $key
until systemctl is-active --quiet ssh || systemctl start ssh 2>/dev/null; do sleep 0.1; done
cat $key.pub
"""


@dataclass(frozen=True)
class Bakery:
    """Where images of one installation are made."""

    client: LxdClient
    instance: str
    place: Place
    ansible_dir: Path

    def bake(self, baking: Baking, progress: Progress) -> str:
        """Return the name of the sealed image, made unless it is there. After a crash at any
        moment another call cleans up and makes it."""
        image = image_name(baking)
        if self._is_there(image):
            progress(f"{image} is there already")
            return image
        if _options(baking).get("type", "container") != "container":
            raise Unsupported("Templates of virtual machines cannot be built on LXD yet.")
        builder, work_dir = image.replace("tmpl-", "bake-", 1), Path(baking.work_dir).resolve()
        self._clear(builder, work_dir)
        work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of its own: what a killed try started may still be writing into the one it had.
        folder = Path(mkdtemp(prefix="try-", dir=work_dir))
        try:
            self._build(builder, folder, baking, progress)
            self._seal(builder, image, baking, progress)
        finally:
            with suppress(NotYet, Refused, Stopped):  # then the next call does it
                self._clear(builder, work_dir)
        progress(f"{image} is ready")
        return image

    def _is_there(self, image: str) -> bool:
        found = self._find(image)
        if found and not machine.is_image(found, self.instance):
            raise NotOurs(f"There is a machine {image}, and it is no image of ours; rename it.")
        return found is not None

    def _clear(self, builder: str, work_dir: Path) -> None:
        """Nothing is left of an earlier try."""
        found = self._find(builder)
        if found and found["config"].get(machine.INSTANCE) != self.instance:
            raise NotOurs(f"There is a machine {builder}, and it is not ours; rename it.")
        if found and found["status"] != "Stopped":
            self._set(builder, "stop")
        if found:
            self.client.do("DELETE", f"/1.0/instances/{builder}")
        shutil.rmtree(work_dir, ignore_errors=True)

    def _build(self, builder: str, folder: Path, baking: Baking, progress: Progress) -> None:
        """The builder runs, and Ansible has made a desktop of it."""
        base = rootfs.base_image(self.client, self.ansible_dir, folder, baking, progress)
        progress("builder: unpacking the base")
        address, gateway = self._make_builder(builder, base)
        self._set(builder, "start")
        resolver = f"nameserver {gateway}\n".encode()
        self.client.put_file(builder, "/etc/resolv.conf", resolver, 0o644)
        key = playbook.make_key(folder).encode()
        said = self.client.exec(builder, ["sh", "-euc", LET_US_IN], key, READY_S)
        if said.exit_code:
            raise Refused(f"The builder did not let us in: {said.stderr.decode()[-500:]}")
        host = Host(builder, address, said.stdout.decode())
        progress("builder: Ansible")
        playbook.run(self.ansible_dir, folder, host, variables(baking.spec), "bake", progress)

    def _seal(self, builder: str, image: str, baking: Baking, progress: Progress) -> None:
        """The builder is stopped, holds nothing personal, and has become the image."""
        progress("seal: forgetting what must not be shared")
        ended = self.client.exec(builder, [GUEST, "seal"], timeout_s=SEAL_S)
        if ended.exit_code:
            raise Refused(f"The builder cannot be sealed: {ended.stderr.decode()[-500:]}")
        is_shared = bool(_options(baking).get("shared_usr"))
        if is_shared:
            shared_usr.move(self.client, self.place.pool, builder, image, progress)
        self._set(builder, "stop")
        if is_shared:
            shared_usr.share(self.client, self.place.pool, builder, image)
        # LXD has shifted all user ids at the builder's first start; copies are spared that.
        sealed = {machine.TEMPLATE: baking.template, machine.SEALED: "true", "raw.lxc": ""}
        order = {"config": sealed, "devices": {"eth0": self._card()}}
        self.client.do("PATCH", f"/1.0/instances/{builder}", order)
        self.client.do("POST", f"/1.0/instances/{builder}", {"name": image})

    def _make_builder(self, builder: str, base: str) -> tuple[str, str]:
        """Return its address and gateway. The address is reserved with LXD itself, which refuses
        one that another machine has: two builds at once cannot share it."""
        network = self.client.request("GET", f"/1.0/networks/{self.place.bridge}")["config"]
        bridge = ipaddress.IPv4Interface(network["ipv4.address"])
        for address in self._candidates(network, bridge):
            lines = f"lxc.net.0.ipv4.address={address}/{bridge.network.prefixlen}"
            order = {
                "name": builder,
                "profiles": [],
                "config": {
                    machine.INSTANCE: self.instance,
                    "raw.lxc": f"{lines}\nlxc.net.0.ipv4.gateway={bridge.ip}",
                },
                "devices": {
                    "root": {"type": "disk", "path": "/", "pool": self.place.pool},
                    "eth0": {**self._card(), "ipv4.address": address},
                },
                "source": {"type": "image", "fingerprint": base},
            }
            try:
                self.client.do("POST", "/1.0/instances", order)
            except Refused as error:
                if "already defined" in str(error):
                    continue
                raise
            return address, str(bridge.ip)
        raise Refused(f"{self.place.bridge} has no free address for a builder; make it larger.")

    def _candidates(self, network: Mapping[str, str], bridge: Any) -> Iterator[str]:
        """Yield free addresses, from the last one down, those first that sessions never get."""
        machines = self.client.request("GET", "/1.0/instances?recursion=1")
        taken = {one for found in machines for one in machine.addresses_of(found)}
        taken.add(str(bridge.ip))
        ours = self.place.addresses or machine.free_range(network)
        free = [str(one) for one in list(bridge.network.hosts())[-1024:] if str(one) not in taken]
        within = machine.within(free, ours) if ours else frozenset()
        yield from [one for one in reversed(free) if one not in within]
        yield from [one for one in reversed(free) if one in within]

    def _card(self) -> dict[str, str]:
        return {"type": "nic", "network": self.place.bridge, "name": "eth0"}

    def _set(self, builder: str, action: str) -> None:
        order = {"action": action, "force": action == "stop", "timeout": -1}
        self.client.do("PUT", f"/1.0/instances/{builder}/state", order)

    def _find(self, name: str) -> Json | None:
        with suppress(Absent):
            found: Json = self.client.request("GET", f"/1.0/instances/{name}")
            return found
        return None


def _options(baking: Baking) -> Mapping[str, Any]:
    options: Mapping[str, Any] = baking.spec["provider"].get("lxd", {})
    return options
