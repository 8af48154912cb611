"""deploy/systemd/orchestrator-daas.service: what it starts, with which PATH and which powers."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from daas.cli.doctor import v1
from daas.cli.doctor.host import PROGRAMS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd" / v1.UNIT


class Repeating(dict):
    """A unit may say the same key twice."""

    def __setitem__(self, key, value):
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


@pytest.fixture(scope="module")
def service():
    parser = configparser.RawConfigParser(strict=False, dict_type=Repeating)
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def test_it_starts_everything_by_one_command(service):
    assert service["ExecStart"].endswith("/daas serve")
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == "2"  # what `daas` ends with on wrong settings


def test_it_waits_longer_than_the_supervisor_needs_to_end(service):
    assert int(service["TimeoutStopSec"]) > 6


def test_its_path_has_what_version_1_lacked(service):
    path = v1.path_of_unit(UNIT.read_text()).split(":")

    assert {"/usr/bin", "/usr/local/bin", "/usr/sbin"} <= set(path)
    assert path[0].endswith("/.venv/bin")


def test_it_may_speak_to_lxd_and_to_the_database(service):
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} == set(service["RestrictAddressFamilies"].split())


def test_it_writes_nowhere_but_in_its_own_folder(service):
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectory"] == "daas" and service["StateDirectoryMode"] == "0700"
    assert service["NoNewPrivileges"] == "yes"


def test_it_keeps_only_the_powers_that_are_used(service):
    kept = set(service["CapabilityBoundingSet"].split())

    assert {"CAP_CHOWN", "CAP_SYS_CHROOT"} <= kept
    assert not kept & {"CAP_NET_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_PTRACE"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_finds_no_fault_in_it(tmp_path):
    # Its folder is not there on a machine that runs tests: any program stands for ours.
    text = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    copy = tmp_path / v1.UNIT
    copy.write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    ours = [line for line in done.stderr.splitlines() if v1.UNIT in line]
    assert (done.returncode, ours) == (0, [])


def test_what_builds_need_is_among_the_packages():
    packages = (ROOT / "deploy/packages.txt").read_text().split()

    assert set(PROGRAMS.values()) <= set(packages)
