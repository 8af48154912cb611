"""What tests of Terraform share: the programs here, a module that needs no provider, a caller."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
from pve_simulator import Simulator

from daas.providers.terraform.runner import Terraform

ROOT = Path(__file__).resolve().parents[2]
MIRRORS = [os.environ.get("DAAS_TF_MIRROR", ""), str(ROOT / "build/tf-mirror")]
TOFU = ROOT / "build/tools/tofu"
SECRET = "1c9b7b1e-not-to-be-seen"

# A machine without a hypervisor: Terraform's own resource, and a command for what takes time.
MODULE = """
variable "token_secret" {
  type      = string
  sensitive = true
}

variable "vmid" { type = number }

variable "command" {
  type    = string
  default = "true"
}

variable "last_words" {
  type    = string
  default = "true"
}

resource "terraform_data" "network" {
  input = "vmbr0"
}

resource "terraform_data" "desktop" {
  depends_on = [terraform_data.network]
  input      = { vmid = var.vmid, last_words = var.last_words }

  provisioner "local-exec" {
    command = var.command
  }

  provisioner "local-exec" {
    when    = destroy
    command = self.output.last_words
  }
}

output "vmid" { value = terraform_data.desktop.output.vmid }
"""


def programs() -> list[str]:
    found = [
        path for path in (shutil.which("terraform"), str(TOFU)) if path and Path(path).exists()
    ]
    return found or ["terraform"]


NAME = "desktop-aaaaaa"
SECRETS = {"token_secret": SECRET}


class Site:
    """Whoever calls the runner, and what it was told."""

    def __init__(self, terraform: Terraform):
        self.terraform = terraform
        self.state: str | None = None
        self.notes: list[str] = []

    def apply(self, name: str = NAME, **variables: object) -> dict[str, object]:
        given = {"vmid": 20000, **variables}
        return self.terraform.apply(name, given, SECRETS, self.state, self.keep, self.notes.append)

    def destroy(self, name: str = NAME, **variables: object) -> None:
        given = {"vmid": 20000, **variables}
        self.terraform.destroy(name, given, SECRETS, self.state, self.keep, self.notes.append)

    def keep(self, state: str) -> None:
        self.state = state

    def resources(self) -> list[str]:
        return [one["name"] for one in json.loads(self.state or "{}").get("resources", [])]


MODULES = {"bpg": ROOT / "terraform/ephemeral-bpg", "telmate": ROOT / "terraform/ephemeral"}
WORLD = ROOT / "simulator/examples/one-node.yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKxkWiiVNW7C7rDB0ORuVn4AiSiPVqyXKvpcQ3QsoC0x ada@example"
TAGS = ["daas", "daas_i1_desktop-aaaaaa_n1_1700000000"]


def mirror_of(provider: str) -> Path | None:
    """The first mirror here that holds the provider."""
    folders = (Path(mirror) for mirror in MIRRORS if mirror)
    return next((f for f in folders if any(f.glob(f"registry.terraform.io/{provider}"))), None)


@contextmanager
def cluster(world: Path = WORLD, **options: object) -> Iterator[Simulator]:
    with Simulator(world, **{"latencies": "fast", **options}) as simulator:
        yield simulator


class Lab:
    """A desktop module, a provider and a simulated cluster, and whoever makes desktops there."""

    def __init__(self, program: str, provider: str, sim: Simulator, work_dir: Path, slots: int = 8):
        self.sim, self.provider = sim, provider
        self.terraform = Terraform(
            program,
            MODULES[provider],
            work_dir,
            mirror_of(f"{provider}/proxmox"),
            slots,
            {"SSL_CERT_FILE": sim.ca_file},
        )
        self.states: dict[str, str] = {}
        self.notes: list[str] = []
        self.secrets = {"token_secret": sim.token_secret}

    def variables(self, number: int, **more: object) -> dict[str, object]:
        given = {
            "api_url": self.sim.url,
            "token_id": self.sim.token_id,
            "vm_name": f"desktop-{number}",
            "vmid": number,
            "node": "pve1",
            "template_vmid": 9000,
            "storage": "local",
            "memory_mib": 2048,
            "tags": TAGS,
            "description": "A desktop of Ada.",
            "ssh_key": KEY,
        }
        return {**given, **more}

    def apply(self, number: int = 20000, **more: object) -> dict[str, object]:
        return self._run(self.terraform.apply, number, more)

    def destroy(self, number: int = 20000, **more: object) -> None:
        self._run(self.terraform.destroy, number, more)

    def changes(self) -> list[str]:
        """What was done to the cluster so far, as METHOD /path."""
        asked = (call.request for call in self.sim.calls)
        return [f"{one.method} {one.path}" for one in asked if one.method != "GET"]

    def config(self, number: int = 20000) -> dict[str, object]:
        return self.api(f"/nodes/pve1/qemu/{number}/config")

    def api(self, path: str) -> dict[str, object]:
        token = f"PVEAPIToken={self.sim.token_id}={self.sim.token_secret}"
        answer = requests.get(
            f"{self.sim.url}/api2/json{path}",
            headers={"Authorization": token},
            verify=self.sim.ca_file,
            timeout=20,
        )
        answer.raise_for_status()
        return answer.json()["data"]

    def numbers(self) -> list[int]:
        """Machines that are no templates."""
        found = self.api("/cluster/resources?type=vm")
        return sorted(vm["vmid"] for vm in found if not vm.get("template"))

    def _run(self, verb: Callable[..., Any], number: int, more: Mapping[str, object]) -> Any:
        name = f"desktop-{number}"
        return verb(
            name,
            self.variables(number, **more),
            self.secrets,
            self.states.get(name),
            partial(self.states.__setitem__, name),
            self.notes.append,
        )
