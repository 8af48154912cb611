"""The dynamic inventory knows the desktops of our database, on both kinds."""

import json
import os
import subprocess
from pathlib import Path

from daas.cli import inventory

SCRIPT = Path(__file__).resolve().parents[2] / "ansible/inventory/inventory.yaml"


def test_ready_desktops_are_listed_and_others_left_out(world):
    ready, gone, waiting = world.ask(), world.ask(), None
    world.drain()
    world.delete(gone)
    world.drain()
    waiting = world.ask()

    with world.database.reading() as db:
        found = inventory.hosts(db)

    assert list(found) == [ready] and waiting not in found
    assert found[ready]["ansible_host"] == world.load(ready).endpoints["ssh"].rpartition(":")[0]
    assert set(found[ready]) <= {"ansible_host", "ansible_port", "daas_node", "daas_template"}


def test_the_script_puts_them_into_the_group_of_desktops(world, tmp_path):
    name = world.ask()
    world.drain()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DAAS_ENV_FILE": "/nonexistent",
        "DAAS_DATA_DIR": str(world.data_dir),
        "DAAS_DATABASE_URL": world.database.url,
        "DAAS_INVENTORY_STATES": str(tmp_path / "none/*.tfstate"),
    }

    done = subprocess.run(
        [SCRIPT, "--list"], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    assert json.loads(done.stdout)["ephemeral_desktop"]["hosts"] == [name]
    assert world.vault.instance not in done.stdout and "password" not in done.stdout
