"""Make a template's image: a Proxmox template whose clones start as desktops. All work is done on a
builder under another name and mark, and it is named last, so an image that exists is whole."""

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from daas.errors import NotOurs, NotYet, Refused, Stopped
from daas.providers import playbook
from daas.providers.base import Baking, Progress
from daas.providers.images import image_name, variables
from daas.providers.playbook import Host
from daas.providers.proxmox import marks, storages
from daas.providers.proxmox.builder import Builders, Order, new_mac
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.cluster import Cluster
from daas.providers.proxmox.files import PREFIX, Files
from daas.providers.proxmox.inside import Inside
from daas.providers.proxmox.machine import Place
from daas.providers.proxmox.recipe import MEMORY_MIB, Recipe, disk_gib, recipe
from daas.providers.proxmox.seed import Seed


class Bakery:
    """Where images of one installation are made."""

    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        instance: str,
        place: Place,
        inside: Inside,
    ):
        self._client, self._cluster = client, cluster
        self._instance, self._place = instance, place
        self._inside = inside
        self._builders = Builders(client, cluster, instance, place)

    def bake(self, baking: Baking, progress: Progress) -> str:
        """Return the name of the image: on each node that cannot reach another's. After a crash
        at any moment another call cleans up and makes it."""
        wanted = recipe(baking)
        if wanted.template is not None:
            return self._adopt(wanted.template, progress)
        image = image_name(baking)
        made = 0
        for node, storage in self._targets(wanted, progress):
            if self._is_there(image, node, bool(storage.get("shared"))):
                self._clear(image, node, wanted, baking, progress)
                progress(f"{image} is on {node} already")
            else:
                self._bake_on(node, storage, image, wanted, baking, progress)
            made += 1
        if not made:
            raise NotYet(10.0, "a node that is online, to build on")
        self._builders.await_shown(image)
        progress(f"{image} is ready")
        return image

    def _adopt(self, template: str | int, progress: Progress) -> str:
        """Return the name of a template that somebody else made and keeps."""
        found = [
            vm
            for vm in self._cluster.vms()
            if vm.is_template and (vm.name == template or str(vm.number) == str(template))
        ]
        if not found:
            raise Refused(
                f"There is no template {template} on this cluster, or the token may not see it "
                "(VM.Audit). `qm template VMID` makes one of a machine."
            )
        if any(marks.instances_of_images(marks.split(vm.tags)) for vm in found):
            raise Refused(f"{template} is an image that was baked; build its own template.")
        if len({vm.name for vm in found}) > 1:
            raise Refused(f"{template} is the name of one template and the VMID of another.")
        twins = self._builders.named(found[0].name)
        if len(twins) > 1 and isinstance(template, int):
            raise Refused(f"{len(twins)} machines are called {found[0].name}; rename the others.")
        config = self._cluster.config(found[0])
        if not str(config.get("agent", "0")).startswith(("1", "enabled=1")):
            raise Refused(
                f"The template {found[0].name} has its guest agent switched off: install "
                f"qemu-guest-agent in it, then: qm set {found[0].number} --agent 1"
            )
        progress(f"{found[0].name} (VM {found[0].number}) is taken as it is")
        return found[0].name

    def _targets(self, wanted: Recipe, progress: Progress) -> list[tuple[str, Any]]:
        """Return where to build: once for a storage that nodes share, else on each node."""
        view, found, shared = self._cluster.look(), [], set()
        nodes = wanted.nodes or self._place.nodes or tuple(sorted(view.nodes))
        for node in nodes:
            if not view.is_online(node):
                progress(f"{node} is not online: it gets no image now; build again once it is")
                continue
            storage = self._storage(node, wanted)
            if storage["storage"] not in shared:
                found.append((node, storage))
            if storage.get("shared"):
                shared.add(storage["storage"])
        return found

    def _storage(self, node: str, wanted: Recipe) -> Any:
        rows = self._client.get(f"nodes/{node}/storage")
        name, needs_link = wanted.storage or self._place.storage, not self._place.is_full_clone
        chosen = storages.choose(rows, name, needs_link)
        if chosen:
            return chosen
        reasons = [
            f"{row['storage']}: {storages.why_not(row, needs_link)}"
            for row in rows
            if name in ("", row["storage"])
        ]
        raise Refused(
            f"No storage of {node} can hold a template that desktops are cloned from "
            f"({'; '.join(reasons) or f'there is no {name}'}). Run: daas doctor"
        )

    def _is_there(self, image: str, node: str, is_shared: bool) -> bool:
        """Is it there, for that node? NotOurs if something else has its name."""
        named = self._builders.named(image)
        for vm in named:
            if not marks.is_image_of(vm.tags, self._instance):
                raise NotOurs(
                    f"VM {vm.number} is called {image} and is no image of ours; rename it."
                )
        return any(is_shared or vm.node == node for vm in named)

    def _bake_on(
        self,
        node: str,
        storage: Any,
        image: str,
        wanted: Recipe,
        baking: Baking,
        progress: Progress,
    ) -> None:
        name, work_dir = _builder_of(image), Path(baking.work_dir).resolve()
        self._clear(image, node, wanted, baking, progress)
        work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of its own: what a killed try started may still be writing into the one it had.
        folder = Path(mkdtemp(prefix="try-", dir=work_dir))
        try:
            order = self._order(name, node, storage, wanted, baking, progress)
            path = self._build(order, folder, wanted, baking, progress)
            self._finish(path, image, baking)
        finally:
            with suppress(NotYet, Refused, Stopped):  # then the next call does it
                self._clear(image, node, wanted, baking, progress)

    def _clear(
        self, image: str, node: str, wanted: Recipe, baking: Baking, progress: Progress
    ) -> None:
        """Nothing is left of an earlier try; of one that died at its very end, a CD may be."""
        name = _builder_of(image)
        for vm in self._builders.find(name):
            self._builders.remove(vm)
        files = Files(self._client, node, wanted.import_storage)
        for volume in files.ours("iso", f"{PREFIX}{name}"):
            files.remove(volume, progress)
        shutil.rmtree(Path(baking.work_dir), ignore_errors=True)

    def _order(
        self,
        name: str,
        node: str,
        storage: Any,
        wanted: Recipe,
        baking: Baking,
        progress: Progress,
    ) -> Order:
        size = baking.spec["sizes"][baking.spec["default_size"]]
        files = Files(self._client, node, wanted.import_storage)
        source = files.cloud_image(wanted, progress)
        return Order(
            name=name,
            node=node,
            cores=int(size["cpus"]),
            memory_mib=max(MEMORY_MIB, int(size["memory_mib"])),
            disk=storages.disk(storage, source),
            mac=new_mac(),
            hardware={str(key): value for key, value in wanted.hardware.items()},
        )

    def _build(
        self, order: Order, folder: Path, wanted: Recipe, baking: Baking, progress: Progress
    ) -> str:
        """Return the path of the builder, in which Ansible has made a desktop, sealed and off."""
        progress(f"builder: {order.node} imports the disk")
        path, given = self._make(order)
        self._builders.grow(path, disk_gib(wanted, baking.spec), progress)
        private, public = playbook.key_pair()
        seed = Seed(
            name=order.name,
            mac=order.mac,
            login_key=playbook.make_key(folder),
            host_key=private,
            host_public_key=public,
            address=given,
            gateway=self._place.gateway,
            resolvers=self._resolvers(order.node) if given else (),
            mirror=baking.spec["base"].get("mirror"),
        )
        files = Files(self._client, order.node, wanted.import_storage)
        cd = files.put(seed.iso(), f"{PREFIX}{order.name}.iso")
        self._builders.insert(path, cd)
        self._builders.start(path)
        progress("builder: its first boot")
        address = given or self._builders.leased_address(path, order.mac)
        host = Host(order.name, address, public)
        self._inside.settle(host, folder, progress)
        told = {**variables(baking.spec), "desktop_is_container": False}
        self._inside.bake(host, folder, told, progress)
        self._inside.seal(host, folder, progress)
        self._builders.shut_down(path)
        return path

    def _make(self, order: Order) -> tuple[str, str | None]:
        """The builder exists; return its path and its address, which no other build has."""
        path, free = self._builders.make(order), self._place.build_addresses
        return path, self._builders.claim(path, free) if free else None

    def _finish(self, path: str, image: str, baking: Baking) -> None:
        """The builder has become the image."""
        self._builders.convert(path)
        self._builders.must_be_whole(path, self._place.is_full_clone)
        about = (
            f"Version {baking.version} of the template {baking.template}, an image of the DaaS "
            f"orchestrator {self._instance}. Desktops are clones of it; do not change its tags."
        )
        self._builders.name(path, image, about)

    def _resolvers(self, node: str) -> tuple[str, ...]:
        """Return whom that node asks for names; none if we may not know."""
        with suppress(Refused):
            told = self._client.get(f"nodes/{node}/dns")
            return tuple(str(told[key]) for key in ("dns1", "dns2", "dns3") if told.get(key))
        return ()


def _builder_of(image: str) -> str:
    return image.replace("tmpl-", "bake-", 1)
