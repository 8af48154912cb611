"""Which module brings which command. Only the one that was asked for is imported: listing
sessions must not wait until a database library is loaded."""

import importlib
import os
import sys
from collections.abc import Iterable, Mapping

import typer

from daas.cli import render
from daas.errors import ConfigError, DaasError

MODULES = {  # first word of the command line: the module whose `app` has it
    "session": "session",
    "template": "template",
    "token": "token",
    "node": "node",
    "capacity": "capacity",
    "why": "why",
    "doctor": "doctor",
    "init": "server",
    "serve": "server",
    "web": "server",
    "worker": "server",
    "db": "server",
    "sweep": "sweep",
    "supervise": "supervisor",
    "demo": "demo",
    "dev": "dev",
}
FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main() -> None:
    """Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 130 Ctrl-C."""
    app = assembled(modules_for(sys.argv[1:], os.environ))
    try:
        app(prog_name="daas")
    except ConfigError as error:
        render.complain(str(error))
        sys.exit(MISUSED)
    except DaasError as error:
        render.complain(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def modules_for(args: list[str], environ: Mapping[str, str]) -> list[str]:
    """The modules to import: one if the first word tells which, else all (help, completion)."""
    words = environ.get("COMP_WORDS", "").split()[1:] or args
    first = next((word for word in words if not word.startswith("-")), "")
    return [MODULES[first]] if first in MODULES else list(dict.fromkeys(MODULES.values()))


def assembled(modules: Iterable[str]) -> typer.Typer:
    """The command with what these modules bring."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # its frames would print local variables: secrets, too
        help="Desktops as a service on one's own hardware.",
    )
    app.callback()(_root)
    for name in modules:
        app.add_typer(importlib.import_module(f"daas.cli.{name}").app)
    return app


def _root() -> None:
    """Desktops as a service on one's own hardware."""
