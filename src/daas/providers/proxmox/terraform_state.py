"""Terraform's state of one machine, sealed inside ours. A state that cannot be read is none: what
there is, is on the cluster."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from daas.errors import ConfigError
from daas.providers.base import State

KEY = "terraform"
MACHINES = ("proxmox_vm_qemu", "proxmox_virtual_environment_vm")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StateBox:
    """Seals and opens with the vault of this installation."""

    seal: Callable[[str], str]
    open: Callable[[str], str]

    def kept(self, state: State, text: str) -> State:
        return {**state, KEY: self.seal(text)}

    def of(self, state: State) -> str | None:
        """Return the state as Terraform wants it; None where there is none that can be read."""
        sealed = state.get(KEY)
        if not sealed:
            return None
        try:
            text = self.open(sealed)
            return text if _resources(text) else None
        except (ConfigError, ValueError, TypeError, AttributeError):
            log.warning("Terraform's state of %s cannot be read; going on without", state["name"])
            return None


def is_about(text: str, number: int) -> bool:
    """Is the machine in that state the one of this number, and no other?"""
    ids = {
        str(one.get("attributes", {}).get("vmid") or one.get("attributes", {}).get("vm_id"))
        for resource in _resources(text)
        if resource.get("type") in MACHINES
        for one in resource.get("instances", [])
    }
    return ids == {str(number)}


def without_machine(text: str | None) -> str | None:
    """Return the state with all but the machine; None where nothing else is in it. Terraform
    would replace a machine that it takes for broken, and it knows it by nothing but its number:
    whoever has that number by then would be destroyed."""
    if text is None:
        return None
    rest = [one for one in _resources(text) if one.get("type") not in MACHINES]
    if not any(one.get("mode") == "managed" for one in rest):
        return None
    return json.dumps({**json.loads(text), "resources": rest})


def _resources(text: str) -> list[dict[str, Any]]:
    found = json.loads(text).get("resources", [])
    if not isinstance(found, list):
        raise ValueError("no state of Terraform's")
    return found
