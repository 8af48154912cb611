"""One suite for all hypervisors. Each test gets a `lab`: a hypervisor, and ways to do by hand what
the contract has no call for. DAAS_CONTRACT=lxd|incus|proxmox|simulated runs that one alone, and
fails where it is not there; otherwise what is not there is skipped."""

import os
from collections.abc import Iterator

import pytest

from contract.labs import Lab, NotHere, SimulatedLab
from contract.lxd_lab import LxdLab
from contract.proxmox_lab import ProxmoxLab

KINDS = {
    "simulated": SimulatedLab,
    "lxd": lambda: LxdLab(("/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket")),
    "proxmox": ProxmoxLab,
    "incus": lambda: LxdLab(("/var/lib/incus/unix.socket", "/run/incus/unix.socket")),
}
WANTED = os.environ.get("DAAS_CONTRACT")
CHOSEN = [WANTED] if WANTED else ["simulated", "lxd", "proxmox"]


@pytest.fixture(scope="session", params=CHOSEN)
def one_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    try:
        lab = KINDS[request.param]()
    except NotHere as error:
        if WANTED:
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield lab
    lab.close()


@pytest.fixture
def lab(one_lab: Lab) -> Iterator[Lab]:
    yield one_lab
    one_lab.clean()


@pytest.fixture
def lxd(lab: Lab) -> LxdLab:
    if not isinstance(lab, LxdLab):
        pytest.skip(f"{type(lab).__name__} has no guests and no API")
    return lab


@pytest.fixture
def pve(lab: Lab) -> ProxmoxLab:
    if not isinstance(lab, ProxmoxLab):
        pytest.skip(f"{type(lab).__name__} is no cluster of Proxmox VE")
    return lab
