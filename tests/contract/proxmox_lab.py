"""Proxmox VE as the simulator plays it, reached by the real Terraform with the real provider, with
guests that behave as our baked ones do."""

import contextlib
import contextvars
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pve_simulator.library import Simulator
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

from contract.labs import OURS, THEIRS, KillPoint, Lab, NotHere
from daas.errors import DaasError, NotYet
from daas.providers.base import Progress, Provider, Size, Spec, State, Tag
from daas.providers.proxmox import machine, marks, tasks
from daas.providers.proxmox.client import Access, Client
from daas.providers.proxmox.machine import Place
from daas.providers.proxmox.module import Module, Terraform
from daas.providers.proxmox.provider import ProxmoxProvider
from daas.providers.proxmox.relay import Relay
from daas.providers.proxmox.terraform_state import StateBox
from daas.providers.terraform.runner import Terraform as Runner
from support.guests import RdpGuest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "deploy/terraform-tools"
NOT_TO_BE_HAD = 69
TEMPLATE, AWAITING = 9000, 9001
IMAGE, AWAITING_IMAGE = "tmpl-contract", "tmpl-awaiting"
KILL_S = 20.0
ITS_OWN = "^(?!/cluster/resources)"  # calls of Terraform's: who watches asks for that, too
NUMBERS = itertools.count(20000)
LAST_LOOK_S = 0.3  # until the simulator's lists show what is


def world(version: str = "8.4.21", nodes: int = 3) -> World:
    """Three nodes: one may die, and the others have a quorum. A storage of each, and one that all
    share, with two templates of ours on it."""
    return World(
        version=version,
        cluster="contract",
        nodes=[NodeSpec(f"pve{n + 1}") for n in range(nodes)],
        storages=[StorageSpec("local"), StorageSpec("shared", shared=True)],
        vms=[_template(TEMPLATE, IMAGE), _template(AWAITING, AWAITING_IMAGE)],
        guests={"kind": "support.guests:RdpGuest", "awaiting": [AWAITING]},
    )


def _template(number: int, name: str) -> VmSpec:
    return VmSpec(
        number,
        "pve1",
        {
            "name": name,
            "template": 1,
            "tags": ";".join(marks.image_words(OURS)),
            "agent": "1",
            "boot": "order=scsi0",
            "cores": 1,
            "memory": "256",
            "meta": f"creation-qemu=9.2.0,ctime=17000{number}",
            "net0": f"virtio=BC:24:11:00:00:{number % 100:02d},bridge=vmbr0",
            "scsi0": f"shared:{number}/base-{number}-disk-0.qcow2,size=1G",
            "scsihw": "virtio-scsi-pci",
        },
    )


