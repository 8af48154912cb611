"""docs/howto/connect-proxmox.md, typed as it stands: an empty machine, a simulated cluster, real
commands, real Terraform with its provider. What is inside the template's builder is a double: an
`ssh` that says yes, and a playbook without tasks."""

import itertools
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pve_simulator import Simulator
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

from daas.cli.doctor import privileges
from daas.providers.proxmox.client import Access, Client
from e2e.product import free_port
from support.pveum import Shell

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/howto/connect-proxmox.md").read_text()
BLOCK = re.compile(r"<!-- (?P<mark>[^>]+) -->\n```\w+\n(?P<text>.*?)```", re.S)
MIRROR = ROOT / "build/tf-mirror"
GUESTS = "support.guests:RdpGuest"
# Of VMIDs: guests have an address of this machine by it, and keep it for as long as we run.
RANGES = itertools.count(27000, 20)
OF_THIS_MACHINE = ("clock", "disk")  # nothing that the page is about
PLAYBOOK = "- hosts: ephemeral_desktop\n  gather_facts: false\n  tasks: []\n"


def blocks(*marks: str) -> list[str]:
    """What the page says under these marks, in its order."""
    return [found["text"] for found in BLOCK.finditer(PAGE) if found["mark"] in marks]


class Newcomer:
    """Somebody with the page, an empty machine in `folder`, and a cluster."""

    def __init__(self, folder: Path, sim: Simulator, major: int, first: int):
        self.folder, self.sim, self.major, self.first = folder, sim, major, first
        self.etc, self.port = folder / "etc", free_port()
        root = Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file)
        self.node = Shell(Client(root))
        self._serve: subprocess.Popen[bytes] | None = None
        self._make_machine()

    def connect(self, settings: str | None = None) -> None:
        """Steps 1 to 3."""
        for text in blocks(f"node {self.major}", "node"):
            self.node.run(text)
        self.write_token(self.node.secrets["daas@pve!orchestrator"])
        self.write_settings(settings or blocks("settings")[0])

    def write_token(self, secret: str) -> None:
        paste = blocks("here")[0]
        assert "proxmox-token" in paste
        self.shell(paste, secret + "\n")

    def write_settings(self, text: str) -> None:
        (self.etc / "daas.env").write_text(self._here(text) + self._of_this_test())

    def shell(self, script: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """The commands of the page, on the orchestrator's machine."""
        return subprocess.run(
            ["bash", "-ec", self._here(script)],
            input=stdin,
            env=self._environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def doctor(self) -> dict[str, str]:
        """What it complains of: the result and what is said, by check."""
        done = self.shell("daas doctor --json")
        assert done.stdout, done.stderr
        said = json.loads(done.stdout)
        return {
            one["id"]: f"{one['result']}: {one['message']} → {one['remedy']}"
            for one in said
            if one["result"] != "ok" and one["id"] not in OF_THIS_MACHINE
        }

    def serve(self) -> None:
        with (self.folder / "serve.log").open("ab") as log:
            self._serve = subprocess.Popen(
                ["bash", "-ec", f"exec {blocks('serve')[0]}"],
                env=self._environment(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(200):
            if self.shell("daas session list").returncode == 0:
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "serve.log").read_text()[-3000:])

    def leave(self) -> None:
        if self._serve:
            self._serve.send_signal(signal.SIGTERM)
            self._serve.wait(30)

    def _make_machine(self) -> None:
        self.etc.mkdir()
        (self.etc / "pve-root-ca.pem").write_bytes(Path(self.sim.ca_file).read_bytes())
        programs = {
            "daas": f'#!/bin/sh\nexec {sys.executable} -m daas.cli "$@"\n',
            "ssh": "#!/bin/sh\ncat >/dev/null\n",
        }
        for name, text in programs.items():
            file = self.folder / "bin" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        (self.folder / "ansible/playbooks").mkdir(parents=True)
        (self.folder / "ansible/ansible.cfg").write_text("[defaults]\n")
        (self.folder / "ansible/playbooks/deploy-desktop.yml").write_text(PLAYBOOK)

    def _here(self, text: str) -> str:
        named = {"https://pve1.example.com:8006": self.sim.url, "/etc/daas": str(self.etc)}
        for word, here in named.items():
            text = text.replace(word, here)
        return text

    def _of_this_test(self) -> str:
        """What a machine of one's own has by default, and this one must not touch."""
        given = {
            "DAAS_DATA_DIR": self.folder / "data",
            "ORCHESTRATOR_PORT": self.port,
            "ANSIBLE_DIR": self.folder / "ansible",
            "DAAS_TF_MIRROR": MIRROR,
            "DAAS_PROXMOX_VMIDS": f"{self.first}-{self.first + 19}",
        }
        return "".join(f"{name}={value}\n" for name, value in given.items())

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "DAAS_ENV_FILE": str(self.etc / "daas.env"),
            "DAAS_URL": f"http://127.0.0.1:{self.port}",
            "PYTHONPATH": str(ROOT / "tests"),
        }


def world(version: str) -> World:
    config = {
        "name": "ubuntu-22.04-template",
        "template": 1,
        "agent": "1",
        "scsihw": "virtio-scsi-pci",
        "scsi0": "local:9000/base-9000-disk-0.qcow2,size=8G",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    }
    return World(
        version=version,
        nodes=[NodeSpec("pve1", cpus=16, memory_mib=65536)],
        storages=[StorageSpec("local", content=["images", "iso", "vztmpl", "backup"])],
        vms=[VmSpec(9000, "pve1", config)],
    )


@contextmanager
def newcomer(folder: Path, version: str = "8.4.21") -> Iterator[Newcomer]:
    assert MIRROR.is_dir(), "deploy/terraform-tools makes build/tf-mirror"
    first = next(RANGES)
    guests = {"kind": GUESTS, "awaiting": [9000, first + 19]}
    with Simulator(world(version), latencies="fast", guests=guests) as sim:
        made = Newcomer(folder, sim, int(version[0]), first)
        try:
            yield made
        finally:
            made.leave()


def run_step(who: Newcomer, text: str) -> Any:
    done = who.shell(text)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.parametrize("version", ["8.4.21", "9.0.3"])
def test_the_page_leads_from_an_empty_machine_to_a_desktop(tmp_path: Path, version: str) -> None:
    with newcomer(tmp_path, version) as who:
        who.connect()
        _, check, build, first, *_ = blocks("here")
        who.shell(check)  # ends with 1: no worker yet, and no template
        before = who.doctor()
        who.serve()
        run_step(who, build)
        made = run_step(who, first)

        assert set(before) <= {"worker", "template.ubuntu-22.04-xfce"}, before
        assert who.doctor() == {}
        names = [str(vm.config["name"]) for vm in who.sim.cluster.vms.values()]
        assert sum(name.startswith("tmpl-ubuntu-22-04-xfce-1-") for name in names) == 1
        (desktop,) = [name for name in names if name.startswith("desktop-")]
        assert desktop in made.stdout + made.stderr


def test_a_template_of_one_s_own_serves_too(tmp_path: Path) -> None:
    with newcomer(tmp_path) as who:
        who.connect()
        run_step(who, "daas init")
        who.serve()
        (who.folder / "mine.yaml").write_text(blocks("file mine.yaml")[0])
        own = next(text for text in blocks("here") if "mine.yaml" in text)

        run_step(who, own)

        desktops = [
            vm for vm in who.sim.cluster.vms.values() if "desktop-" in str(vm.config["name"])
        ]
        assert len(desktops) == 1 and "base-9000-disk-0" in str(desktops[0].config["scsi0"])
        maintenance = next(text for text in blocks("here") if "maintenance" in text)
        run_step(who, maintenance)


def test_rights_in_a_pool_alone_are_enough(tmp_path: Path) -> None:
    with newcomer(tmp_path) as who:
        common = [line for line in blocks("node")[0].splitlines() if "acl modify" not in line]
        who.node.run("\n".join(common))
        who.node.run(blocks("pool")[0])
        who.write_token(who.node.secrets["daas@pve!orchestrator"])
        who.write_settings(blocks("settings")[0] + "DAAS_PROXMOX_POOL=desks\n")
        _, _, build, first, *_ = blocks("here")
        run_step(who, "daas init")
        who.serve()

        run_step(who, build)
        run_step(who, first)

        assert who.doctor() == {}


# ---- each mistake of a newcomer, and what doctor says of it


MISTAKES = {
    "https-left-out": (
        ("PROXMOX_URL=https://", "PROXMOX_URL=http://"),
        "proxmox.settings",
        "https://",
    ),
    "no-url": (
        ("PROXMOX_URL=https://pve1.example.com:8006", "PROXMOX_URL="),
        "proxmox.settings",
        "",
    ),
    "wrong-port": ((":8006", ":1"), "proxmox.api.127.0.0.1:1", "Nobody answers"),
    "no-ca": (("DAAS_PROXMOX_CA_FILE=/etc/daas/pve-root-ca.pem\n", ""), "proxmox.api", "verified"),
    "ca-elsewhere": (("pve-root-ca.pem", "nowhere.pem"), "proxmox.settings", "there is no file"),
    "token-id-without-name": (("!orchestrator", ""), "proxmox.settings", "USER@REALM!NAME"),
    "token-id-of-another": (("!orchestrator", "!other"), "proxmox.token", "token add"),
    "bridge": (("vmbr0", "vmbr7"), "proxmox.bridge", "vmbr0"),
    "template": (
        ("ubuntu-22.04-xfce", "windows-98"),
        "template.windows-98",
        "There is no template",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_settings_is_caught(tmp_path: Path, mistake: str) -> None:
    (right, wrong), check, said = MISTAKES[mistake]
    with newcomer(tmp_path) as who:
        page = blocks("settings")[0]
        assert right in page
        who.connect(page.replace(right, wrong) if right != ":8006" else page)
        if right == ":8006":
            text = (who.etc / "daas.env").read_text()
            (who.etc / "daas.env").write_text(re.sub(r":\d+\n", ":1\n", text, count=1))
        who.shell("daas init")

        found = who.doctor()

        named = [text for id_, text in found.items() if id_.startswith(check)]
        assert named and said in named[0] and named[0].startswith("fail"), found


def test_a_setting_that_is_misspelt_stops_everything_with_its_name(tmp_path: Path) -> None:
    with newcomer(tmp_path) as who:
        who.connect(blocks("settings")[0].replace("DAAS_PROXMOX_BRIDGE", "DAAS_PROXMOX_BRIGDE"))

        done = who.shell("daas doctor")

        assert done.returncode == 2 and "Did you mean DAAS_PROXMOX_BRIDGE?" in done.stderr


def test_the_role_of_the_other_version_is_refused_or_lacks_what_is_named(tmp_path: Path) -> None:
    with newcomer(tmp_path, "9.0.3") as who:
        old = blocks("node 8")[0].replace("VM.Monitor ", "")
        who.node.run(old)
        who.node.run(blocks("node")[0])
        who.write_token(who.node.secrets["daas@pve!orchestrator"])
        who.write_settings(blocks("settings")[0])
        who.shell("daas init")

        before = who.doctor()["proxmox.privileges"]
        command = re.search(r"On a node: (.*)$", before)
        assert command and "VM.GuestAgent.Unrestricted" in before
        who.node.run(command[1])

        assert "proxmox.privileges" not in who.doctor()


def test_a_token_pasted_with_a_typo_and_one_that_others_can_read(tmp_path: Path) -> None:
    with newcomer(tmp_path) as who:
        who.connect()
        who.shell("daas init")
        secret = (who.etc / "proxmox-token").read_text()
        assert stat.S_IMODE((who.etc / "proxmox-token").stat().st_mode) == 0o600
        (who.etc / "proxmox-token").write_text(secret[:-3])

        assert who.doctor()["proxmox.token"].startswith("fail")


def test_a_forgotten_import_content_is_told_with_the_command_that_helps(tmp_path: Path) -> None:
    with newcomer(tmp_path) as who:
        who.connect()
        who.node.run("pvesm set local --content images,iso,vztmpl,backup")
        who.shell("daas init")

        said = who.doctor()["proxmox.storage.import"]
        who.node.run(re.search(r"pvesm set .*", said)[0])  # type: ignore[index]

        assert "proxmox.storage.import" not in who.doctor()


@pytest.mark.parametrize("mistake", ["no-terraform", "no-mirror", "no-module", "open-tfvars"])
def test_a_mistake_with_terraform_is_caught(tmp_path: Path, mistake: str) -> None:
    module = tmp_path / "module"
    module.mkdir()
    for file in (ROOT / "terraform/ephemeral-bpg").glob("*.tf"):
        (module / file.name).write_text(file.read_text())
    (module / "terraform.tfvars").write_text('ci_user = "daas"\n')
    (module / "terraform.tfvars").chmod(0o644 if mistake == "open-tfvars" else 0o600)
    (tmp_path / "empty").mkdir()
    given = {
        "no-terraform": ("DAAS_TERRAFORM=terrafrom\n", "terraform.program"),
        "no-mirror": (f"DAAS_TF_MIRROR={tmp_path}/empty\n", "terraform.provider"),
        "no-module": (f"TERRAFORM_DIR={tmp_path}/empty\n", "terraform.module"),
        "open-tfvars": (f"TERRAFORM_DIR={module}\n", "terraform.tfvars"),
    }[mistake]
    with newcomer(tmp_path) as who:
        who.connect()
        env = who.etc / "daas.env"
        env.write_text(env.read_text() + given[0])
        who.shell("daas init")

        found = who.doctor()

        assert found[given[1]].startswith("fail"), found


def test_the_page_says_the_privileges_that_doctor_asks_for() -> None:
    for major in (8, 9):
        (text,) = blocks(f"node {major}")
        named = re.search(r'--privs "([^"]+)"', text)
        assert named and named[1].split() == privileges.role(major)
