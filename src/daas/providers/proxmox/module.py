"""The desktop module that Terraform runs: what it is told, and what it says when it fails."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from daas.errors import NotYet, StepFailed
from daas.providers.base import Progress, State, silent
from daas.providers.proxmox import terraform_state
from daas.providers.proxmox.client import Client
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


@dataclass(frozen=True)
class Module:
    """How this installation runs its module."""

    terraform: Terraform
    client: Client
    box: StateBox

    def apply(
        self,
        name: str,
        variables: Mapping[str, Any],
        state: State,
        keep: Callable[[str], None],
        note: Progress,
    ) -> None:
        """Terraform has made the machine. It is never told of one that it made before."""
        before = terraform_state.without_machine(self.box.of(state))
        given = {**self._common(), **variables}
        run = _run(name, variables["vmid"])
        try:
            self.terraform.apply(run, given, self._secrets(), before, keep, note)
        except StateUnusable as error:  # of a backend that keeps states elsewhere
            raise NotYet(LOCKED_S, f"Terraform's state ({error})") from error

    def destroy(self, name: str, number: int, node: str, state: State) -> None:
        """Terraform has ended the machine of that number, if it knows it."""
        text = self.box.of(state)
        if text is None or not terraform_state.is_about(text, number):
            return
        # With the template's number a module need not look for it: it may be gone by now.
        known = {"vm_name": name, "vmid": number, "node": node}
        given = {**self._common(), **known, "template_vmid": state.get("template", 0)}
        self.terraform.destroy(_run(name, number), given, self._secrets(), text, _forget, silent)

    def _common(self) -> dict[str, Any]:
        access = self.client.access
        where = {"api_url": self.client.url, "tls_insecure": access.is_insecure}
        return {**where, "token_id": access.token_id}

    def _secrets(self) -> dict[str, str]:
        return {"token_secret": self.client.access.token_secret}


def what_it_said(error: StepFailed) -> str:
    """Return Terraform's diagnostics in one line; the tail of its output where there are none."""
    found = getattr(error, "diagnostics", None) or ()
    lines = [f"{one.summary}: {one.detail}" if one.detail else str(one.summary) for one in found]
    return " ".join(" ".join(lines or [getattr(error, "tail", "") or str(error)]).split())[:SAID]


def _run(name: str, number: int) -> str:
    """Return under what Terraform knows it. With another number it is another machine: a state
    that a module keeps elsewhere would lead to whoever has the first number now."""
    return f"{name}-{number}"


def _forget(text: str) -> None:
    """The state of what is being destroyed: what is left is on the cluster."""
