"""One run of `playbooks/deploy-desktop.yml` over SSH against one machine. Nothing of it stays: the
key, the inventory and the variables are files of one folder that goes with the build."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas import process
from daas.errors import CommandFailed
from daas.providers.base import Progress

PLAYBOOK = "playbooks/deploy-desktop.yml"
GROUP = "ephemeral_desktop"
RUN_S = 1800.0
CONNECT_S = 5
SOCKET_PATH = 70  # characters that leave room, of 108, for what ssh appends


@dataclass(frozen=True)
class Host:
    """A machine that answers SSH. `public_key` is its host key: nobody else's is accepted."""

    name: str
    address: str
    public_key: str


def make_key(folder: Path) -> str:
    """A private key exists as `folder`/key; return the public one, as authorized_keys wants it."""
    private, public = key_pair()
    _write(folder / "key", private)
    return public


def key_pair() -> tuple[bytes, str]:
    """Return a new key of ours: the private half as OpenSSH keeps it, and the public one."""
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return text, private.public_key().public_bytes(*openssh).decode()


def run(
    ansible_dir: Path,
    folder: Path,
    host: Host,
    variables: Mapping[str, Any],
    tags: str,
    progress: Progress,
) -> None:
    """The tasks with these tags are done on `host`. CommandFailed, with what Ansible said last."""
    _write(folder / "known_hosts", _known(host))
    _write(folder / "inventory.yml", yaml.safe_dump(_inventory(folder, host)).encode())
    _write(folder / "variables.yml", yaml.safe_dump(dict(variables)).encode())
    args = [_program(), "--inventory", str(folder / "inventory.yml"), "--tags", tags]
    args += ["--extra-vars", f"@{folder}/variables.yml", PLAYBOOK]
    env = _env(ansible_dir, folder)
    process.run(args, RUN_S, cwd=ansible_dir, env=env, on_line=progress, is_bound=True)


def over_ssh(folder: Path, host: Host, script: str, timeout_s: float, progress: Progress) -> str:
    """Run a shell script as root on `host`; its output. CommandFailed: 255 if nobody answered."""
    _write(folder / "known_hosts", _known(host))
    args = ["ssh", *_ssh_options(folder), "-i", str(folder / "key"), f"root@{host.address}"]
    args += ["sh", "-s"]
    return process.run(args, timeout_s, stdin=script.encode(), on_line=progress, is_bound=True)


def _known(host: Host) -> bytes:
    return f"{host.address} {host.public_key.strip()}\n".encode()


def _ssh_options(folder: Path) -> list[str]:
    given = (
        f"UserKnownHostsFile={folder}/known_hosts",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "LogLevel=ERROR",
        f"ConnectTimeout={CONNECT_S}",
    )
    return [word for one in given for word in ("-o", one)]


def _program() -> str:
    """Ansible is a dependency of ours, so it lies beside the Python that runs us."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if not found:
        raise CommandFailed("ansible-playbook (not found: install the dependencies of daas)", 127)
    return found


def _inventory(folder: Path, host: Host) -> dict[str, Any]:
    options = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes"
    about = {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(folder / "key"),
        "ansible_ssh_common_args": f"{options} -o GlobalKnownHostsFile=/dev/null",
    }
    return {GROUP: {"hosts": {host.name: about}}}


def _env(ansible_dir: Path, folder: Path) -> dict[str, str]:
    env = {
        "ANSIBLE_CONFIG": str(ansible_dir.resolve() / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "ssh"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "PYTHONUNBUFFERED": "1",
        "LC_ALL": "C.UTF-8",
    }
    if len(str(folder / "ssh")) > SOCKET_PATH:  # then each task opens a connection of its own
        env["ANSIBLE_SSH_ARGS"] = "-o ControlMaster=no -o ControlPath=none"
    return env


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
