"""What a token may do on Proxmox VE, who shows which certificate, and how a lack is said."""

import pytest
from pve_simulator.library import Simulator

from contract.labs import new_name, nothing
from contract.proxmox_lab import AWAITING_IMAGE, ProxmoxLab, world
from daas.errors import Refused
from daas.providers.base import Provider
from daas.providers.proxmox.client import Access, Client


def test_an_expired_token_is_said_to_be_one(pve: ProxmoxLab) -> None:
    provider = limited(pve, pve.sim, "expired", "Administrator")
    pve.sim.faults.expire_token("expired@pve!t1")
    name = new_name()

    for call in (provider.owned, lambda: provider.ensure(name, pve.spec(name), {}, nothing)):
        with pytest.raises(Refused, match="token has expired"):
            call()


PRIVILEGES = [
    ("8.4.21", "VM.Clone"),
    ("8.4.21", "VM.Allocate"),
    ("8.4.21", "VM.Config.Memory"),
    ("8.4.21", "VM.PowerMgmt"),
    ("8.4.21", "Datastore.AllocateSpace"),
    ("9.0.10", "VM.Clone"),
    ("9.0.10", "VM.PowerMgmt"),
]
RIGHTS = """VM.Allocate VM.Audit VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit
VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.PowerMgmt
VM.Snapshot VM.Snapshot.Rollback Datastore.AllocateSpace Datastore.Audit Sys.Audit SDN.Use
Pool.Audit"""
AGENT = {"8": ["VM.Monitor"], "9": ["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"]}


def limited(lab: ProxmoxLab, sim: Simulator, user: str, role: str) -> Provider:
    """A provider with a token of that role and no other right."""
    root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
    if f"{user}@pve" not in {one["userid"] for one in root.get("access/users")}:
        root.post("access/users", {"userid": f"{user}@pve"})
    made = root.post(f"access/users/{user}@pve/token/t1", {"privsep": 0})
    root.put("access/acl", {"path": "/", "users": f"{user}@pve", "roles": role})
    access = Access((sim.url,), f"{user}@pve!t1", made["value"], sim.ca_file)
    return lab.provider(client=Client(access))


def rights(version: str, without: str = "") -> str:
    return ",".join(one for one in [*RIGHTS.split(), *AGENT[version[0]]] if one != without)


@pytest.mark.parametrize(("version", "right"), PRIVILEGES)
def test_a_missing_privilege_is_named(pve: ProxmoxLab, version: str, right: str) -> None:
    with Simulator(world(version), latencies="fast") as sim:
        root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        root.post("access/roles", {"roleid": "Less", "privs": rights(version, right)})
        provider, name = limited(pve, sim, "few", "Less"), new_name()

        with pytest.raises(Refused, match=right.replace(".", r"\.")):
            provider.ensure(name, pve.spec(name), {}, nothing)


@pytest.mark.parametrize(
    ("version", "right"), [("8.4.21", "VM.Monitor"), ("9.0.10", "VM.GuestAgent.Unrestricted")]
)
def test_the_agents_privilege_is_named_as_this_version_calls_it(
    pve: ProxmoxLab, version: str, right: str
) -> None:
    with Simulator(world(version), latencies="fast") as sim:
        root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        root.post("access/roles", {"roleid": "Less", "privs": rights(version, right)})
        provider, name = limited(pve, sim, "few", "Less"), new_name()
        state = provider.ensure(name, pve.spec(name, image=AWAITING_IMAGE), {}, nothing)

        with pytest.raises(Refused, match=right.replace(".", r"\.")):
            provider.endpoints(state, 10.0, {"tls.key": b"x\n"})


@pytest.mark.parametrize("version", ["8.4.21", "9.0.10"])
def test_the_privileges_we_ask_for_are_enough(pve: ProxmoxLab, version: str) -> None:
    with Simulator(world(version), latencies="fast") as sim:
        root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        root.post("access/roles", {"roleid": "Daas", "privs": rights(version)})
        provider, name = limited(pve, sim, "daas", "Daas"), new_name()
        state = provider.ensure(name, pve.spec(name), {}, nothing)

        provider.endpoints(state, 10.0, {})
        provider.put(state, "/x", b"y", 0o600)
        provider.snapshot(state, "one")
        provider.restore(state, "one")
        provider.delete_snapshot(state, "one")
        provider.power(state, False)
        assert [one.name for one in provider.owned()] == [name] and provider.nodes()[0].images
        provider.destroy(name, state)

        assert provider.owned() == []


def test_a_changed_certificate_is_refused_before_anything_is_said(pve: ProxmoxLab) -> None:
    with Simulator(world(), latencies="fast") as sim:
        access = Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file)
        known = _copied(sim.ca_file)
        sim.faults.change_certificate()
        provider = pve.provider(
            client=Client(Access(access.urls, access.token_id, access.token_secret, known))
        )
        before = len(sim.calls)

        with pytest.raises(Refused, match=r"certificate of 127\.0\.0\.1:.*DAAS_PROXMOX_CA_FILE"):
            provider.owned()

        assert len(sim.calls) == before


def _copied(path: str) -> str:
    with open(path) as file, open(f"{path}.before", "w") as copy:
        copy.write(file.read())
    return f"{path}.before"
