"""The desktop module that Terraform runs: what it is told, and what it says when it fails."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from daas.errors import NotYet, StepFailed
from daas.providers.base import Progress, State, silent
from daas.providers.proxmox import terraform_state
from daas.providers.proxmox.relay import Door, Relay
from daas.providers.proxmox.terraform_state import StateBox
from daas.providers.terraform.errors import StateUnusable

SAID = 1500  # characters
LOCKED_S = 10.0


class Terraform(Protocol):
    """The runner, as far as we need it; providers/terraform is one."""

    def apply(
        self,
        name: str,
        variables: Mapping[str, Any],
        secrets: Mapping[str, str],
        state: str | None,
        keep: Callable[[str], None],
        note: Progress,
    ) -> dict[str, Any]: ...

    def destroy(
        self,
        name: str,
        variables: Mapping[str, Any],
        secrets: Mapping[str, str],
        state: str | None,
        keep: Callable[[str], None],
        note: Progress,
    ) -> None: ...

    def forget(self, prefix: str) -> None: ...


@dataclass(frozen=True)
class Module:
    """How this installation runs its module."""

    terraform: Terraform
    relay: Relay
    token_id: str
    box: StateBox

    def apply(
        self,
        name: str,
        variables: Mapping[str, Any],
        state: State,
        keep: Callable[[str], None],
        note: Progress,
        on_disks: Callable[[], None],
    ) -> None:
        """Terraform has made the machine. It is never told of one that it made before."""
        before = terraform_state.without_machine(self.box.of(state))
        run = _run(name, variables["vmid"])
        try:
            with self.relay.door(on_disks) as door:
                given = {**self._where(door), **variables}
                self.terraform.apply(run, given, _secrets(door), before, keep, note)
        except StateUnusable as error:  # of a backend that keeps states elsewhere
            raise NotYet(LOCKED_S, f"Terraform's state ({error})") from error

    def destroy(self, name: str, number: int, node: str, state: State) -> None:
        """Terraform has ended the machine of that number, if it knows it."""
        text = self.box.of(state)
        if text is None or not terraform_state.is_about(text, number):
            return
        # With the template's number a module need not look for it: it may be gone by now.
        known = {"vm_name": name, "vmid": number, "node": node}
        known |= {"template_vmid": state.get("template", 0)}
        run = _run(name, number)
        with self.relay.door() as door:
            given = {**self._where(door), **known}
            self.terraform.destroy(run, given, _secrets(door), text, _forget, silent)

    def forget(self, name: str) -> None:
        """No run of a killed worker, under any number, is left on this host."""
        self.terraform.forget(f"{name}-")

    def _where(self, door: Door) -> dict[str, Any]:
        return {"api_url": door.url, "tls_insecure": False, "token_id": self.token_id}


def what_it_said(error: StepFailed) -> str:
    """Return Terraform's diagnostics in one line; the tail of its output where there are none."""
    found = getattr(error, "diagnostics", None) or ()
    lines = [f"{one.summary}: {one.detail}" if one.detail else str(one.summary) for one in found]
    return " ".join(" ".join(lines or [getattr(error, "tail", "") or str(error)]).split())[:SAID]


def _secrets(door: Door) -> dict[str, str]:
    return {"token_secret": door.secret}


def _run(name: str, number: int) -> str:
    """Return under what Terraform knows it. With another number it is another machine: a state
    that a module keeps elsewhere would lead to whoever has the first number now."""
    return f"{name}-{number}"


def _forget(text: str) -> None:
    """The state of what is being destroyed: what is left is on the cluster."""
