"""From settings to the provider. Whatever is missing or wrong is said here, before anything is
asked of Proxmox."""

import os
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from daas.config import Settings
from daas.errors import ConfigError
from daas.providers.proxmox.client import Access, Client, addresses
from daas.providers.proxmox.inside import OverSsh
from daas.providers.proxmox.machine import Place
from daas.providers.proxmox.module import Module
from daas.providers.proxmox.provider import ProxmoxProvider
from daas.providers.proxmox.relay import Relay
from daas.providers.proxmox.terraform_state import StateBox
from daas.providers.terraform import tfvars
from daas.providers.terraform.runner import Terraform

Text = Callable[[str], str]
BUILDS = 2  # at once, each with an address; as many as the worker has threads for


def connect(settings: Settings, instance: str, seal: Text, open_: Text) -> ProxmoxProvider:
    """The provider of this installation; nothing is spoken to yet. `seal` and `open_` are the
    vault's: Terraform's states are kept by them. ConfigError says which setting to set."""
    client = Client(access(settings))
    relay = Relay(client, settings.data_dir / "terraform")
    runner = terraform(settings, relay.ca_file)
    module = Module(runner, relay, client.access.token_id, StateBox(seal, open_))
    return ProxmoxProvider(
        client, instance, place(settings), module, inside=OverSsh(settings.ansible_dir)
    )


def access(settings: Settings) -> Access:
    """How to reach the cluster. What the environment says wins over terraform.tfvars."""
    token_id, secret = _token(settings)
    ca_file = settings.proxmox_ca_file
    if ca_file and not ca_file.is_file():
        raise ConfigError(f"DAAS_PROXMOX_CA_FILE: there is no file {ca_file}.")
    return Access(
        addresses(settings.proxmox_url),
        token_id,
        secret,
        str(ca_file) if ca_file else None,
        settings.proxmox_tls_insecure,
    )


def terraform(settings: Settings, ca_file: Path) -> Terraform:
    """The runner of this installation's module. It speaks to our relay, and trusts that."""
    return Terraform(
        settings.terraform,
        settings.terraform_dir,
        settings.data_dir / "terraform",
        settings.tf_mirror,
        settings.terraform_slots,
        # What Go reads: beside this file it knows the authorities of the system's folder.
        {"SSL_CERT_FILE": str(ca_file.resolve())},
    )


def place(settings: Settings) -> Place:
    first, last, for_builds = _addresses(settings.proxmox_addresses or "")
    if first and not settings.proxmox_gateway:
        raise ConfigError(
            "DAAS_PROXMOX_GATEWAY is not set: with DAAS_PROXMOX_ADDRESSES, write the network's "
            "gateway and prefix, e.g. 10.0.0.1/24."
        )
    if settings.proxmox_gateway:
        _check_gateway(settings.proxmox_gateway)
    return Place(
        storage=settings.proxmox_storage,
        bridge=settings.proxmox_bridge,
        vlan=settings.proxmox_vlan,
        pool=settings.proxmox_pool,
        nodes=tuple(one.strip() for one in settings.proxmox_nodes.split(",") if one.strip()),
        addresses=(first, last) if first else None,
        build_addresses=for_builds,
        gateway=settings.proxmox_gateway if first else None,
        numbers=settings.proxmox_vmid_range,
        is_full_clone=settings.proxmox_full_clone,
    )


def _addresses(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the first and the last for desktops, and the end of the range, which is for builds."""
    first, _, last = text.partition("-")
    if not first:
        return "", "", ()
    count = int(IPv4Address(last)) - int(IPv4Address(first)) + 1
    kept = min(BUILDS, count - 1)
    end = IPv4Address(last) - kept
    return first, str(end), tuple(str(end + number) for number in range(1, kept + 1))


def _token(settings: Settings) -> tuple[str, str]:
    kept = tfvars.read(settings.terraform_dir) if settings.terraform_dir.is_dir() else {}
    given = settings.proxmox_token_secret
    token_id = settings.proxmox_token_id or _variable("token_id") or kept.get("token_id", "")
    secret = (given.get_secret_value() if given else "") or _variable("token_secret")
    secret = secret or kept.get("token_secret", "")
    for name, value in (("ID", token_id), ("SECRET", secret)):
        if not value:
            raise ConfigError(
                f"DAAS_PROXMOX_TOKEN_{name} is not set: make a token on a node (pveum user token "
                "add USER@REALM NAME), then set DAAS_PROXMOX_TOKEN_ID and "
                "DAAS_PROXMOX_TOKEN_SECRET_FILE, or write token_id and token_secret into "
                f"{settings.terraform_dir}/terraform.tfvars (mode 600)."
            )
    return token_id, secret


def _variable(name: str) -> str:
    return os.environ.get(f"TF_VAR_{name}", "")


def _check_gateway(text: str) -> None:
    try:
        has_prefix = "/" in text and IPv4Interface(text)
    except ValueError:
        has_prefix = False
    if not has_prefix:
        raise ConfigError(
            f"DAAS_PROXMOX_GATEWAY: {text} is no gateway with its prefix; write 10.0.0.1/24."
        )
