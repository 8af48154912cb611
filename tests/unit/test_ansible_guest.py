"""The shell script that makes a copy of the template one person's desktop, run on a folder that
stands for the guest's root."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GUEST = Path(__file__).resolve().parents[2] / "ansible/roles/desktop-config/files/guest"
HASH = "$2b$12$abcdefghijklmnopqrstuuJ1e5bJgOLyD3bmJ9V0o1cV7pNbWqK2e"
PASSWD = "root:x:0:0:root:/root:/bin/bash\nxrdp:x:101:101::/run/xrdp:/usr/sbin/nologin\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A template's root: nobody in it but the system."""
    root = tmp_path / "root"
    for folder in (
        "etc/ssh",
        "etc/xrdp",
        "etc/ssl/private",
        "etc/skel",
        "home",
        "var/lib/daas/personal",
        "var/log",
        "proc/sys/kernel",
        "root/.ssh",
        "tmp",
    ):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text("root:x:0:\nxrdp:x:101:\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (root / "etc/gshadow").write_text("root:*::\n")
    (root / "etc/skel/.profile").write_text("# mine\n")
    (root / "proc/sys/kernel/hostname").write_text("desktop-abc123\n")
    return root


@pytest.fixture
def personal(root: Path) -> Path:
    """All that a worker hands over for Ada."""
    personal = root / "var/lib/daas/personal"
    (personal / "hostname").write_text("desktop-abc123\n")
    (personal / "tls.key").write_text("private\n")
    (personal / "tls.crt").write_text("certificate\n")
    (personal / "ssh_host_ed25519_key").write_text("host key\n")
    (personal / "ssh_host_ed25519_key.pub").write_text("public host key\n")
    (personal / "user").write_text(f"ada:{HASH}\n")
    return personal


def guest(root: Path, verb: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one verb. What only root may do, or what is not installed everywhere, is recorded."""
    programs = root.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("chown", "chgrp", "hostname", "chpasswd"):
        fake = programs / name
        fake.write_text(f'#!/bin/sh\necho "{name} $*" >>"{root.parent}/calls"\ncat >/dev/null\n')
        fake.chmod(0o755)
    install = programs / "install"  # install -m MODE [-g GROUP] FROM TO
    install.write_text('#!/bin/sh\nmode=$2\nshift $(($# - 2))\ncp "$1" "$2"\nchmod $mode "$2"\n')
    install.chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "DAAS_GUEST_ROOT": str(root)}
    shell = shutil.which("dash") or "sh"  # the guest's sh
    args = [shell, str(GUEST), verb]
    return subprocess.run(args, env=env, input=stdin, capture_output=True, text=True, check=False)


def content(root: Path) -> dict[str, str]:
    return {str(f.relative_to(root)): f.read_text() for f in root.rglob("*") if f.is_file()}


def test_the_first_boot_makes_a_copy_one_persons_desktop(root: Path, personal: Path) -> None:
    done = guest(root, "firstboot")

    assert done.returncode == 0, done.stderr
    assert (root / "etc/hostname").read_text() == "desktop-abc123\n"
    assert "127.0.1.1 desktop-abc123" in (root / "etc/hosts").read_text()
    assert (root / "etc/ssh/ssh_host_ed25519_key").read_text() == "host key\n"
    assert (root / "etc/xrdp/cert.pem").read_text() == "certificate\n"
    assert (root / "etc/xrdp/key.pem").stat().st_mode & 0o777 == 0o640
    assert "ada:x:1000:1000:ada:/home/ada:/bin/bash\n" in (root / "etc/passwd").read_text()
    assert f"ada:{HASH}:" in (root / "etc/shadow").read_text()
    assert (root / "home/ada/.profile").exists()
    assert (root / "home/ada").stat().st_mode & 0o077 == 0
    assert (root / "var/lib/daas/done").exists()


def test_a_second_first_boot_changes_nothing(root: Path, personal: Path) -> None:
    guest(root, "firstboot")
    before = content(root)

    assert guest(root, "firstboot").returncode == 0
    assert content(root) == before


def test_a_first_boot_that_died_half_way_is_completed(root: Path, personal: Path) -> None:
    """All lines but the one in passwd, which is written last."""
    guest(root, "firstboot")
    whole = content(root)
    (root / "etc/passwd").write_text(PASSWD)

    assert guest(root, "firstboot").returncode == 0
    assert content(root) == whole


def test_without_a_local_user_nobody_is_made(root: Path, personal: Path) -> None:
    (personal / "user").unlink()

    assert guest(root, "firstboot").returncode == 0
    assert (root / "etc/passwd").read_text() == PASSWD


def test_a_warm_desktop_gets_its_owner_once(root: Path) -> None:
    assert guest(root, "assign", f"ada:{HASH}\n").returncode == 0
    assert guest(root, "assign", f"ada:{HASH}\n").returncode == 0

    assert (root / "etc/passwd").read_text().count("\nada:") == 1
    refused = guest(root, "assign", f"ben:{HASH}\n")
    assert refused.returncode == 1 and "belongs to ada already" in refused.stderr
    assert "ben" not in (root / "etc/passwd").read_text()


@pytest.mark.parametrize(
    "line",
    [
        f"root:{HASH}",
        f"xrdp:{HASH}",
        f"Ada:{HASH}",
        f"../x:{HASH}",
        f"a b:{HASH}",
        f"{'a' * 33}:{HASH}",
        f":{HASH}",
        "ada:plain",
        "ada:$2b$x:0:0",
        "ada",
        "",
    ],
)
def test_no_line_makes_anything_but_a_user(root: Path, line: str) -> None:
    before = content(root)

    refused = guest(root, "assign", line + "\n")

    assert refused.returncode == 1 and refused.stderr.startswith("guest: ")
    assert HASH not in refused.stderr
    assert content(root) == before


def test_a_sealed_template_holds_nothing_personal(root: Path, personal: Path) -> None:
    guest(root, "firstboot")
    (root / "etc/machine-id").write_text("0123456789abcdef\n")
    (root / "root/.ssh/authorized_keys").write_text("ssh-ed25519 the builder's\n")
    (root / "var/log/xrdp.log").write_text("a line\n")

    assert guest(root, "seal").returncode == 0

    assert (root / "etc/machine-id").read_text() == ""
    assert (root / "var/log/xrdp.log").read_text() == ""
    assert (root / "etc/xrdp/key.pem").read_text() == ""
    for gone in (
        "etc/ssh/ssh_host_ed25519_key",
        "etc/xrdp/rsakeys.ini",
        "etc/hostname",
        "root/.ssh",
        "var/lib/daas/done",
    ):
        assert not (root / gone).exists(), gone
