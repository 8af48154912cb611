"""A real PostgreSQL server of our own: in a temporary folder, on loopback, without fsync."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

INSTALLED = Path("/usr/lib/postgresql")
USER = "daas"
PREFIX = "daas-pg-"
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # else it analyzes in the middle of a measurement
    "max_wal_size": "4GB",
}


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    found = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str:
    """Why there can be no server here; empty if there can."""
    if binaries() is None:
        return f"no PostgreSQL server in {INSTALLED} (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and not _has_user("postgres"):
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


class Server:
    """Started by `start()`; `url(name)` is where a database of it is."""

    def __init__(self) -> None:
        found = binaries()
        assert found, missing()
        self._bin = found
        _clear_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.port = _free_port()
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")

    def init(self) -> None:
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "-N")

    def start(self) -> None:
        given = {**OPTIONS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = " ".join(f"-c {key}={value}" for key, value in given.items())
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "fast", "stop")

    def restart(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "fast", "restart")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, name: str, *args: str) -> None:
        command = [str(self._bin / name), *args]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # Not a pipe: the server that pg_ctl leaves behind would hold it open for ever.
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60
            )
            out.seek(0)
            assert done.returncode == 0, f"{name}: {out.read().decode()}"


def _clear_leftovers() -> None:
    """Servers of test runs that were killed; the folder's name says whose it was."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with suppress(OSError, ValueError, IndexError):
                pid = int((folder / "data/postmaster.pid").read_text().split()[0])
                if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGQUIT)  # at once; nobody needs its data
            shutil.rmtree(folder, ignore_errors=True)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
