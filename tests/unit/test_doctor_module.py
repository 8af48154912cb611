"""The checks of Terraform and the desktop module, each provoked."""

import json
from pathlib import Path

import pytest

from daas.cli.doctor import module
from daas.errors import CommandFailed, ConfigError

ROOT = Path(__file__).resolve().parents[2]
OURS = [ROOT / "terraform/ephemeral", ROOT / "terraform/ephemeral-bpg"]


def says(version):
    return lambda args: json.dumps({"terraform_version": version})


def copy(folder, without=""):
    for file in OURS[1].glob("*.tf"):
        text = file.read_text()
        (folder / file.name).write_text(text.replace(f'variable "{without}"', 'variable "other"'))
    return folder


# ---- the program


@pytest.mark.parametrize("version", ["1.5.7", "1.11.4", "1.10.6", "2.0.0-beta1"])
def test_terraform_and_opentofu_are_known_by_their_version(version):
    found = module.program("terraform", "/usr/bin/terraform", says(version))

    assert found.result == "ok" and version in found.message


def test_a_program_that_warns_of_something_first_is_heard_out():
    """Catches: a TF_CLI_CONFIG_FILE that does not exist."""
    warned = "Warning: Unable to open CLI configuration file\n" + says("1.11.4")([])

    assert module.program("terraform", "/usr/bin/terraform", lambda args: warned).result == "ok"


def test_a_program_that_is_not_there():
    found = module.program("tofu", None, says("1.10.6"))

    assert found.result == "fail" and "tofu" in found.message and "PATH" in found.message
    assert "DAAS_TERRAFORM" in found.remedy


def test_a_program_that_is_too_old():
    assert module.program("terraform", "/usr/bin/terraform", says("1.4.9")).result == "fail"


@pytest.mark.parametrize("answer", ["Terraform v1.11.4", "[]", "{}"])
def test_a_program_that_is_another_one(answer):
    found = module.program("terraform", "/usr/bin/terraform", lambda args: answer)

    assert found.result == "fail" and "is it Terraform?" in found.message


def test_a_program_that_cannot_be_run():
    def fails(args):
        raise CommandFailed(args[0], 126)

    assert module.program("terraform", "/x", fails).result == "fail"


# ---- the module


@pytest.mark.parametrize("folder", OURS, ids=lambda folder: folder.name)
def test_our_modules_keep_the_contract(folder):
    assert module.files(folder).result == "ok"


@pytest.mark.parametrize("name", module.NEEDED)
def test_a_variable_that_is_needed_and_missing_is_named(tmp_path, name):
    found = module.files(copy(tmp_path, name))

    assert found.result == "fail" and name in found.message


def test_a_setting_that_the_module_does_not_know_is_warned_of(tmp_path):
    found = module.files(copy(tmp_path, "vlan"))

    assert found.result == "warn" and "vlan" in found.message


def test_a_folder_that_is_missing_and_one_that_is_empty(tmp_path):
    empty, missing = module.files(tmp_path), module.files(tmp_path / "none")

    assert empty.result == missing.result == "fail"
    assert "TERRAFORM_DIR" in empty.message and "is not there" in missing.message


# ---- secrets beside it


@pytest.mark.parametrize("name", ["terraform.tfvars", "terraform.tfvars.json", "my.auto.tfvars"])
def test_secrets_that_others_can_read(tmp_path, name):
    file = tmp_path / name
    file.write_text('token_secret = "hunter2"\n')
    file.chmod(0o640)
    before = module.secrets(tmp_path)
    file.chmod(0o600)

    assert before.result == "fail" and f"chmod 600 {file}" in before.remedy
    assert "hunter2" not in before.message + before.remedy
    assert module.secrets(tmp_path).result == "ok"


def test_the_example_is_no_secret(tmp_path):
    (tmp_path / "terraform.tfvars.example").write_text('token_secret = "…"\n')

    assert module.secrets(tmp_path).result == "ok"


# ---- its provider


def test_a_module_that_initialises():
    assert module.provider(lambda: None, None).result == "ok"


def test_a_provider_that_cannot_be_had_names_the_mirror(tmp_path):
    def fails():
        raise CommandFailed("terraform init", 1, "")

    found = module.provider(fails, tmp_path)

    assert found.result == "fail" and str(tmp_path) in found.remedy


def test_a_mirror_that_is_not_there_and_a_module_that_is_not(tmp_path):
    def fails():
        raise ConfigError("TERRAFORM_DIR: /x is not a folder.")

    assert "no folder" in module.provider(lambda: None, tmp_path / "none").message
    assert "TERRAFORM_DIR" in module.provider(fails, None).message
