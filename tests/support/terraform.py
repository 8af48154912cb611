"""What tests of Terraform share: the programs here, a module that needs no provider, a caller."""

import json
import shutil
from pathlib import Path

from daas.providers.terraform.runner import Terraform

ROOT = Path(__file__).resolve().parents[2]
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
