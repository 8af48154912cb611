"""One machine's run: its state comes and goes, its words are read, its secrets are seen nowhere."""

import json
import threading
from pathlib import Path

import pytest

from daas import process
from daas.errors import Stopped
from daas.providers.terraform.errors import StateUnusable, TerraformFailed
from support.terraform import MODULE, NAME, SECRET, Site


@pytest.fixture
def site(terraform):
    return Site(terraform)


def test_outputs_come_back_and_the_state_is_kept(site):
    outputs = site.apply()

    assert outputs == {"vmid": 20000}
    assert sorted(site.resources()) == ["desktop", "network"]


def test_again_with_the_kept_state_changes_nothing(site):
    site.apply()
    serial = json.loads(site.state)["serial"]
    outputs = site.apply(command="exit 1")  # it would fail if it were made anew

    assert outputs == {"vmid": 20000}
    assert json.loads(site.state)["serial"] == serial


def test_what_the_state_knows_is_destroyed(site, tmp_path):
    site.apply(last_words=f"touch {tmp_path}/gone")
    site.destroy(last_words=f"touch {tmp_path}/gone")

    assert site.resources() == []
    assert (tmp_path / "gone").exists()


def test_without_a_state_nothing_is_destroyed_nor_run(site):
    site.destroy()

    assert site.state is None
    assert site.notes == []


def test_a_failed_run_keeps_the_state_of_what_it_made(site):
    with pytest.raises(TerraformFailed) as failed:
        site.apply(command="echo no room; exit 3")

    assert "network" in site.resources()
    assert [d.summary for d in failed.value.diagnostics] == ["local-exec provisioner error"]
    assert "no room" in failed.value.diagnostics[0].detail


def test_progress_is_told_in_short_notes(site):
    site.apply()

    assert "terraform: creating terraform_data.desktop" in site.notes
    assert "terraform: created terraform_data.desktop in 0 s" in site.notes


def test_a_stopped_run_keeps_the_state_and_ends_soon(site):
    flag = threading.Event()
    token = process.stop.set(flag)
    threading.Timer(1.5, flag.set).start()
    with pytest.raises(Stopped):
        site.apply(command="sleep 60")
    process.stop.reset(token)

    assert "network" in site.resources()


def test_a_damaged_state_has_an_error_of_its_own_and_nothing_is_run(site):
    site.state = '{"version": 4, "ser'
    with pytest.raises(StateUnusable):
        site.apply()

    assert site.notes == []


def test_a_run_leaves_no_directory(site, tmp_path):
    site.apply()
    with pytest.raises(TerraformFailed):
        site.apply("desktop-bbbbbb", vmid="x")

    assert list((tmp_path / "work/runs").iterdir()) == []


def test_what_a_killed_run_left_can_be_forgotten_whatever_its_number(site, tmp_path):
    """Catches: a state that stays on the host when the session it was about is gone."""
    runs = tmp_path / "work/runs"
    for name in ("desktop-aaaaaa-20000", "desktop-aaaaaa-20001", "desktop-bbbbbb-20000"):
        (runs / name).mkdir(parents=True)
        (runs / name / "terraform.tfstate").write_text("{}")
        (runs / f"{name}.lock").touch()

    site.terraform.forget("desktop-aaaaaa-")

    assert sorted(p.name for p in runs.iterdir()) == [
        "desktop-bbbbbb-20000",
        "desktop-bbbbbb-20000.lock",
    ]


def test_secrets_are_in_no_note_error_or_file(site, tmp_path):
    leak = f'echo "$TF_VAR_token_secret"; cp -r . {tmp_path}/copy; exit 1'
    with pytest.raises(TerraformFailed) as failed:
        site.apply(command=leak)

    told = [*site.notes, str(failed.value), failed.value.tail, repr(failed.value.diagnostics)]
    files = [p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()]
    assert "**********" in failed.value.tail
    assert not [text for text in [*told, *files, site.state or ""] if SECRET in text]
    assert Path(tmp_path / "copy/daas.auto.tfvars.json").exists()


TFVARS = """
token_secret = "of-the-file-1c9b7b1e"
last_words   = <<EOT
true
EOT
"""


@pytest.fixture
def v1(module):
    """A module with the secrets beside it, as version 1.0 had them."""
    (module / "main.tf").write_text(
        MODULE + 'output "secret_length" { value = nonsensitive(length(var.token_secret)) }'
    )
    (module / "terraform.tfvars").write_text(TFVARS)
    (module / "terraform.tfvars").chmod(0o600)


def test_values_beside_the_module_are_used_and_copied_nowhere(site, v1, tmp_path):
    copy = f"cp -r {tmp_path}/work {tmp_path}/copy"
    variables = {"vmid": 20000, "command": copy}
    outputs = site.terraform.apply(NAME, variables, {}, None, site.keep, site.notes.append)

    files = [p.read_text(errors="replace") for p in (tmp_path / "copy").rglob("*") if p.is_file()]
    assert outputs["secret_length"] == len("of-the-file-1c9b7b1e")
    assert not [text for text in [*files, *site.notes, site.state] if "1c9b7b1e" in text]


def test_the_environment_wins_over_values_beside_the_module(site, v1, monkeypatch):
    monkeypatch.setenv("TF_VAR_token_secret", "of-the-service")
    ours = site.terraform.apply(NAME, {"vmid": 1}, {}, None, site.keep, site.notes.append)
    given = site.terraform.apply(
        NAME, {"vmid": 1}, {"token_secret": "given"}, site.state, site.keep, site.notes.append
    )

    assert ours["secret_length"] == len("of-the-service")
    assert given["secret_length"] == len("given")
