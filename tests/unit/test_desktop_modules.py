"""Both desktop modules keep one contract, and it is written down."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TELMATE, BPG = ROOT / "terraform/ephemeral", ROOT / "terraform/ephemeral-bpg"
BLOCK = re.compile(r'^(?:variable|output) "(\w+)"', re.M)
CONTRACT = [
    "token_id",
    "token_secret",
    "ssh_key",
    "api_url",
    "tls_insecure",
    "vm_name",
    "node",
    "vmid",
    "template_vmid",
    "template_name",
    "template_node",
    "full_clone",
    "cores",
    "memory_mib",
    "disk_gib",
    "disk_format",
    "storage",
    "bridge",
    "vlan",
    "pool",
    "address",
    "gateway",
    "tags",
    "description",
    "ci_user",
]
FILES = ["main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"]


def names(file: Path) -> list[str]:
    return BLOCK.findall(file.read_text())


@pytest.mark.parametrize("module", [TELMATE, BPG], ids=lambda module: module.name)
@pytest.mark.parametrize(
    "file", [*FILES, "terraform.tfvars.example", "backend.tf.example"], ids=str
)
def test_a_module_has_the_files_that_an_administrator_looks_for(module, file):
    assert (module / file).is_file()


def test_variables_are_the_same_with_types_defaults_and_words():
    assert (TELMATE / "variables.tf").read_text() == (BPG / "variables.tf").read_text()
    assert sorted(names(BPG / "variables.tf")) == sorted(CONTRACT)


def test_outputs_are_the_same():
    assert names(TELMATE / "outputs.tf") == names(BPG / "outputs.tf")
    assert names(BPG / "outputs.tf") == ["vmid", "name", "node", "mac_address"]


@pytest.mark.parametrize(
    "module, unused",
    [(TELMATE, ["template_node"]), (BPG, [])],  # telmate finds the template wherever it is
    ids=["telmate", "bpg"],
)
def test_every_variable_is_used(module, unused):
    main = (module / "main.tf").read_text()

    assert [name for name in CONTRACT if f"var.{name}" not in main] == unused


def test_the_contract_names_every_variable_and_output():
    text = (ROOT / "docs/reference/desktop-module.md").read_text()

    assert [n for n in [*CONTRACT, *names(BPG / "outputs.tf")] if f"| `{n}` |" not in text] == []


def test_the_secret_is_marked_as_one_and_certificates_are_verified_by_default():
    variables = (BPG / "variables.tf").read_text()
    secret = variables[variables.index('"token_secret"') :].partition("}")[0]
    insecure = variables[variables.index('"tls_insecure"') :].partition("}")[0]

    assert "sensitive   = true" in secret
    assert "default     = false" in insecure
