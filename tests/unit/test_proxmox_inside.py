"""How a build gets into its builder: what its CD says, and how SSH is called."""

import io
import threading
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml

from daas import process
from daas.errors import Refused, Stopped
from daas.providers import playbook
from daas.providers.base import silent
from daas.providers.playbook import Host
from daas.providers.proxmox import inside
from daas.providers.proxmox.inside import OverSsh
from daas.providers.proxmox.seed import Seed

MAC = "BC:24:11:00:00:01"
PRIVATE, PUBLIC = playbook.key_pair()


def seed(**more: Any) -> Seed:
    return Seed(
        name="bake-tiny-1",
        mac=MAC,
        login_key="ssh-ed25519 AAAA ours",
        host_key=PRIVATE,
        host_public_key=PUBLIC,
        **more,
    )


def told(one: Seed, file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(one.files()[file])
    return found


def test_the_cd_is_what_cloud_init_looks_for() -> None:
    disc = pycdlib.PyCdlib()
    disc.open_fp(io.BytesIO(seed().iso()))

    names = {
        child.rock_ridge.name().decode()
        for child in disc.list_children(rr_path="/")
        if child.rock_ridge and not child.is_dot() and not child.is_dotdot()
    }
    content = io.BytesIO()
    disc.get_file_from_iso_fp(content, rr_path="/user-data")

    assert disc.pvd.volume_identifier.decode().strip() == "cidata"
    assert names == {"user-data", "meta-data", "network-config"}
    assert content.getvalue().startswith(b"#cloud-config\n")


def test_it_brings_a_host_key_that_we_know_a_way_in_and_the_agent() -> None:
    data = told(seed(), "user-data")

    assert data["ssh_keys"] == {"ed25519_private": PRIVATE.decode(), "ed25519_public": PUBLIC}
    assert data["ssh_authorized_keys"] == ["ssh-ed25519 AAAA ours"]
    assert data["users"] == [] and data["disable_root"] is False
    assert data["packages"] == ["qemu-guest-agent"]


def test_the_network_is_dhcp_or_the_address_that_was_given() -> None:
    dhcp = told(seed(), "network-config")["ethernets"]["card"]
    given = seed(address="10.0.0.9", gateway="10.0.0.1/24", resolvers=("10.0.0.2",))
    static = told(given, "network-config")["ethernets"]["card"]

    assert dhcp == {"match": {"macaddress": MAC.lower()}, "dhcp4": True}
    assert static["addresses"] == ["10.0.0.9/24"]
    assert static["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]
    assert static["nameservers"] == {"addresses": ["10.0.0.2"]}


def test_no_private_key_is_in_what_a_log_could_print() -> None:
    assert "PRIVATE" not in repr(seed())


# ---- SSH


SSH = """#!/bin/sh
printf '%s\\n' "$@" >>{folder}/args
cat >>{folder}/stdin
[ -e {folder}/fails ] || exit 0
echo "the last word" >&2
exit "$(cat {folder}/fails)"
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, which writes down how it was called."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(SSH.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def host() -> Host:
    return Host("bake-tiny-1", "10.0.0.9", PUBLIC)


def test_only_the_host_key_that_we_made_is_accepted(ssh: Path) -> None:
    OverSsh(ssh).settle(host(), ssh, silent)

    args = (ssh / "args").read_text().splitlines()
    assert "StrictHostKeyChecking=yes" in args and "GlobalKnownHostsFile=/dev/null" in args
    assert f"UserKnownHostsFile={ssh}/known_hosts" in args and "root@10.0.0.9" in args
    assert (ssh / "known_hosts").read_text() == f"10.0.0.9 {PUBLIC}\n"


def test_the_script_goes_by_stdin_and_not_into_a_process_list(ssh: Path) -> None:
    OverSsh(ssh).seal(host(), ssh, silent)

    assert "machine-id" in (ssh / "stdin").read_text()
    assert "machine-id" not in (ssh / "args").read_text()


def test_a_seal_that_fails_says_what_the_guest_said_last(ssh: Path) -> None:
    (ssh / "fails").write_text("1")

    with pytest.raises(Refused, match="cannot be sealed: the last word"):
        OverSsh(ssh).seal(host(), ssh, silent)


def test_nobody_who_answers_is_a_reason_and_what_to_look_at(
    ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "ANSWERS_S", 0.1)
    monkeypatch.setattr(inside, "LOOK_S", 0.05)
    (ssh / "fails").write_text("255")

    with pytest.raises(Refused, match=r"10\.0\.0\.9: the last word.*network"):
        OverSsh(ssh).settle(host(), ssh, silent)


def test_waiting_for_an_answer_ends_when_the_step_is_told_to_stop(ssh: Path) -> None:
    (ssh / "fails").write_text("255")
    told_to = threading.Event()
    told_to.set()
    token = process.stop.set(told_to)

    try:
        with pytest.raises(Stopped):
            OverSsh(ssh).settle(host(), ssh, silent)
    finally:
        process.stop.reset(token)