class ProxmoxLab(Lab):
    image = IMAGE

    def __init__(self, version: str = "8.4.21") -> None:
        self.mirror = _mirror()
        self.work_dir = Path(tempfile.mkdtemp(prefix="daas-contract-"))
        self.sim = Simulator(world(version), latencies="fast", seed=4)
        self.access = Access(
            (self.sim.url,), self.sim.token_id, self.sim.token_secret, self.sim.ca_file
        )
        self.client = Client(self.access)
        self.relay = Relay(self.client, self.work_dir)
        self.runner = self.new_runner()
        self.place = Place(addresses=("127.64.1.0", "127.64.200.250"), gateway="127.64.0.1/16")
        self.ours, self.theirs = self.provider(), self.provider(THEIRS)
        self.addresses = (f"127.64.{n // 250 + 1}.{n % 250}" for n in itertools.count(1))

    def new_runner(self, environment: Mapping[str, str] | None = None) -> Runner:
        given = {"SSL_CERT_FILE": str(self.relay.ca_file), **(environment or {})}
        module = ROOT / "terraform/ephemeral-bpg"
        return Runner("terraform", module, self.work_dir, self.mirror, 4, given)

    def provider(
        self,
        instance: str = OURS,
        client: Client | None = None,
        terraform: Terraform | None = None,
        place: Place | None = None,
    ) -> ProxmoxProvider:
        client = client or self.client
        box = StateBox(_turned, _turned)
        access, relay = client.access, self.relay
        if access is not self.access:
            relay = Relay(client, self.work_dir)
        module = Module(terraform or self.runner, relay, access.token_id, box)
        return ProxmoxProvider(
            client, instance, place or self.place, module, stop_s=2, watch_each_s=0.2
        )

    def spec(self, name: str, instance: str = OURS, **changes: Any) -> Spec:
        where = {
            "node": "pve1",
            "number": next(NUMBERS),
            "address": f"{next(self.addresses)}/16",
            "gateway": "127.64.0.1",
        }
        return super().spec(name, instance, **{**where, **changes})

    @contextmanager
    def killed_at(
        self, number: int
    ) -> Iterator[tuple[Provider, Callable[[State], None], KillPoint]]:
        point = KillPoint(number)
        client = Client(self.access, heard=point)
        mortal = MortalTerraform(self.runner, self.sim, point)
        yield self.provider(client=client, terraform=mortal), lambda state: point("save"), point

    def config(self, name: str) -> dict[str, Any]:
        return next(vm.config for vm in self._vms() if vm.config.get("name") == name)

    def number(self, name: str) -> int:
        return next(int(vm.vmid) for vm in self._vms() if vm.config.get("name") == name)

    def path(self, name: str) -> str:
        node = self.sim.cluster.vms[self.number(name)].node
        return f"nodes/{node}/qemu/{self.number(name)}"

    def guest(self, name: str) -> RdpGuest:
        guest: RdpGuest = self.sim.cluster.vms[self.number(name)].guest  # type: ignore[assignment]
        return guest

    def names(self) -> set[str]:
        return {vm.config.get("name", f"VM {vm.vmid}") for vm in self._vms()}

    def volumes(self) -> set[str]:
        """All that are no template's."""
        found = (
            row["volid"]
            for node in ("pve1", "pve2", "pve3")
            for storage in ("local", "shared")
            for row in self.client.get(f"nodes/{node}/storage/{storage}/content")
        )
        return {one for one in found if "vm-" in one}

    def is_on(self, name: str) -> bool:
        return self.sim.cluster.vms[self.number(name)].run is not None

    def size(self, name: str) -> Size:
        config = self.config(name)
        disk = machine.boot_drive(config)
        assert disk
        return Size(int(config["cores"]), int(config["memory"]), int(disk.size_bytes / 2**30))

    def shut_down(self, name: str) -> None:
        time.sleep(LAST_LOOK_S)  # else no list has ever shown that it runs
        tasks.post(self.client, f"{self.path(name)}/status/stop")

    def retag(self, name: str, tag: Tag) -> None:
        self.change(name, tags=";".join(marks.words(tag, time.time())))

    def rename(self, name: str, new: str) -> None:
        self.change(name, name=new)
        time.sleep(LAST_LOOK_S)

    def change(self, which: str, **values: Any) -> None:
        self.client.put(f"{self.path(which)}/config", values)

    def stranger(self, number: int, name: str = "their-database") -> None:
        """Somebody who is no orchestrator has a machine of that number."""
        order = {"vmid": number, "name": name, "memory": 128, "scsi0": "local:1"}
        tasks.post(self.client, "nodes/pve1/qemu", order)

    def clean(self) -> None:
        self.sim.faults.clear()
        for node in self.sim.cluster.nodes.values():
            if not node.is_alive:
                self.sim.faults.revive_node(node.name)
                time.sleep(LAST_LOOK_S)  # until the others see it
        deadline = time.monotonic() + 5.0
        while self._vms() and time.monotonic() < deadline:
            for vm in self._vms():
                if vm.lock not in ("clone", "create"):
                    self.sim.faults.vanish_vm(vm.vmid)
            time.sleep(0.02)

    def close(self) -> None:
        self.ours.close()  # type: ignore[attr-defined]
        self.sim.close()
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def _vms(self) -> list[Any]:
        return [vm for vm in [*self.sim.cluster.vms.values()] if not vm.is_template]


