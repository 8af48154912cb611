"""`daas dev`, behind `make dev`: the service on the simulated provider, started again whenever a
file of ours changes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import typer

from daas import process
from daas.cli import render, server
from daas.cli.signals import Signals
from daas.config import ROOT, settings

LOOK_S = 1.0
STOP_S = 8.0
PACKAGE = Path(__file__).parents[1]
DEFAULTS = {
    "DAAS_DATA_DIR": str(ROOT / "var/dev"),
    "DAAS_PROVIDER": "simulated",
    "DAAS_LOG_FORMAT": "text",
    "FLASK_ENV": "development",
}
app = typer.Typer()


@app.command(hidden=True)
def dev() -> None:
    """Serve on the simulated provider, and again after each change of a file."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    chosen = settings()
    server.install(chosen)
    server.check_port(chosen.listen, chosen.orchestrator_port)
    url = f"http://{chosen.listen}:{chosen.orchestrator_port}"
    render.say(f"export DAAS_URL={url} DAAS_TOKEN_FILE={server.token_file(chosen)}")
    signals = Signals(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    while _until_changed(signals):
        render.say("a file changed; starting again")


def _until_changed(signals: Signals) -> bool:
    """Serve until a file changes; False when we are to stop."""
    seen = stamp()
    child = process.start([sys.executable, "-m", "daas.cli", "serve"])
    try:
        while stamp() == seen:
            if signals.wait(LOOK_S) & {signal.SIGINT, signal.SIGTERM}:
                return False
        return True
    finally:
        _stop(child)


def stamp() -> tuple[float, int]:
    """Changes when a file of the package does, or comes, or goes."""
    times = [path.stat().st_mtime for path in PACKAGE.rglob("*.py")]
    return max(times), len(times)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
