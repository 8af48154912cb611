"""What version 1.0 had in terraform.tfvars is read as Terraform reads it."""

import pytest

from daas.errors import ConfigError
from daas.providers.terraform import tfvars

TEXT = r"""
# of version 1.0
token_id     = "root@pam!terraform" // a comment
token_secret = "a \"quoted\" # secret" # and another
ssh_key      = <<EOT
ssh-ed25519 AAAA ada
ssh-rsa BBBB ben
EOT
cores = 4
tags  = [
  "one", # it goes on
  "t]wo",
]
vlan  = null
/* a block
   vmid = 5
*/
full_clone=true
"""


@pytest.fixture
def module(tmp_path):
    file = tmp_path / "terraform.tfvars"
    file.write_text(TEXT)
    file.chmod(0o600)
    return tmp_path


def test_texts_are_bare_and_all_else_is_as_terraform_writes_it(module):
    values = tfvars.read(module)

    assert values["token_id"] == "root@pam!terraform"
    assert values["token_secret"] == 'a "quoted" # secret'
    assert values["ssh_key"] == "ssh-ed25519 AAAA ada\nssh-rsa BBBB ben\n"
    assert (values["cores"], values["full_clone"]) == ("4", "true")
    assert values["tags"].split() == ["[", '"one",', '"t]wo",', "]"]


def test_what_is_null_or_commented_out_is_not_there(module):
    assert tfvars.read(module).keys().isdisjoint({"vlan", "vmid"})


def test_a_file_that_others_may_read_is_refused_with_the_command_that_helps(module):
    (module / "terraform.tfvars").chmod(0o640)
    with pytest.raises(ConfigError, match=r"chmod 600 .*/terraform\.tfvars"):
        tfvars.read(module)


def test_a_later_file_wins(module):
    for name, text in (("b.auto.tfvars.json", '{"cores": 8}'), ("a.auto.tfvars", "cores = 6")):
        (module / name).write_text(text)
        (module / name).chmod(0o600)

    assert tfvars.read(module)["cores"] == "8"


def test_a_module_without_such_a_file_has_no_values(tmp_path):
    assert tfvars.read(tmp_path) == {}