def held_ensure(
    pve: ProxmoxLab, spec: Spec, name: str, when: str, meanwhile: Callable[[], object], **hold: Any
) -> tuple[list[Exception], list[State]]:
    """Make a machine; `meanwhile` happens while the call of `hold` is on its way."""
    saved: list[State] = [{}]
    failed: list[Exception] = []

    def work() -> None:
        try:
            saved.append(pve.ours.ensure(name, spec, {}, saved.append))
        except (DaasError, NotYet) as error:
            failed.append(error)

    caught = pve.sim.faults.stop_at(1, when=when, **hold)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert caught.wait(20.0)
    meanwhile()
    pve.sim.faults.release(caught)
    thread.join(60.0)
    return failed, saved


def eventually(made: Callable[[], State], within_s: float = 20.0) -> State:
    """As the loop does: again, while it is only to be waited for."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return made()
        except NotYet:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class MortalTerraform:
    """Hands each run on to the real one. At the call that `point` names, Terraform and we who
    wait for it are killed; the call itself has been heard."""

    def __init__(self, real: Runner, sim: Simulator, point: KillPoint):
        self._real, self._sim, self._point = real, sim, point

    def apply(self, name: str, *given: Any) -> dict[str, Any]:
        return self._until_killed(name, self._real.apply, *given)

    def destroy(self, name: str, *given: Any) -> None:
        self._until_killed(name, self._real.destroy, *given)

    def forget(self, prefix: str) -> None:
        self._real.forget(prefix)

    def _until_killed(
        self,
        name: str,
        run: Callable[..., Any],
        variables: Mapping[str, Any],
        secret: Mapping[str, str],
        state: str | None,
        keep: Callable[[str], None],
        note: Progress,
    ) -> Any:
        is_dead = threading.Event()
        result: list[Any] = []

        def kept(text: str) -> None:
            if not is_dead.is_set():
                keep(text)

        def work() -> None:
            try:
                result.append(run(name, variables, secret, state, kept, note))
            except BaseException as error:  # the dead say nothing
                result.append(error)

        left = self._point.number - len(self._point.seen)
        hold = self._sim.faults.stop_at(left, when="after", path=ITS_OWN) if left > 0 else None
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,), daemon=True)
        thread.start()
        while thread.is_alive() and not (hold and hold.wait(0.02)):
            thread.join(0.02)
        if hold and hold.is_held:
            is_dead.set()
            call = hold.call.request if hold.call else None
            self._point.seen += ["terraform"] * (left - 1)
            _kill(name)
            self._sim.faults.release(hold)
            thread.join(KILL_S)
            self._point(f"terraform {call.method} {call.path}" if call else "terraform")
        if hold:
            self._sim.faults.release(hold)
            self._point.seen += ["terraform"] * hold.seen
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]


def _kill(name: str) -> None:
    """Kill -9 what runs Terraform for that machine, with its provider."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"/{name}" in os.readlink(folder / "cwd"):
                os.kill(int(folder.name), signal.SIGKILL)


def _turned(text: str) -> str:
    """A seal that hides nothing; opening is the same."""
    return text[::-1]


def _mirror() -> Path:
    if shutil.which("terraform") is None:
        raise NotHere("terraform is not installed: see docs/howto for Proxmox")
    made = subprocess.run([TOOLS], capture_output=True, text=True, timeout=900, check=False)
    if made.returncode == NOT_TO_BE_HAD:
        raise NotHere(made.stderr.strip() or "deploy/terraform-tools cannot build the provider")
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / "build/tf-mirror"
