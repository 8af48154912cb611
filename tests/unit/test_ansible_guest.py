"""The shell script that makes a copy of the template one person's desktop, run on a folder that
stands for the guest's root."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from daas.providers.proxmox.guest import bundle

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


def guest(root: Path, verb: str, stdin: str = "", *more: str) -> subprocess.CompletedProcess[str]:
    """Run one verb. What only root may do, or what is not installed everywhere, is recorded."""
    programs = root.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("chown", "chgrp", "hostname", "chpasswd", "systemctl"):
        fake = programs / name
        fake.write_text(f'#!/bin/sh\necho "{name} $*" >>"{root.parent}/calls"\ncat >/dev/null\n')
        fake.chmod(0o755)
    install = programs / "install"  # install -m MODE [-g GROUP] FROM TO
    install.write_text('#!/bin/sh\nmode=$2\nshift $(($# - 2))\ncp "$1" "$2"\nchmod $mode "$2"\n')
    install.chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "DAAS_GUEST_ROOT": str(root)}
    shell = shutil.which("dash") or "sh"  # the guest's sh
    args = [shell, str(GUEST), verb, *more]
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


@pytest.fixture
def sealed(root: Path) -> Path:
    """A copy of a template whose files come after its boot, booted."""
    (root / "var/lib/daas/personal").rmdir()
    assert guest(root, "seal", "", "await").returncode == 0
    assert guest(root, "firstboot").returncode == 0
    return root


FILES = {
    "hostname": b"desktop-abc123\n",
    "tls.key": b"private\nkey: with a colon\n",
    "tls.crt": b"certificate\n",
    "ssh_host_ed25519_key": b"host key\n",
    "ssh_host_ed25519_key.pub": b"public host key\n",
    "user": f"ada:{HASH}\n".encode(),
}


def test_a_copy_that_awaits_its_files_boots_without_opening_rdp(sealed: Path) -> None:
    """xrdp's units have the condition that `done` exists."""
    assert not (sealed / "var/lib/daas/done").exists()
    assert (sealed / "etc/xrdp/key.pem").read_text() == ""
    for unit in ("xrdp", "xrdp-sesman"):
        text = (GUEST.parent / f"systemd/{unit}.conf").read_text()
        assert "ConditionPathExists=/var/lib/daas/done" in text


def test_the_files_that_come_later_make_it_one_persons_desktop_and_open_rdp(sealed: Path) -> None:
    done = guest(sealed, "personalize", bundle(FILES))

    assert done.returncode == 0, done.stderr
    assert (sealed / "etc/xrdp/cert.pem").read_text() == "certificate\n"
    assert (sealed / "etc/xrdp/key.pem").read_text() == FILES["tls.key"].decode()
    assert (sealed / "etc/ssh/ssh_host_ed25519_key").read_text() == "host key\n"
    assert (sealed / "etc/hostname").read_text() == "desktop-abc123\n"
    assert f"ada:{HASH}:" in (sealed / "etc/shadow").read_text()
    assert (sealed / "var/lib/daas/personal").stat().st_mode & 0o777 == 0o700
    assert (sealed / "var/lib/daas/personal/tls.key").stat().st_mode & 0o777 == 0o600
    calls = (sealed.parent / "calls").read_text()
    assert "systemctl --no-block start xrdp-sesman.service xrdp.service" in calls


def test_files_that_come_twice_change_nothing_and_restart_nothing(sealed: Path) -> None:
    guest(sealed, "personalize", bundle(FILES))
    before = content(sealed)
    (sealed.parent / "calls").unlink()

    again = guest(sealed, "personalize", bundle({**FILES, "tls.crt": b"another\n"}))

    assert again.returncode == 0 and content(sealed) == before
    calls = (sealed.parent / "calls").read_text().splitlines()
    assert calls == ["systemctl --no-block start xrdp-sesman.service xrdp.service"]


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_files_that_did_not_come_whole_open_nothing(sealed: Path, cut: int) -> None:
    refused = guest(sealed, "personalize", bundle(FILES)[:cut])

    assert refused.returncode == 1 and "not complete" in refused.stderr
    assert not (sealed / "var/lib/daas/done").exists()
    assert guest(sealed, "personalize", bundle(FILES)).returncode == 0
    assert (sealed / "etc/xrdp/cert.pem").read_text() == "certificate\n"


@pytest.mark.parametrize("name", ["../../etc/passwd", "", ".hidden", "a/b", "a b"])
def test_no_file_lands_elsewhere(sealed: Path, name: str) -> None:
    before = content(sealed)

    refused = guest(sealed, "personalize", f"{name}:root\n.\n")

    assert refused.returncode == 1 and "not a file name" in refused.stderr
    assert content(sealed) == before


def test_without_a_certificate_rdp_stays_closed(sealed: Path) -> None:
    refused = guest(sealed, "personalize", bundle({"hostname": b"desktop-abc123\n"}))

    assert refused.returncode == 1 and "no tls.key" in refused.stderr
    assert not (sealed / "var/lib/daas/done").exists()


def test_sealing_again_without_await_gives_a_template_that_makes_its_own(sealed: Path) -> None:
    assert guest(sealed, "seal").returncode == 0

    assert not (sealed / "var/lib/daas/await").exists()
