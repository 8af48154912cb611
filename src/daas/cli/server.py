"""`daas init`, `serve`, `web`, `worker` and `db`: what runs where the database is."""

import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from daas import asgi, installation, log, tenants, wiring
from daas.access import tokens
from daas.access.actors import Role
from daas.cli import render
from daas.cli.signals import Signals
from daas.cli.supervisor import Parent, follow
from daas.config import Settings, settings
from daas.crypto import Vault
from daas.db import Database
from daas.errors import ConfigError, NotReady
from daas.jobs import bell
from daas.jobs.lanes import Lane
from daas.worker import Worker

logger = logging.getLogger(__name__)
app = typer.Typer()
db_app = typer.Typer(name="db", help="The database's schema.", no_args_is_help=True)
app.add_typer(db_app)


@app.command()
def init(
    new_token: Annotated[
        bool, typer.Option(help="Make another operator's token (the first one is lost).")
    ] = False,
    as_json: render.AsJson = False,
) -> None:
    """Make secrets, database and the first API token; again changes nothing."""
    chosen = settings()
    made = install(chosen, new_token)
    file = token_file(chosen)
    if as_json:
        known = {"instance": made.instance, "data_dir": str(chosen.data_dir)}
        render.as_json({**known, "token": made.token, "token_file": str(file)})
        return
    if made.token:
        render.say(f"Installed in {chosen.data_dir}. The operator's token, shown this once:\n")
        print(made.token)
        render.say(f"\n`daas` finds it in {file} (mode 600). Next: daas serve")
    else:
        render.say(
            f"{chosen.data_dir} is installed already; nothing was changed. Next: daas serve\n"
            "If the token is lost: daas init --new-token"
        )


def install(chosen: Settings, new_token: bool = False) -> installation.Made:
    """`installation.init`, and its token in a file that only we can read."""
    try:
        made = installation.init(chosen)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or chosen.data_dir} cannot be written ({error.strerror}): run it as "
            "root, or set DAAS_DATA_DIR."
        ) from None
    if new_token and not made.token:
        made = installation.Made(made.instance, _another_token(chosen))
    if made.token:
        _write_private(token_file(chosen), made.token)
        _write_private(header_file(chosen), f"Authorization: Bearer {made.token}")
    return made


def token_file(chosen: Settings) -> Path:
    return chosen.secrets_dir / "token"


def header_file(chosen: Settings) -> Path:
    """For `curl -H @FILE`: with `$(cat …)` the token would be seen in the list of processes."""
    return chosen.secrets_dir / "curl-header"


@app.command()
def serve() -> None:
    """Run web and worker on this machine, and start again what dies."""
    chosen = settings()
    log.setup(chosen.log_format, chosen.log_level)
    check(chosen)
    # The supervisor needs none of what the check has loaded; it keeps our process id.
    os.execv(sys.executable, [sys.executable, "-m", "daas.cli", "supervise"])


@app.command()
def web(parent: Parent = 0) -> None:
    """Run the API alone (`daas serve` runs all)."""
    follow(parent)
    asgi.run(settings())


@app.command()
def worker(parent: Parent = 0) -> None:
    """Run a worker alone (`daas serve` runs all)."""
    follow(parent)
    chosen = settings()
    log.setup(chosen.log_format, chosen.log_level)
    run_worker(chosen, Signals(signal.SIGTERM, signal.SIGINT))


@db_app.command()
def upgrade() -> None:
    """Bring the schema to what this version needs."""
    database = Database(settings().database, threads=1)
    before, needed = database.revision()
    database.migrate()
    database.dispose()
    change = f"was {before or 'empty'}, is {needed}" if before != needed else f"is {needed}"
    render.say(f"The schema {change}.")


@db_app.command()
def status(as_json: render.AsJson = False) -> None:
    """Show the schema's revision; exit code 1 if it is not the one this version needs."""
    database = Database(settings().database, threads=1)
    is_at, needed = database.revision()
    database.dispose()
    if as_json:
        render.as_json({"revision": is_at, "needed": needed, "is_current": is_at == needed})
    elif is_at == needed:
        render.say(f"The schema is at revision {is_at}, as this version needs it.")
    else:
        render.say(f"The schema is at {is_at or 'nothing'}, this version needs {needed}.")
        render.say("Run: daas db upgrade" if is_at else "Run: daas init")
    raise typer.Exit(0 if is_at == needed else 1)


def check(chosen: Settings) -> None:
    """ConfigError if the children could not run as things are."""
    try:
        database = installation.open_database(chosen, threads=1)
        try:
            installation.check_token(database, chosen)
        finally:
            database.dispose()
    except NotReady as error:  # it may come yet: the children try again and again
        logger.warning("%s", error)
    Vault(chosen.secrets_dir)
    check_port(chosen.listen, chosen.orchestrator_port)


def check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} on {host} cannot be used ({error.strerror}): stop what holds it "
                f"(see `ss -ltnp`), or choose another with ORCHESTRATOR_PORT={port + 1}."
            ) from None


def run_worker(chosen: Settings, signals: Signals) -> None:
    """Work until a signal comes; then nothing of ours is leased any more."""
    vault = Vault(chosen.secrets_dir)
    threads = sum(getattr(chosen, f"{lane}_threads") for lane in Lane) + 4
    database = installation.open_database(chosen, threads)
    rope = bell.connect(chosen.database)
    with database.transaction() as db:
        installation.prepare(db, chosen)
    tools = wiring.tools(chosen, vault)
    made = Worker(database, wiring.handlers(tools, chosen), chosen, chosen.worker_name)
    made.start()
    wiring.watch(database, tools.providers)
    logger.info("worker %s at work, provider %s", chosen.worker_name, chosen.provider)
    signals.wait()
    made.stop()
    rope.close()
    logger.info("worker %s stopped", chosen.worker_name)


def _another_token(chosen: Settings) -> str:
    database = Database(chosen.database, threads=1)
    with database.transaction() as db:
        _, text = tokens.create(db, installation.FIRST, tenants.DEFAULT, Role.OPERATOR, "system")
    database.dispose()
    return text


def _write_private(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    new.replace(path)
