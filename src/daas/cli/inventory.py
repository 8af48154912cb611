"""`python -m daas.cli.inventory`: our desktops as Ansible wants them, for ansible/inventory. Reads
the database only; a desktop that has no address yet is left out."""

import json
import sys
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas.config import load
from daas.errors import DaasError
from daas.installation import open_database
from daas.sessions.models import LIVE, Session

SSH_PORT = 22


def main() -> None:
    """Print {name: variables}; on failure one line on stderr, which names what to do."""
    try:
        database = open_database(load(), threads=1)
        with database.reading() as db:
            found = hosts(db)
        database.dispose()
    except DaasError as error:
        sys.exit(str(error))
    json.dump(found, sys.stdout)


def hosts(db: Db) -> dict[str, dict[str, Any]]:
    """Return what Ansible is to know of each desktop that can be reached."""
    rows = select(Session.name, Session.endpoints, Session.node, Session.template).where(LIVE)
    found = {}
    for name, endpoints, node, template in db.execute(rows.order_by(Session.id)):
        if endpoints and endpoints.get("ssh"):
            about = {"daas_node": node, "daas_template": template}
            found[name] = {**_reached_at(endpoints["ssh"]), **about}
    return found


def _reached_at(endpoint: str) -> dict[str, Any]:
    host, _, port = endpoint.rpartition(":")
    other = {} if int(port) == SSH_PORT else {"ansible_port": int(port)}
    return {"ansible_host": host, **other}


if __name__ == "__main__":
    main()
