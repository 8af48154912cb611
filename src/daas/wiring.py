"""Which code answers to which word: kinds of jobs and kinds of providers. Alone in choosing real
hypervisors; only the worker and the command line import it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from daas.config import Settings
from daas.crypto import Vault
from daas.db import Database
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.work import Work
from daas.nodes.refresh import refresh
from daas.providers.base import Provider
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.machine import Place
from daas.providers.lxd.provider import LxdProvider
from daas.providers.proxmox import connect as connection
from daas.providers.proxmox import storages
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.provider import ProxmoxProvider
from daas.providers.rdp import rdp_tls_fingerprint
from daas.providers.simulated import SimulatedProvider
from daas.providers.terraform.runner import Terraform
from daas.sessions import queries
from daas.sessions import reconcile as sessions
from daas.sessions.personal import KeyStock, OneKey
from daas.sessions.steps import Tools
from daas.sessions.sweep import sweep
from daas.templates import reconcile as builds

Handler = Callable[[Work], None]
# What `daas doctor` asks of a storage of Proxmox's.
choose_storage, why_no_storage = storages.choose, storages.why_not


def handlers(tools: Tools, settings: Settings) -> dict[str, Handler]:
    """What is done about a job of each kind."""
    providers, instance = tools.providers, tools.vault.instance
    return {
        "session": partial(sessions.reconcile, tools=tools),
        "node": partial(refresh, providers=providers),
        "sweep": partial(sweep, providers=providers, instance=instance),
        "build": partial(
            builds.reconcile, providers=providers, instance=instance, work_dir=settings.data_dir
        ),
    }


def watch(database: Database, providers: Mapping[str, Provider]) -> None:
    """A machine that stops under a session that takes it for running is looked at at once."""
    for kind, provider in providers.items():
        provider.watch(partial(_look_after, database, kind))


def tools(settings: Settings, vault: Vault) -> Tools:
    """The providers this installation uses, and what steps need besides."""
    has_guests = settings.provider != "simulated"
    stock = KeyStock() if has_guests else OneKey()
    stock.start()
    return Tools(
        providers=providers(settings, vault),
        vault=vault,
        stock=stock,
        certificate_of=_certificate_of if has_guests else _no_certificate,
    )


def providers(settings: Settings, vault: Vault) -> Mapping[str, Provider]:
    """Providers by kind; none of them is spoken to yet."""
    if settings.provider == "simulated":
        return {"simulated": _simulated(settings, vault.instance)}
    if settings.provider == "proxmox":
        return {"proxmox": proxmox(settings, vault)}
    return {"lxd": lxd(settings, vault.instance)}


def proxmox(settings: Settings, vault: Vault) -> ProxmoxProvider:
    return connection.connect(settings, vault.instance, vault.seal, vault.open)


def proxmox_doors(settings: Settings) -> dict[str, Callable[..., Any]]:
    """How each address of PROXMOX_URL is asked, without the others. ConfigError names a setting."""
    access = connection.access(settings)
    return {url: Client(replace(access, urls=(url,))).get for url in access.urls}


def proxmox_token(settings: Settings) -> str:
    return connection.access(settings).token_id


def terraform(settings: Settings) -> Terraform:
    """The runner, to have its module initialised; it cannot speak to the cluster yet."""
    return connection.terraform(settings, settings.data_dir / "terraform/no-relay.pem")


def lxd(settings: Settings, instance: str) -> LxdProvider:
    place = Place(
        settings.lxd_pool,
        settings.lxd_bridge,
        addresses=settings.lxd_range,
        proxy_listen=settings.lxd_proxy_listen,
        proxy_port_base=settings.lxd_proxy_port_base,
    )
    socket = str(settings.lxd_socket) if settings.lxd_socket else None
    return LxdProvider(
        LxdClient(socket), instance, place, str(settings.data_dir), ansible_dir=settings.ansible_dir
    )


def _look_after(database: Database, kind: str, name: str) -> None:
    with database.transaction() as db:
        if not name or queries.is_taken_for_running(db, name):
            queue.wake(db, "sweep", kind, Lane.BULK, Priority.PERSON)


def _simulated(settings: Settings, instance: str) -> SimulatedProvider:
    return SimulatedProvider(
        instance,
        boot_s=settings.simulated_boot_s,
        nodes=settings.simulated_nodes,
        memory_mib=settings.simulated_memory_mib,
    )


def _certificate_of(endpoint: str, timeout_s: float) -> str | None:
    host, _, port = endpoint.rpartition(":")
    return rdp_tls_fingerprint(host, int(port), timeout_s)


def _no_certificate(endpoint: str, timeout_s: float) -> str | None:
    return None
