"""What the playbook promises: v1.0's names, its tags, and variables that reach the files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = ROOT / "ansible"
ROLE = ANSIBLE / "roles/desktop-config"


def listed_tasks(folder: Path, tags: str) -> list[str]:
    env = {
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    inventory = folder / "inventory.yml"
    inventory.write_text("ephemeral_desktop: {hosts: {desktop-abc123: {}}}\n")
    args = [program, "-i", str(inventory), "--list-tasks", "--tags", tags]
    done = subprocess.run(
        [*args, "playbooks/deploy-desktop.yml"],
        cwd=ANSIBLE,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return re.findall(r"^ {6}(\S.*?)\tTAGS: ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "tags, present, absent",
    [
        (
            "ad",
            {"ad-join : The packages of a domain member are there"},
            {"desktop-config : The packages are there"},
        ),
        (
            "desktop",
            {"desktop-config : RDP is configured", "desktop-config : The desktop is its own"},
            {"ad-join : The packages of a domain member are there"},
        ),
        (
            "bake",
            {
                "ad-join : The packages of a domain member are there",
                "desktop-config : The packages are there",
                "desktop-config : Nothing is left that only costs time and memory",
            },
            {"desktop-config : The desktop is its own"},
        ),
        (
            "personalize",
            {
                "desktop-config : The inactivity monitor is there",
                "desktop-config : The desktop is its own",
            },
            {"desktop-config : The packages are there", "desktop-config : RDP is configured"},
        ),
    ],
)
def test_each_tag_runs_its_own_tasks_and_no_others(
    tmp_path: Path, tags: str, present: set[str], absent: set[str]
) -> None:
    tasks = set(listed_tasks(tmp_path, tags))

    assert present <= tasks
    assert not absent & tasks


def test_an_unknown_tag_runs_nothing(tmp_path: Path) -> None:
    assert listed_tasks(tmp_path, "nosuchtag") == []


def test_the_files_of_version_1_0_keep_their_names() -> None:
    templates = {file.name for file in (ROLE / "templates").iterdir()}
    play = yaml.safe_load((ANSIBLE / "playbooks/deploy-desktop.yml").read_text())[0]
    installation = yaml.safe_load((ANSIBLE / "group_vars/all/main.yml").read_text())

    assert {
        "xrdp.ini.j2",
        "pam_mount.conf.xml.j2",
        "inactivity-monitor.sh.j2",
        "inactivity-monitor.service.j2",
    } <= templates
    assert play["hosts"] == "ephemeral_desktop"
    assert [(one["role"], one["tags"]) for one in play["roles"]] == [
        ("ad-join", ["ad"]),
        ("desktop-config", ["desktop"]),
    ]
    assert "vm_name" in play["vars"] and "orchestrator_url" in installation


def test_every_file_a_task_copies_is_there() -> None:
    for tasks in (ROLE / "tasks").glob("*.yml"):
        for name in re.findall(r"src: \"?([\w./-]+)\"?", tasks.read_text()):
            assert (ROLE / "files" / name).exists() or (ROLE / "templates" / name).exists(), name


def test_xfce_starts_all_its_parts_at_once_and_without_compositing() -> None:
    folder = ROLE / "files/xfce4/xfconf/xfce-perchannel-xml"
    session, windows = (
        (folder / "xfce4-session.xml").read_text(),
        (folder / "xfwm4.xml").read_text(),
    )

    assert re.findall(r'_Priority" type="int" value="(\d+)"', session) == ["15"] * 4
    assert 'name="use_compositing" type="bool" value="false"' in windows


def test_the_look_does_not_depend_on_whether_the_settings_daemon_is_up_yet() -> None:
    """Catches: a panel that starts before xfsettingsd, and keeps the wrong theme for good."""
    xfce = (ROLE / "files/xfce4/xfconf/xfce-perchannel-xml/xsettings.xml").read_text()
    gtk = (ROLE / "files/gtk-settings.ini").read_text()

    for theirs, ours in (("ThemeName", "theme"), ("IconThemeName", "icon-theme")):
        value = re.findall(f'name="{theirs}" type="string" value="([^"]+)"', xfce)
        assert f"gtk-{ours}-name={value[0]}\n" in gtk
