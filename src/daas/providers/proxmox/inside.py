"""Inside the machine that an image is baked in, by SSH: it is ready, it is a desktop, it has
forgotten everything. The last of the three leaves no way in."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from daas import process
from daas.errors import CommandFailed, Refused, Stopped
from daas.providers import playbook
from daas.providers.base import Progress, silent
from daas.providers.playbook import Host

ANSWERS_S, SETTLES_S, SEAL_S = 300.0, 1200.0, 180.0
LOOK_S = 1.0
# Until then cloud-init installs packages and holds apt's lock. It also fails at what is of no
# matter to us, a locale: the role and the seal make sure of what is.
SETTLE = """
if command -v cloud-init >/dev/null; then
    until [ -e /run/cloud-init/result.json ]; do sleep 1; done # `status --wait` ends at an error
    cloud-init status || true
fi
"""
# What clones do at their first boot they can only do if nothing says that it was done.
SEAL = """
command -v qemu-ga >/dev/null || { echo "it has no qemu-guest-agent" >&2; exit 1; }
/usr/local/lib/daas/guest seal await
cloud-init clean --logs
rm -rf /var/lib/cloud/instance* /var/lib/cloud/data /var/lib/cloud/seed
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init* \
    /etc/systemd/network/10-cloud-init-*.network /etc/udev/rules.d/70-persistent-net.rules
[ ! -s /etc/machine-id ] || { echo "the machine-id is still there" >&2; exit 1; }
[ ! -e /root/.ssh ] || { echo "our key is still there" >&2; exit 1; }
[ -z "$(ls /etc/ssh/ssh_host_* 2>/dev/null)" ] || { echo "host keys are still there" >&2; exit 1; }
fstrim -a 2>/dev/null || true
sync
"""


class Inside(Protocol):
    """What is done in the guest; another one in tests of what is done around it."""

    def settle(self, host: Host, folder: Path, progress: Progress) -> None: ...
    def bake(
        self, host: Host, folder: Path, variables: Mapping[str, Any], progress: Progress
    ) -> None: ...
    def seal(self, host: Host, folder: Path, progress: Progress) -> None: ...


class OverSsh:
    def __init__(self, ansible_dir: Path):
        self._ansible_dir = ansible_dir

    def settle(self, host: Host, folder: Path, progress: Progress) -> None:
        """It lets us in, and its first boot is through."""
        self._await_answer(host, folder)
        progress("builder: cloud-init finishes")
        self._run(host, folder, SETTLE, SETTLES_S, "did not finish its first boot", progress)

    def bake(
        self, host: Host, folder: Path, variables: Mapping[str, Any], progress: Progress
    ) -> None:
        progress("builder: Ansible")
        playbook.run(self._ansible_dir, folder, host, variables, "bake", progress)

    def seal(self, host: Host, folder: Path, progress: Progress) -> None:
        """It holds nothing that two desktops must not share, and nobody can log in."""
        progress("seal: forgetting what must not be shared")
        self._run(host, folder, SEAL, SEAL_S, "cannot be sealed", progress)

    def _await_answer(self, host: Host, folder: Path) -> None:
        deadline = time.monotonic() + ANSWERS_S
        while True:
            try:
                playbook.over_ssh(folder, host, "true", 30.0, silent)
                return
            except CommandFailed as error:
                if time.monotonic() > deadline:
                    raise Refused(
                        f"The builder does not let us in by SSH at {host.address}: "
                        f"{_last_line(error)}. Can this machine reach the desktops' network, and "
                        "has nobody else that address?"
                    ) from error
            if process.stop.get().wait(LOOK_S):
                raise Stopped(host.name)

    @staticmethod
    def _run(
        host: Host, folder: Path, script: str, timeout_s: float, what: str, progress: Progress
    ) -> None:
        try:
            playbook.over_ssh(folder, host, f"set -eu\n{script}", timeout_s, progress)
        except CommandFailed as error:
            raise Refused(f"The builder {what}: {_last_line(error)}") from error


def _last_line(error: CommandFailed) -> str:
    lines = error.tail.strip().splitlines()
    return lines[-1][:300] if lines else str(error)
