"""The product as a whole on the simulated provider: its command line and its service."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

from daas.cli import main
from daas.config import settings
from support.waiting import until

DAAS = [sys.executable, "-m", "daas.cli"]
# These leave nothing behind in a process; one of their own costs a second of CPU each time.
AT_ONCE = ("session", "template", "node", "capacity", "token", "why", "doctor", "init", "db")


@dataclass
class Product:
    data_dir: Path
    port: int
    home: Path
    boot_s: float = 1.0  # long enough to press Ctrl-C
    database_url: str = ""  # SQLite in data_dir
    service: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith(("DAAS_", "PYTHON"))}
        return {
            **others,
            # Each command is a process: compiled once they start in half the time.
            "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / f"daas-pyc-{os.getuid()}"),
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "LANG": "C.UTF-8",
            "DAAS_DATA_DIR": str(self.data_dir),
            "DAAS_DATABASE_URL": self.database_url,
            "DAAS_PROVIDER": "simulated",
            "DAAS_SIMULATED_BOOT_S": str(self.boot_s),
            "DAAS_ENV_FILE": "/nonexistent",
            "ORCHESTRATOR_PORT": str(self.port),
        }

    def run(self, *args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """`daas ARGS`, to its end."""
        env = {**self.environment, **environment}
        if args and args[0] in AT_ONCE:
            return _run_here(args, env)
        return subprocess.run([*DAAS, *args], env=env, capture_output=True, text=True, timeout=60)

    def json(self, *args: str, **environment: str) -> Any:
        """What `daas ARGS --json` says; its stdout is nothing but that."""
        done = self.run(*args, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def spawn(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*DAAS, *args],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def serve(self) -> None:
        """It answers, and its worker is at work."""
        with (self.data_dir / "serve.log").open("ab") as log:
            self.service = subprocess.Popen(
                [*DAAS, "serve"], env=self.environment, stdout=log, stderr=log
            )
        until(self.is_up, 40)

    def is_up(self) -> bool:
        try:
            found = httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False).json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(part["ok"] for part in found["parts"])

    def stop(self) -> float:
        """Return how long it took to end."""
        began = time.monotonic()
        if self.service:
            self.service.send_signal(signal.SIGTERM)
            self.service.wait(20)
            self.service = None
        return time.monotonic() - began

    def create(self) -> dict[str, Any]:
        made: dict[str, Any] = self.json("session", "create", "--owner", "ada")
        return made


def _run_here(args: tuple[str, ...], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    out, err = io.StringIO(), io.StringIO()
    settings.cache_clear()
    with (
        patch.dict(os.environ, env, clear=True),
        patch.object(sys, "argv", ["daas", *args]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    settings.cache_clear()
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
