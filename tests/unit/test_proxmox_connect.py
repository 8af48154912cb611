"""From settings to a provider: what is missing is named, and the environment wins."""

import logging
from pathlib import Path

import pytest

from daas.config import Settings, load
from daas.errors import ConfigError
from daas.providers.proxmox import connect
from daas.providers.proxmox.client import Client

URL, TOKEN, SECRET = "https://pve1:8006", "daas@pve!orchestrator", "a-secret-of-ada"


def settings(tmp_path: Path, **more: str) -> Settings:
    given = {"PROXMOX_URL": URL, "DAAS_PROXMOX_TOKEN_ID": TOKEN, "TERRAFORM_DIR": str(tmp_path)}
    return load({**given, "DAAS_PROXMOX_TOKEN_SECRET": SECRET, **more})


def tfvars(folder: Path, mode: int = 0o600) -> None:
    file = folder / "terraform.tfvars"
    file.write_text('token_id = "old@pam!v1"\ntoken_secret = "kept"\nssh_key = "ssh-ed25519 A"\n')
    file.chmod(mode)


def test_any_of_several_addresses_will_do(tmp_path: Path) -> None:
    chosen = settings(tmp_path, PROXMOX_URL="https://pve1:8006/api2/json, https://pve2/ ,")

    assert connect.access(chosen).urls == ("https://pve1:8006", "https://pve2")


@pytest.mark.parametrize("bad", ["", " , ", "http://pve1:8006", "pve1:8006", "https://"])
def test_an_address_that_is_none_is_named(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ConfigError, match="PROXMOX_URL"):
        connect.access(settings(tmp_path, PROXMOX_URL=bad))


def test_the_token_of_version_1_is_read_from_its_file(tmp_path: Path) -> None:
    tfvars(tmp_path)
    given = load({"PROXMOX_URL": URL, "TERRAFORM_DIR": str(tmp_path)})

    found = connect.access(given)

    assert (found.token_id, found.token_secret) == ("old@pam!v1", "kept")


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    tfvars(tmp_path, 0o644)

    with pytest.raises(ConfigError, match="chmod 600"):
        connect.access(load({"PROXMOX_URL": URL, "TERRAFORM_DIR": str(tmp_path)}))


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tfvars(tmp_path)
    monkeypatch.setenv("TF_VAR_token_id", "new@pve!v2")
    monkeypatch.setenv("TF_VAR_token_secret", "newer")
    by_terraform = connect.access(load({"PROXMOX_URL": URL, "TERRAFORM_DIR": str(tmp_path)}))
    by_ours = connect.access(settings(tmp_path))

    assert (by_terraform.token_id, by_terraform.token_secret) == ("new@pve!v2", "newer")
    assert (by_ours.token_id, by_ours.token_secret) == (TOKEN, SECRET)


@pytest.mark.parametrize(
    ("unset", "named"),
    [
        ("DAAS_PROXMOX_TOKEN_ID", "DAAS_PROXMOX_TOKEN_ID is not set"),
        ("DAAS_PROXMOX_TOKEN_SECRET", "DAAS_PROXMOX_TOKEN_SECRET is not set"),
    ],
)
def test_a_missing_token_says_where_to_write_one(tmp_path: Path, unset: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        connect.access(settings(tmp_path, **{unset: ""}))

    assert "terraform.tfvars" in str(refused.value) and "pveum" in str(refused.value)


@pytest.mark.parametrize("bad", ["root@pam", "root!x", "orchestrator", "root@pam!"])
def test_a_token_id_that_is_none_is_named(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ConfigError, match="USER@REALM!NAME"):
        Client(connect.access(settings(tmp_path, DAAS_PROXMOX_TOKEN_ID=bad)))


def test_addresses_need_a_gateway_with_its_prefix(tmp_path: Path) -> None:
    given = {"DAAS_PROXMOX_ADDRESSES": "10.0.0.50-10.0.0.60"}

    with pytest.raises(ConfigError, match="DAAS_PROXMOX_GATEWAY is not set"):
        connect.place(settings(tmp_path, **given))
    with pytest.raises(ConfigError, match="no gateway with its prefix"):
        connect.place(settings(tmp_path, **given, DAAS_PROXMOX_GATEWAY="10.0.0.1"))
    found = connect.place(settings(tmp_path, **given, DAAS_PROXMOX_GATEWAY="10.0.0.1/24"))
    assert found.addresses == ("10.0.0.50", "10.0.0.58") and found.gateway == "10.0.0.1/24"
    assert found.build_addresses == ("10.0.0.59", "10.0.0.60")


def test_a_missing_authority_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DAAS_PROXMOX_CA_FILE"):
        connect.access(settings(tmp_path, DAAS_PROXMOX_CA_FILE=str(tmp_path / "gone.pem")))


def test_insecure_is_said_at_start_and_only_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Client(connect.access(settings(tmp_path)))
        assert caplog.text == ""
        Client(connect.access(settings(tmp_path, DAAS_PROXMOX_TLS_INSECURE="true")))

    assert "DAAS_PROXMOX_TLS_INSECURE" in caplog.text and SECRET not in caplog.text


def test_the_secret_is_in_no_text_of_ours(tmp_path: Path) -> None:
    assert SECRET not in repr(connect.access(settings(tmp_path)))


def test_request_bodies_stay_out_of_the_log_whatever_its_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """proxmoxer writes them, secrets included, as INFO."""
    with caplog.at_level(logging.DEBUG):
        for name in ("proxmoxer.core", "proxmoxer.backends.https"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO)
