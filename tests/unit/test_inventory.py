"""The dynamic inventory, as Ansible itself runs it: from state files; `inventory: …` on stderr."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "ansible/inventory/inventory.yaml"
SECRET = "hunter2-in-the-state"
LONG_AGO = 1_700_000_000


def telmate(name: str, **about: Any) -> dict[str, Any]:
    attributes = {
        "name": name,
        "target_node": "pve1",
        "vmid": 400,
        "default_ipv4_address": "",
        "ssh_host": "",
        "ipconfig0": "ip=dhcp",
        "cipassword": SECRET,
        "sshkeys": SECRET,
    }
    return resource("proxmox_vm_qemu", {**attributes, **about})


def bpg(name: str, **about: Any) -> dict[str, Any]:
    attributes = {
        "name": name,
        "node_name": "pve2",
        "vm_id": 401,
        "ipv4_addresses": [],
        "mac_addresses": [],
        "network_device": [{"mac_address": "BC:24:11:FA:22:C2"}],
        "initialization": [{"user_account": [{"password": SECRET, "username": "ada"}]}],
    }
    return resource("proxmox_virtual_environment_vm", {**attributes, **about})


def resource(kind: str, attributes: dict[str, Any]) -> dict[str, Any]:
    instance = {"schema_version": 0, "attributes": attributes, "private": SECRET}
    return {"mode": "managed", "type": kind, "name": "desktop", "instances": [instance]}


def write(path: Path, *resources: dict[str, Any], **other: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    outputs = {"password": {"value": SECRET, "type": "string", "sensitive": True}}
    state = {"version": 4, "serial": 7, "outputs": outputs, "resources": list(resources), **other}
    path.write_text(json.dumps(state))
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "ANSIBLE_HOME": str(tmp_path / "home/ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        "DAAS_INVENTORY_PYTHON": "/bin/false",  # the database is another test's
        "DAAS_ENV_FILE": "/nonexistent",
        "DAAS_INVENTORY_STATES": f"{tmp_path}/states/*/terraform.tfstate",
    }


def run(environment: dict[str, str], *args: str) -> "subprocess.CompletedProcess[str]":
    command = args if args and args[0].startswith("ansible") else (str(SCRIPT), *args)
    return subprocess.run(
        command, cwd=ROOT / "ansible", env=environment, capture_output=True, text=True, check=True
    )


def listed(environment: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(environment, "--list").stdout)
    return found


def hosts(environment: dict[str, str]) -> dict[str, str]:
    hostvars = listed(environment)["_meta"]["hostvars"]
    return {name: about["ansible_host"] for name, about in hostvars.items()}


def test_ansible_lists_the_machines_of_states_in_the_groups_of_version_1_0(tmp_path, environment):
    write(
        tmp_path / "states/ephemeral/terraform.tfstate",
        telmate("desktop-abc123", default_ipv4_address="10.0.0.150"),
    )
    write(
        tmp_path / "states/production/terraform.tfstate", bpg("dc1", ipv4_addresses=[["10.0.0.2"]])
    )

    graph = json.loads(run(environment, "ansible-inventory", "--list").stdout)
    desktops = run(environment, "ansible", "ephemeral_desktop", "--list-hosts").stdout

    assert graph["ephemeral_desktop"]["hosts"] == ["desktop-abc123"]
    assert graph["domain_vms"]["hosts"] == ["dc1"]
    assert graph["_meta"]["hostvars"]["desktop-abc123"]["ansible_host"] == "10.0.0.150"
    assert desktops.split() == ["hosts", "(1):", "desktop-abc123"]


@pytest.mark.parametrize(
    "machine, address",
    [
        (telmate("one", default_ipv4_address="10.0.0.150", ssh_host="10.0.0.9"), "10.0.0.150"),
        (telmate("one", ssh_host="10.0.0.151"), "10.0.0.151"),
        (telmate("one", ipconfig0="ip=10.0.0.152/24,gw=10.0.0.1"), "10.0.0.152"),
        (bpg("one", ipv4_addresses=[["127.0.0.1"], ["10.0.0.153"]]), "10.0.0.153"),
        (bpg("one", ipv4_addresses=[["127.0.0.1"], ["169.254.3.4", "10.0.0.154"]]), "10.0.0.154"),
        (
            bpg(
                "one",
                ipv4_addresses=[["127.0.0.1"], ["172.17.0.1"], ["10.0.0.155"]],
                mac_addresses=["00:00:00:00:00:00", "02:42:aa:aa:aa:aa", "bc:24:11:fa:22:c2"],
            ),
            "10.0.0.155",
        ),
        (
            bpg(
                "one",
                initialization=[{"ip_config": [{"ipv4": [{"address": "10.0.0.156/24"}]}]}],
            ),
            "10.0.0.156",
        ),
    ],
    ids=["agent", "ssh_host", "static", "lo-first", "link-local", "docker", "bpg-static"],
)
def test_the_address_is_found_where_each_provider_keeps_it(tmp_path, environment, machine, address):
    write(tmp_path / "states/ephemeral/terraform.tfstate", machine)

    assert hosts(environment) == {"one": address}


@pytest.mark.parametrize(
    "machine",
    [
        telmate("late"),
        bpg("late", ipv4_addresses=[["127.0.0.1"], []]),
        bpg("late", initialization=[{"ip_config": [{"ipv4": [{"address": "dhcp"}]}]}]),
        resource("proxmox_vm_qemu", {}),
        {**telmate("late", ssh_host="10.0.0.9"), "mode": "data"},
        {"mode": "managed", "type": "random_pet", "name": "x", "instances": []},
    ],
)
def test_a_machine_without_an_address_is_left_out_and_is_no_error(tmp_path, environment, machine):
    write(tmp_path / "states/ephemeral/terraform.tfstate", machine)

    done = run(environment, "--list")

    assert json.loads(done.stdout)["_meta"]["hostvars"] == {}
    assert "terraform.tfstate" not in done.stderr


def test_a_machine_that_terraform_only_has_still_to_destroy_is_left_out(tmp_path, environment):
    machine = telmate("desktop-abc123", ssh_host="10.0.0.150")
    machine["instances"].append(
        {"deposed": "4f1a", "attributes": {"name": "old", "ssh_host": "10.0.0.3"}}
    )
    write(tmp_path / "states/ephemeral/terraform.tfstate", machine)

    assert hosts(environment) == {"desktop-abc123": "10.0.0.150"}


@pytest.mark.parametrize(
    "content, why",
    [
        ('{"version": 4, "resources": [', "line 1"),
        ("[]", "no Terraform state"),
        ('{"version": 3, "modules": []}', "version 3"),
        ('{"encrypted_data": "…", "encryption_version": "v0"}', "encrypted"),
        ('{"version": 4, "resources": 5}', "int"),
        (f'{{"version": 4, "{SECRET}', "line 1"),
    ],
)
def test_a_broken_state_is_named_and_hides_no_other(tmp_path, environment, content, why):
    write(
        tmp_path / "states/ephemeral/terraform.tfstate",
        telmate("desktop-abc123", ssh_host="10.0.0.150"),
    )
    broken = tmp_path / "states/broken/terraform.tfstate"
    broken.parent.mkdir()
    broken.write_text(content)

    done = run(environment, "--list")

    assert list(json.loads(done.stdout)["_meta"]["hostvars"]) == ["desktop-abc123"]
    line = next(line for line in done.stderr.splitlines() if str(broken) in line)
    assert why in line and SECRET not in done.stderr
    assert str(broken) in run(environment, "ansible", "all", "--list-hosts").stderr


def test_no_secret_of_a_state_comes_out(tmp_path, environment):
    write(
        tmp_path / "states/ephemeral/terraform.tfstate",
        telmate("a", ssh_host="10.0.0.150"),
        bpg("b", ipv4_addresses=[["10.0.0.151"]]),
    )

    done = run(environment, "--list")
    one = json.loads(run(environment, "--host", "a").stdout)

    assert SECRET not in done.stdout + done.stderr
    assert one == {"ansible_host": "10.0.0.150", "proxmox_node": "pve1", "proxmox_vmid": 400}
    assert SECRET not in (tmp_path / "home/.cache/daas/inventory.json").read_text()


def test_an_unknown_host_has_no_variables(environment):
    assert json.loads(run(environment, "--host", "nobody").stdout) == {}


def test_files_globs_folders_and_workspaces_can_be_named(tmp_path, environment):
    write(tmp_path / "one.tfstate", telmate("a", ssh_host="10.0.0.1"))
    write(tmp_path / "more/x-2.tfstate", telmate("b", ssh_host="10.0.0.2"))
    write(tmp_path / "module/terraform.tfstate", telmate("c", ssh_host="10.0.0.3"))
    workspaces = tmp_path / "module/terraform.tfstate.d"
    write(workspaces / "blue/terraform.tfstate", telmate("d", ssh_host="10.0.0.4"))
    write(workspaces / "green/terraform.tfstate", telmate("e", ssh_host="10.0.0.5"))
    named = f"{tmp_path}/one.tfstate, {tmp_path}/more/x-*.tfstate,{tmp_path}/module"

    found = hosts({**environment, "DAAS_INVENTORY_STATES": named})

    assert sorted(found) == ["a", "b", "c", "d", "e"]


def test_a_named_file_that_is_missing_is_said(tmp_path, environment):
    missing = f"{tmp_path}/nowhere.tfstate"

    done = run({**environment, "DAAS_INVENTORY_STATES": missing}, "--list")

    assert f"{missing} is left out: there is no such file" in done.stderr


def test_the_service_s_own_settings_name_the_states(tmp_path, environment):
    write(tmp_path / "mine.tfstate", telmate("a", ssh_host="10.0.0.1"))
    settings = tmp_path / "daas.env"
    settings.write_text(f'# ours\nDAAS_INVENTORY_STATES="{tmp_path}/mine.tfstate"\n')
    del environment["DAAS_INVENTORY_STATES"]

    assert hosts({**environment, "DAAS_ENV_FILE": str(settings)}) == {"a": "10.0.0.1"}


def test_without_daas_the_states_are_listed_and_one_line_says_so(tmp_path, environment):
    """A plain python3 in a copy of ansible/, as version 1.0 had it."""
    copy = tmp_path / "ansible/inventory/inventory.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(SCRIPT.read_bytes())
    write(tmp_path / "states/ephemeral/terraform.tfstate", telmate("a", ssh_host="10.0.0.1"))
    copy.chmod(0o755)
    plain = {"PATH": "/usr/bin:/bin", "HOME": environment["HOME"]}
    states = {"DAAS_INVENTORY_STATES": environment["DAAS_INVENTORY_STATES"]}

    done = subprocess.run(
        [copy, "--list"], env={**plain, **states}, capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout)["ephemeral_desktop"]["hosts"] == ["a"]
    assert done.stderr.count("\n") == 1 and "our database is left out" in done.stderr


def test_a_state_is_read_again_only_when_its_file_changed(tmp_path, environment):
    path = write(tmp_path / "states/ephemeral/terraform.tfstate", telmate("a", ssh_host="10.0.0.1"))
    before = hosts(environment)
    size = path.stat().st_size
    path.write_text(path.read_text().replace("10.0.0.1", "10.0.0.2"))
    os.utime(path, (LONG_AGO, LONG_AGO))

    assert path.stat().st_size == size
    assert hosts(environment) == before  # so it was the cache that answered
    os.utime(path, (LONG_AGO, LONG_AGO + 1))
    assert hosts(environment) == {"a": "10.0.0.2"}


def test_a_state_that_was_written_just_now_is_not_cached(tmp_path, environment):
    path = write(tmp_path / "states/ephemeral/terraform.tfstate", telmate("a", ssh_host="10.0.0.1"))
    os.utime(path)

    assert hosts(environment) == {"a": "10.0.0.1"}
    assert not (tmp_path / "home/.cache/daas/inventory.json").exists()


def test_the_cache_is_its_owner_s_alone_and_another_s_is_not_believed(tmp_path, environment):
    write(tmp_path / "states/ephemeral/terraform.tfstate", telmate("a", ssh_host="10.0.0.1"))
    cache = tmp_path / "home/.cache/daas/inventory.json"

    hosts(environment)
    mode = cache.stat().st_mode & 0o777
    cache.write_text(cache.read_text().replace("10.0.0.1", "10.6.6.6"))
    believed = hosts(environment)
    cache.chmod(0o666)

    assert mode == 0o600
    assert believed == {"a": "10.6.6.6"}  # the control: this is what a foreign file could say
    assert hosts(environment) == {"a": "10.0.0.1"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 1, "states": 5}', '{"format": 1, "states": {"PATH": 1}}', "\0"],
)
def test_a_broken_cache_is_as_good_as_none(tmp_path, environment, content):
    path = write(tmp_path / "states/ephemeral/terraform.tfstate", telmate("a", ssh_host="10.0.0.1"))
    cache = tmp_path / "home/.cache/daas/inventory.json"
    cache.parent.mkdir(parents=True)
    cache.write_text(content.replace("PATH", str(path)))
    cache.chmod(0o600)

    assert hosts(environment) == {"a": "10.0.0.1"}
    assert "10.0.0.1" in cache.read_text()


def test_many_at_once_all_see_everything(tmp_path, environment):
    for number in range(1, 9):
        path = tmp_path / f"states/ephemeral-{number}/terraform.tfstate"
        write(path, telmate(f"desktop-{number}", ssh_host=f"10.0.0.{number}"))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(hosts, [environment] * 24))

    assert all(one == found[0] and len(one) == 8 for one in found)
    assert os.listdir(tmp_path / "home/.cache/daas") == ["inventory.json"]


def test_a_build_s_own_inventory_is_the_only_one_it_sees(tmp_path, environment):
    write(tmp_path / "states/ephemeral/terraform.tfstate", telmate("a", ssh_host="10.0.0.1"))
    own = tmp_path / "own.yml"
    own.write_text("ephemeral_desktop: {hosts: {builder: {}}}\n")

    args = ("ansible-playbook", "--inventory", str(own), "--list-hosts")
    done = run(environment, *args, "playbooks/deploy-desktop.yml")

    assert "builder" in done.stdout and "hosts (1)" in done.stdout
    assert "inventory:" not in done.stderr
