"""`daas sweep`: look for machines nobody wants now; and vouch for a restored database."""

from typing import Annotated

import typer

from daas import installation
from daas.cli import render
from daas.config import settings
from daas.crypto import Vault
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.sessions import sweep as sweeps

app = typer.Typer()


@app.command()
def sweep(
    confirm: Annotated[
        bool,
        typer.Option(
            help="This database, copied or restored, is the one that counts: machines that it "
            "does not want are destroyed."
        ),
    ] = False,
) -> None:
    """Look for machines nobody wants, now instead of in five minutes."""
    chosen = settings()
    database = installation.open_database(chosen, threads=1)
    with database.transaction() as db:
        if confirm:
            sweeps.confirm(db, Vault(chosen.secrets_dir).instance)
        queue.wake(db, "sweep", chosen.provider, Lane.BULK, Priority.PERSON)
    database.dispose()
    render.say("The worker looks now; what two looks five minutes apart do not want is destroyed.")
